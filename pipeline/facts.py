"""What sources say for a product: sentences that could stand in its copy, best first, and what speaks against it.

Rule 1: a fact is a sentence of a source, word for word; shortened, it is still one piece of that sentence.
Rule 2: whatever may be a reservation is no fact: it is shown apart, for a person to weigh.

Ranking is that of `pipeline.models.rank`; what is judged here is only whether a sentence could be read in an
advertisement.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.models import Source
from pipeline.models.extractive import quotable
from pipeline.models.rank import Ranking, select, term, terms, topic_weights
from pipeline.models.sentences import Sentence, balanced, ended, flat, shouted, split, word_set, words

MOST_WORDS = 34
MOST_CHARS = 260
FEW = 4  # with fewer facts than these, sentences that may be about something else are better than nothing
ON_IT = 0.1  # a text of which so many sentences name the product is about it
MOST_CANDIDATES = 600  # the walk over the sentences is quadratic

_PRONOUN = re.compile(r"(?:It|They)\b(?!['’])\s+")
_OWNED = re.compile(r"(?:Its|Their)\b")
_OPENER = re.compile(
    r"(?:it|he|she|him|this|that|these|those|such|here|there|but|and|or|so|yet|thus|hence|therefore|however|also|then|"
    r"besides|otherwise|instead|again|because|well|oh|ah|yes|no|why|now|finally|another|both|neither|too|later|"
    r"(?:each|some|many|most|all|one|none) of (?:them|these|those)|meanwhile|afterwards|for in|as a result|"
    r"for (?:example|instance)|in (?:addition|that|this|the mean ?(?:time|while))|at (?:that|this))\b",
    re.IGNORECASE,
)
_RESERVATION = re.compile(
    r"\b(?:not(?! only)|cannot|unless|except|although|though|warning|caution|danger\w*|risks?|recall(?:s|ed)?|"
    r"fail(?:s|ed|ure)?|defect\w*|broken?|complain\w*|unfortunately|unable|lacks?)\b|n['’]t\b",
    re.IGNORECASE,
)
_SPEAKER = re.compile(r"\b(?:i|i'm|i've|i'll|me|my|he|she|him|his|her|said|says|cried|asked)\b", re.IGNORECASE)
_MAKER = re.compile(r"(?:we|our)\b", re.IGNORECASE)  # of the makers, not of what they make
_ELSEWHERE = re.compile(r"\b(?:there(?! (?:is|are|was|were))|the (?:former|latter|same)|above|below)\b", re.IGNORECASE)
_ANYONE = word_set("people person persons anyone everyone customer customers user users reader readers")
_CODE = re.compile(r"`[^`\n]*`")
_FIGURE = re.compile(r"\d|[%€$£]")
_BREAK = re.compile(
    r" (?=[—–])|[;:](?= )|,(?= (?:and|which|who|so|with|for|as|where|while|because)\b)| (?=(?:which|so that|where)\b)"
)
# What must not be cut off: without it the rest would promise more than the source does.
_QUALIFIES = re.compile(
    r"\b(?:but|unless|if|except|only|without|not|although|though|until|up to|provided|when|after|some|may|might|about|"
    r"at least|at most|nearly|almost|except)\b|n['’]t\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A sentence of the source `key`. `rests`: it begins with a pronoun that means the product.

    `named` says that the product stands in it, `audience` which of the audience's terms do.
    """

    key: str
    source: str
    quote: str
    named: bool
    rests: bool
    audience: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """`facts` best first; `reservations` in the order of the sources; `mentioned`: some source names the product."""

    facts: tuple[Fact, ...]
    reservations: tuple[Fact, ...]
    mentioned: bool
    sentences: int


def find(product: str, audience: str, sources: Sequence[Source], *, most: int) -> Found:
    """The facts of the sources for a product and its audience, at most `most`, none too like another."""
    sentences = [sentence for number, source in enumerate(sources) for sentence in split(source.text, number)]
    told = list(_about(sentences, product))
    close = _close(told)
    fitting = [(one, about) for one, about in told if _readable(one, about=about)]
    nearer = [(one, about) for one, about in fitting if about or (one.source, one.paragraph) in close]
    fitting = nearer if len(nearer) >= FEW else fitting
    facts = [fact_of(sources[one.source], one.text, product, audience) for one, _ in fitting]
    against = [fact for fact in facts if _RESERVATION.search(fact.quote)]
    kept = [at for at, fact in enumerate(facts) if not _RESERVATION.search(fact.quote)]
    wanted = set(terms(product)) | set(terms(audience))
    # A stable sort: among sentences that share as much with the brief, those that come first stay first.
    kept = sorted(kept, key=lambda at: -len(wanted & set(terms(facts[at].quote))))[:MOST_CANDIDATES]
    kept.sort()
    bags = [terms(facts[at].quote) for at in kept]
    vocabulary = {one for bag in bags for one in bag}
    weights = {one: weight / 2 for one, weight in topic_weights(audience, vocabulary).items()}
    weights |= topic_weights(product, vocabulary)
    ranking = Ranking(bags, weights)
    scores = [score * _merit(facts[at], about=fitting[at][1]) for score, at in zip(ranking.scores, kept, strict=True)]
    order = select(ranking, scores, lambda _: 1, most, lambda _index, _chosen: True)
    order.sort(key=lambda index: -scores[index])
    return Found(
        facts=tuple(facts[kept[index]] for index in order),
        reservations=tuple(fact for fact in against if fact.named or fact.rests)[:3],
        mentioned=any(names(product, source.text) for source in sources),
        sentences=len(sentences),
    )


def fact_of(source: Source, quote: str, product: str, audience: str) -> Fact:
    """A sentence of a source, with what it has to do with product and audience."""
    # What the makers say of themselves is about the audience by chance only.
    shared = set[str]() if _MAKER.match(quote) else set(terms(quote)) & speaking(audience)
    return Fact(
        key=source.key,
        source=source.name,
        quote=quote,
        named=names(product, quote),
        rests=_PRONOUN.match(quote) is not None or _OWNED.match(quote) is not None,
        audience=tuple(sorted(shared)),
    )


def speaking(audience: str) -> set[str]:
    """The terms that tell this audience from any other."""
    return {one for one in terms(audience) if one not in _ANYONE}


def names(product: str, text: str) -> bool:
    """Whether at least half of the product's telling words stand in the text; what stands in code names nothing."""
    wanted = set(terms(product)) or {term(word) for word in words(product)}
    text = _CODE.sub(" ", text)
    return bool(wanted) and 2 * len(wanted & {term(word) for word in words(text)}) >= len(wanted)


def shortened(fact: Fact, product: str, most: int) -> tuple[str, str] | None:
    """A line of at most `most` characters that says a fact, and the piece of the source in it; None if none fits.

    A pronoun at the beginning becomes the product; a long sentence ends at a comma or the like, never so that a
    condition or a reservation is lost.
    """
    text = flat(fact.quote).rstrip(".!…")
    for piece in (text, *_beginnings(text)):
        told = _told(piece, fact, product)
        if told is not None and len(told[0]) <= most:
            return told
    return None


def _told(piece: str, fact: Fact, product: str) -> tuple[str, str] | None:
    if pronoun := _PRONOUN.match(piece):
        rest = piece[pronoun.end() :]
        return f"{capital(product)} {rest}", rest
    if _OWNED.match(piece):
        return f"{capital(product)}: {piece}", piece
    return (piece, piece) if fact.named and names(product, piece) else (f"{capital(product)}: {piece}", piece)


def capital(text: str) -> str:
    """With a capital at the beginning."""
    return text[:1].upper() + text[1:]


def _beginnings(text: str) -> Iterator[str]:
    """The text up to each place where a clause ends, longest first."""
    for cut in sorted((found.start() for found in _BREAK.finditer(text)), reverse=True):
        begun, lost = text[:cut].rstrip(" ,;:—–"), text[cut:]
        if len(words(begun)) >= 5 and balanced(begun) and not _QUALIFIES.search(lost):
            yield begun


def _about(sentences: Sequence[Sentence], product: str) -> Iterator[tuple[Sentence, bool]]:
    """Each sentence with whether it is about the product: it names it, or goes on from one that does."""
    about, before = False, None
    for sentence in sentences:
        follows = before is not None and (before.source, before.paragraph) == (sentence.source, sentence.paragraph)
        goes_on = _PRONOUN.match(sentence.text) is not None or _OWNED.match(sentence.text) is not None
        about = names(product, sentence.text) or (about and follows and goes_on)
        before = sentence
        yield sentence, about


def _close(told: Sequence[tuple[Sentence, bool]]) -> set[tuple[int, int]]:
    """The paragraphs that are about the product: those that name it, their neighbours, or all of a text on it."""
    here = {(one.source, one.paragraph) for one, about in told if about}
    lengths = Counter(one.source for one, _ in told)
    naming = Counter(one.source for one, about in told if about)
    wholly = {source for source, count in naming.items() if count >= ON_IT * lengths[source]}
    near = {(source, paragraph + step) for source, paragraph in here for step in (-1, 0, 1)}
    return near | {(one.source, one.paragraph) for one, _ in told if one.source in wholly}


def _readable(sentence: Sentence, *, about: bool) -> bool:
    text = sentence.text
    count = len(words(text))
    if not (3 if sentence.item else 5) <= count <= MOST_WORDS or len(text) > MOST_CHARS or not quotable(sentence):
        return False
    whole = ended(text) or (sentence.item and not text.endswith((":", ",", ";")))
    if not whole or sentence.spoken or not balanced(text) or text.endswith("?") or shouted(text):
        return False
    if _ELSEWHERE.search(text) or text[0] in "\"'“‘«([_" or (text[0].islower() and not sentence.item):
        return False
    # A pronoun is understood only when the sentence before it was about the product.
    if _PRONOUN.match(text) or _OWNED.match(text):
        return about
    return _OPENER.match(text) is None


def _merit(fact: Fact, *, about: bool) -> float:
    """How well a fact reads in copy; 1 for a plain sentence."""
    merit = 1.3 if about else 0.8
    if fact.audience:
        merit *= 1.25
    if _MAKER.match(fact.quote):
        merit *= 0.8
    if _FIGURE.search(fact.quote):
        merit *= 1.2
    if len(words(fact.quote)) <= 18:
        merit *= 1.15
    if _SPEAKER.search(fact.quote):
        merit *= 0.5
    if any(mark in fact.quote for mark in '"“!'):
        merit *= 0.5
    if _CODE.search(fact.quote):
        merit *= 0.4
    return merit
