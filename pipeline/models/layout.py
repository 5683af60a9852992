"""Chosen sentences to paragraphs, sections and headings.

Rule 1: the order of the sentences stays; only cuts are made.
Rule 2: a heading is made of the sources' own words: a heading that stands there, or the phrases that set the
section apart from the rest of the sources (scored by tf-idf).
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby

from pipeline.models.rank import STOP, english, term, terms
from pipeline.models.sentences import Sentence, word_set, words

SECTION_SENTENCES = 5
MOST_SECTIONS = 12
PARAGRAPH_SENTENCES = 4

_CODED = re.compile(r"[_\d\[\]{}]|\b[^\W\d]\b|\b[IVXLC]+\b")  # numbering, not a subject
_LEADS = word_set("the a an his her its their my our your of this each every some")
_NOT_NAMING = ("ly", "ed", "ing", "est", "'d", "’d", "'t", "’t", "'ll", "'ve")


def sections(chosen: Sequence[Sentence], weight: Mapping[str, float]) -> list[list[Sentence]]:
    """Cut where the next sentence comes from elsewhere or has little in common; about five sentences each."""
    parts = [list(chosen)]
    wanted = min(MOST_SECTIONS, max(1, round(len(chosen) / SECTION_SENTENCES)))
    while len(parts) < wanted:
        longest = max(parts, key=len)
        if len(longest) < 4:
            break
        cut = max(range(2, len(longest) - 1), key=lambda at: _gap(longest, at, weight))
        where = parts.index(longest)
        parts[where : where + 1] = [longest[:cut], longest[cut:]]
    return parts


def paragraphs(section: Sequence[Sentence]) -> list[list[Sentence]]:
    """Cut into as few paragraphs as their length allows, at the widest jumps; another source starts a new one."""
    by_source = groupby(section, key=lambda sentence: sentence.source)
    return [part for _, whole in by_source for part in _shorter(list(whole))]


def heading(section: Sequence[Sentence], all_sentences: Sequence[Sentence], topic: str, used: set[str]) -> str:
    """A heading of at most six words that none of the `used` (folded) headings equals; adds itself to `used`."""
    for candidate in (_own_heading(section), _phrase_heading(section, all_sentences, topic, used)):
        if candidate and candidate.casefold() not in used:
            used.add(candidate.casefold())
            return candidate
    number = len(used) + 1
    used.add(f"part {number}")
    return f"Part {number}"


def _gap(part: Sequence[Sentence], at: int, weight: Mapping[str, float]) -> float:
    before, after = part[at - 1], part[at]
    if before.source != after.source:
        apart = 4.0
    else:
        apart = 1.0 if before.heading != after.heading else 0.0
        apart += math.log1p(after.paragraph - before.paragraph) / 4
    left = {one for sentence in part[max(at - 2, 0) : at] for one in terms(sentence.text)}
    right = {one for sentence in part[at : at + 2] for one in terms(sentence.text)}
    shared = sum(weight.get(one, 1.0) for one in left & right)
    total = sum(weight.get(one, 1.0) for one in left | right) or 1.0
    return apart - 2 * shared / total - abs(at / len(part) - 0.5)


def _shorter(part: list[Sentence]) -> list[list[Sentence]]:
    if len(part) <= PARAGRAPH_SENTENCES:
        return [part]
    cut = max(
        range(2, len(part) - 1),
        key=lambda at: math.log1p(part[at].paragraph - part[at - 1].paragraph) - 4 * abs(at / len(part) - 0.5),
    )
    return [*_shorter(part[:cut]), *_shorter(part[cut:])]


def _own_heading(section: Sequence[Sentence]) -> str:
    named = Counter(sentence.heading for sentence in section if sentence.heading)
    if not named:
        return ""
    name, times = named.most_common(1)[0]
    if times * 2 <= len(section) or not 1 <= len(words(name)) <= 6 or not terms(name) or _CODED.search(name):
        return ""
    return _sentence_case(name.lower()) if name.upper() == name else name


def _phrase_heading(section: Sequence[Sentence], all_sentences: Sequence[Sentence], topic: str, used: set[str]) -> str:
    spoken = {word for one in used for word in terms(one)}
    avoid = set(terms(topic)) if len(section) > 1 else set()
    here = Counter(_phrases(section))
    near = _neighbourhood(section, all_sentences)
    around = Counter(_phrases(near))
    everywhere = Counter(one for sentence in all_sentences for one in set(terms(sentence.text)))
    scores: dict[tuple[str, ...], float] = {}
    for phrase, count in here.items():
        rarity = sum(math.log(len(all_sentences) / everywhere[one]) if everywhere[one] else 0.0 for one in phrase)
        # A word that the neighbourhood never repeats is an accident, not a subject. A sentence may have been shortened
        # within a word, which the neighbourhood then does not know at all.
        near_by = max(count, around[phrase])
        score = (count - 0.5 + math.log(near_by)) * rarity / math.sqrt(len(phrase))
        score *= 1.0 if near_by > 1 else 0.4
        fresh = [one for one in phrase if one not in spoken and one not in avoid]
        scores[phrase] = score * (0.2 + 0.8 * len(fresh) / len(phrase))
    order = sorted(scores, key=lambda phrase: (-scores[phrase], phrase))
    taken: list[tuple[str, ...]] = []
    for phrase in order:
        if not any(_alike(one, other) for chosen in taken for one in phrase for other in chosen):
            taken.append(phrase)
        if len(taken) == 2:
            break
    if not taken:
        return ""
    lone = len(taken) == 2 and scores[taken[1]] < 0.4 * scores[taken[0]]
    if lone or not english(sentence.text for sentence in section):
        del taken[1:]
    forms = _forms(near)
    return _sentence_case(" and ".join(" ".join(forms.get(one, one) for one in phrase) for phrase in taken))


def _neighbourhood(section: Sequence[Sentence], all_sentences: Sequence[Sentence]) -> list[Sentence]:
    """The sentences of the sources around those of the section, theirs included."""
    wanted = {(one.source, one.index + step) for one in section for step in range(-4, 5)}
    return [sentence for sentence in all_sentences if (sentence.source, sentence.index) in wanted]


def _phrases(sentences: Sequence[Sentence]) -> list[tuple[str, ...]]:
    """One or two terms that stand as nouns do: led by a determiner, or capitalised inside a sentence."""
    found: list[tuple[str, ...]] = []
    for sentence in sentences:
        run: list[str] = []
        led = False
        for number, token in enumerate([*sentence.text.split(), "."]):
            word = token.strip("\"'“”‘’_*([)].,;:!?")
            if _names(word) and (led or run or (number and word[0].isupper())):
                run.append(term(word))
            if not _names(word) or token[-1] in ",;:.!?)":
                if run:
                    found.append(tuple(dict.fromkeys(run[-2:])))
                run = []
            led = word.lower() in _LEADS
    return found


def _names(word: str) -> bool:
    low = word.lower().replace("’", "'")
    return len(word) > 2 and word.replace("-", "").isalpha() and low not in STOP and not low.endswith(_NOT_NAMING)


def _alike(one: str, other: str) -> bool:
    return one == other or one[:5] == other[:5]


def _forms(sentences: Sequence[Sentence]) -> dict[str, str]:
    """How each term is most often written inside a sentence, where capitals mean a name."""
    written: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence in sentences:
        for number, word in enumerate(words(sentence.text)):
            form = re.sub(r"['’]s?$", "", word)
            written[term(word)][form.lower() if number == 0 or form.isupper() else form] += 1
    return {one: forms.most_common(1)[0][0] for one, forms in written.items()}


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]
