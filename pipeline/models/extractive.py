"""The offline model: it writes nothing of its own but quotes the sentences that say most about the topic.

Rule 1: every sentence it takes from a source is that source's own and is claimed; what frames them comes from the
templates and claims nothing.

Method: sentences are ranked by topic-sensitive LexRank and picked by maximal marginal relevance (`pipeline.models.rank`
names the papers), put back into the order of the sources, and cut into sections where neighbours share the fewest
words, after TextTiling (Hearst, "TextTiling: Segmenting Text into Multi-paragraph Subtopic Passages", Computational
Linguistics 23(1), 1997). `pipeline.models.layout` does the latter and finds the headings.
"""

import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from jinja2 import Environment

from pipeline.context import in_thread
from pipeline.errors import Rejected
from pipeline.models import Claim, Piece, Request
from pipeline.models.layout import heading, paragraphs, sections
from pipeline.models.rank import Ranking, english, select, terms, topic_weights
from pipeline.models.sentences import MAX_CHARS, Sentence, balanced, ended, flat, shouted, split, word_set, words
from pipeline.prompting import environment

PHRASE_WORDS = 3
MOST_CANDIDATES = 700  # the walk is quadratic; beyond this the most promising sentences alone are walked
SHARE = {"article": 0.6, "summary": 0.4, "bullets": 0.5}  # of the sources' words, so that a short text gets shorter
LEAST_WORDS = 30  # of which a source may always be quoted: so little cannot be made shorter
FRAME_FROM = 120  # below this many words an opening line would cost too much of the text; its lines are English

# A sentence that begins so leans on the one before it.
_LEANING = word_set("""
    he she it they him her his its their them this that these those such here there but and or nor so yet thus
    hence therefore wherefore however moreover then also besides otherwise nevertheless consequently accordingly
    meanwhile instead again for because well oh ah yes no why say nothing now lastly finally which who whose
    whom whereas another neither both either same latter former too
""")
_CLAUSE = word_set("as if when while after before since until though although once where in by with from on")
_TURN = re.compile(r"(?:In the mean|In another|At th(?:is|at)\b|To \w+ (?:this|these|it)\b|(?:\w+ ){2}therefore\b)")
_POINTING = re.compile(r"\b(?:fig(?:ure|s)?|above|aforesaid|following|below|hereafter)\b", re.IGNORECASE)
_SPEECH = re.compile(r"\b(?:i|i'm|i've|i'll|my|me|you|your|we|our|us)\b", re.IGNORECASE)
_CODE = re.compile(r"(?<!`)(`[^`\[\]\n]+`)(?!`)")
_SPECIAL = re.compile(r"([\\`*\[\]<>|~])")
_BLOCK_START = re.compile(r"^([#+=-]|\d+(?=[.)]))")


@dataclass(frozen=True)
class Chosen:
    """A sentence to quote; `whole` is false when only its beginning fits."""

    sentence: Sentence
    whole: bool = True


class Extractive:
    """A `TextModel` that needs no network and no weights; the same request always gives the same text.

    Several thousand words of sources take well under two seconds, in a thread of their own. Told of failures it
    keeps shorter (`text.too_long`) or to sentences that name the topic (`topic.missing`). Raises Rejected when the
    sources hold nothing that can be quoted.
    """

    async def write(self, prompt: str, request: Request) -> AsyncGenerator[Piece, None]:  # noqa: ARG002 - it cannot read
        pieces = await in_thread(lambda: list(_pieces(request)))
        for piece in pieces:
            yield piece


def escape(text: str) -> str:
    """A quotation as Markdown that shows just that; `_emphasis_` of plain-text books and `code` are kept."""
    parts = _CODE.split(text)
    parts[::2] = [_SPECIAL.sub(r"\\\1", part) for part in parts[::2]]
    return _BLOCK_START.sub(r"\\\1", "".join(parts))


def _pieces(request: Request) -> Iterator[Piece]:
    short = any(failure.code == "text.too_long" for failure in request.failures)
    budget = int(request.max_words * (0.85 if short else 1))
    sentences = [sentence for number, source in enumerate(request.sources) for sentence in split(source.text, number)]
    framed = budget >= FRAME_FROM and english(sentence.text for sentence in sentences)
    opening, closing = _frame(request) if framed else ("", "")
    budget -= len((opening + " " + closing).split())
    chosen, ranking = _choose(sentences, request, budget)
    if opening:
        yield from _phrases(opening + "\n\n")
    if request.format == "bullets":
        for one in chosen:
            yield from _quoted("- ", one, "\n", request)
    elif request.format == "summary":
        for paragraph in paragraphs([one.sentence for one in chosen]):
            yield from _paragraph(paragraph, chosen, request)
    else:
        used: set[str] = set()
        for section in sections([one.sentence for one in chosen], ranking):
            yield Piece(f"## {escape(heading(section, sentences, request.topic, used))}\n\n")
            for paragraph in paragraphs(section):
                yield from _paragraph(paragraph, chosen, request)
    if closing:
        yield from _phrases(("\n" if request.format == "bullets" else "") + closing + "\n")


def _choose(sentences: list[Sentence], request: Request, budget: int) -> tuple[list[Chosen], dict[str, float]]:
    """The sentences to quote in the order of the sources, and how telling each term is."""
    usable = [sentence for sentence in sentences if _usable(sentence)]
    strict = any(failure.code == "topic.missing" for failure in request.failures)
    if strict or sum(_length(sentence.text) for sentence in usable) < LEAST_WORDS:
        # Notes without a full stop anywhere, or a topic that is named in poor sentences only: better than nothing.
        usable = [sentence for sentence in sentences if quotable(sentence)]
    if not usable:
        raise Rejected("The sources hold no sentence that could be quoted.")
    bags = [terms(sentence.text) for sentence in usable]
    weights = topic_weights(request.topic, {one for bag in bags for one in bag})
    usable, bags = _promising(usable, bags, weights)
    ranking = Ranking(bags, weights)
    strict = strict and any(ranking.relevance)
    scores = [
        0.0 if strict and not relevant else score * _merit(sentence)
        for sentence, score, relevant in zip(usable, ranking.scores, ranking.relevance, strict=True)
    ]
    costs = [_cost(sentence, request.format) for sentence in usable]
    # Nobody wants a "summary" that is the text again.
    within = min(budget, max(int(sum(costs) * SHARE[request.format]), LEAST_WORDS, min(costs)))
    place = {(sentence.source, sentence.index): number for number, sentence in enumerate(usable)}

    def free(index: int, chosen: set[int]) -> bool:
        sentence = usable[index]
        return not _leans(sentence) or place.get((sentence.source, sentence.index - 1)) in chosen

    # Headings are not known yet; they take about this many words of the whole.
    headings = 4 * (1 + within // 130) if request.format == "article" else 0
    picked = select(ranking, scores, cost=costs.__getitem__, budget=max(within - headings, 0), free=free)
    if not picked:
        best = max(range(len(usable)), key=lambda index: (scores[index] > 0, not _leans(usable[index]), scores[index]))
        beginning = _part(usable[best], max(budget - headings - 2, 3), weights)
        return [Chosen(beginning, whole=beginning.text == usable[best].text)], ranking.idf
    if request.format == "bullets" and len(picked) > 1:
        picked = [index for index in picked if not _leans(usable[index])] or picked
    return [Chosen(usable[index]) for index in sorted(picked)], ranking.idf


def quotable(sentence: Sentence) -> bool:
    """Whether it is language at all; what `Extractive` falls back to when there is nothing better."""
    return len(words(sentence.text)) >= 3 and _printable(sentence.text)


def _usable(sentence: Sentence) -> bool:
    text = sentence.text
    found = words(text)
    if not 5 <= len(found) <= (150 if _wide(text) else 48) or len(text) > MAX_CHARS or not _printable(text):
        return False
    first = text.lstrip("\"'“‘«([_")[:1]
    whole = ended(text) or (sentence.item and len(found) >= 6)
    return (whole and not first.islower() and text[-1:] != ":" and balanced(text) and not shouted(text)) or (
        whole and _wide(text) and balanced(text)
    )


def _printable(text: str) -> bool:
    """Mostly letters, in words of a length that people read."""
    letters = sum(mark.isalpha() for mark in text)
    return letters > 0.65 * len(text) and max(map(len, text.split())) <= (MAX_CHARS if _wide(text) else 40)


def _wide(text: str) -> bool:
    """Whether the script writes without spaces."""
    return len(words(text)) > 2 * len(text.split())


def _leans(sentence: Sentence) -> bool:
    first, second = (word.lower() for word in [*words(sentence.text)[:2], "", ""][:2])
    return (
        _TURN.match(sentence.text) is not None
        or sentence.text.startswith(("(", "[", "—", "--"))
        or first in _LEANING
        or (first in _CLAUSE and (second in _LEANING or second == "like"))
    )


def _merit(sentence: Sentence) -> float:
    """How well the sentence reads away from its place; 1 for a plain statement."""
    text = sentence.text
    merit = 1.0
    if sentence.spoken:
        merit *= 0.4
    if len(words(text)) < 8:
        merit *= 0.4
    if text.startswith(('"', "“", "'", "‘", "«")):
        merit *= 0.5
    elif any(mark in text for mark in '"“'):
        merit *= 0.7
    if text.rstrip("\"'”’_)").endswith(("?", "!")):
        merit *= 0.5
    if _SPEECH.search(text):
        merit *= 0.75
    if _POINTING.search(text):
        merit *= 0.6
    if sum(word[:1].isupper() and len(word) == 1 and word not in "AI" for word in words(text)) > 1:
        merit *= 0.5  # letters of a figure that is not shown
    return merit * (1.1 if sentence.index == 0 and sentence.source >= 0 else 1.0)


def _promising(
    usable: list[Sentence], bags: list[list[str]], weights: dict[str, float]
) -> tuple[list[Sentence], list[list[str]]]:
    """At most MOST_CANDIDATES: those that name the topic, their neighbours, and an even sample of the rest."""
    if len(usable) <= MOST_CANDIDATES:
        return usable, bags
    value = [sum(weights.get(one, 0.0) for one in set(bag)) * 2.0 for bag in bags]
    near = [
        value[at] + 0.5 * max(value[max(at - 1, 0)], value[min(at + 1, len(value) - 1)]) for at in range(len(value))
    ]
    step = max(len(usable) // MOST_CANDIDATES, 1)
    order = sorted(range(len(usable)), key=lambda at: (-near[at], at % step, at))
    kept = sorted(order[:MOST_CANDIDATES])
    return [usable[at] for at in kept], [bags[at] for at in kept]


def _cost(sentence: Sentence, format: str) -> int:
    """Words on the page, the citation's mark and the bullet counted."""
    return _length(sentence.text) + (2 if format == "bullets" else 1)


def _length(text: str) -> int:
    return max(len(text.split()), len(words(text)))


def _part(sentence: Sentence, most: int, weights: dict[str, float]) -> Sentence:
    """As much of a sentence as fits, from its beginning or so that the topic is in it."""
    tokens = list(sentence.text) if _wide(sentence.text) else sentence.text.split()
    if _length(sentence.text) <= most:
        return sentence
    glue = "" if _wide(sentence.text) else " "
    at = next((at for at, token in enumerate(tokens) if any(one in weights for one in terms(token))), 0)
    tokens = tokens[at:] if at >= most else tokens
    count = most
    while count > 1 and _length(glue.join(tokens[:count])) > most:
        count -= 1
    text = glue.join(tokens[:count]).strip().rstrip(",;:—-") or tokens[0]
    return replace(sentence, text=text)


def _paragraph(sentences: list[Sentence], chosen: list[Chosen], request: Request) -> Iterator[Piece]:
    whole = {one.sentence: one.whole for one in chosen}
    for number, sentence in enumerate(sentences, 1):
        # An item of a list has no full stop that would part it from the next.
        last = number == len(sentences) or not ended(sentence.text)
        yield from _quoted("", Chosen(sentence, whole[sentence]), "\n\n" if last else " ", request)


def _quoted(before: str, chosen: Chosen, after: str, request: Request) -> Iterator[Piece]:
    text = chosen.sentence.text
    source = request.sources[chosen.sentence.source]
    *most, last = _phrases(before + escape(text) + ("" if chosen.whole else " …"))
    yield from most
    yield Piece(f"{last.text} [{source.key}]{after}", (Claim(source.key, text),))


def _phrases(text: str) -> Iterator[Piece]:
    for phrase in re.findall(rf"\s*(?:\S+\s*){{1,{PHRASE_WORDS}}}", text):
        yield Piece(phrase)


@lru_cache(maxsize=1)
def _templates() -> Environment:
    # Quotations are escaped by `escape`.
    return environment("prompts")


def _frame(request: Request) -> tuple[str, str]:
    """The opening and closing lines of this tone and format; either may be empty."""
    template = _templates().get_template("frame.md.j2")
    text = template.render(
        tone=request.tone, format=request.format, topic=escape(flat(request.topic)), count=len(request.sources)
    )
    opening, _, closing = text.partition("---")
    return flat(opening), flat(closing)
