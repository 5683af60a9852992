"""What a finished text must be before a run may call it done.

Rule 1: a text goes in with its request and claims, failures come out; nothing is repaired here.
"""

import re
from collections.abc import Iterator, Sequence

from pipeline.models import Claim, Failure, Request, Source
from pipeline.models.extractive import escape, quotable
from pipeline.models.rank import terms, topic_weights
from pipeline.models.sentences import flat, split, words

LEAST_EVIDENCE_WORDS = 3
_MARK = re.compile(r"(?<!\\)\[(\d+)\]")


def count_words(markdown: str) -> int:
    """Words as a reader counts them: marks of citations, headings and lists are none."""
    return sum(max(1, len(words(token)) if not token.isascii() else 1) for token in _tokens(markdown))


def mentions(topic: str, texts: Sequence[str]) -> bool:
    """Whether a telling word of the topic, or one close to it in form, occurs in any of the texts."""
    return any(topic_weights(topic, set(terms(text))) for text in texts)


def sayable(sources: Sequence[Source]) -> list[str]:
    """What a text could take from the sources: titles, tables and scraps are none of it."""
    found = [sentence for source in sources for sentence in split(source.text)]
    return [sentence.text for sentence in found if quotable(sentence)]


def check(body: str, claims: Sequence[Claim], request: Request) -> list[Failure]:
    """What is wrong with a body, in the order in which a reader would care; empty when nothing is."""
    return [
        *_length(body, request),
        *_structure(body, request),
        *_topic(body, claims, request),
        *_claims(body, claims, request),
    ]


def _tokens(markdown: str) -> Iterator[str]:
    for token in _MARK.sub(" ", markdown).split():
        if words(token):
            yield token


def _length(body: str, request: Request) -> Iterator[Failure]:
    count = count_words(body)
    if count > request.max_words:
        yield Failure("text.too_long", f"The text has {count} words; at most {request.max_words} are wanted.")
    if not count:
        yield Failure("text.empty", "The text is empty.")


def _structure(body: str, request: Request) -> Iterator[Failure]:
    blocks = [block.strip() for block in re.split(r"\n\s*\n", body) if block.strip()]
    headings = [block for block in blocks if block.startswith("#")]
    items = [line for line in body.splitlines() if line.startswith("- ")]
    wrong = ""
    if request.format == "article":
        empty = any(
            one.startswith("#") and two.startswith("#") for one, two in zip(blocks, [*blocks[1:], "#"], strict=False)
        )
        if not headings or empty:
            wrong = "An article needs sections, each with a heading (##) and text under it."
    elif request.format == "bullets":
        if not items or headings:
            wrong = "Bullets are lines that begin with '- ', without headings."
        elif not all(_MARK.search(item) for item in items):
            wrong = "Every bullet must cite its source."
    elif headings or items:
        wrong = "A summary is made of paragraphs, without headings or lists."
    if wrong:
        yield Failure("text.structure", wrong)


def _topic(body: str, claims: Sequence[Claim], request: Request) -> Iterator[Failure]:
    # The lines of a frame name the topic always; only cited text shows that the text is about it.
    cited = [block.replace("\\", "") for block in re.split(r"\n+", body) if _MARK.search(block)]
    cited += [claim.quote for claim in claims if not claim.repeated]  # its own words may be others
    if mentions(request.topic, sayable(request.sources)) and not mentions(request.topic, cited):
        yield Failure("topic.missing", f"The text says nothing about the topic: {flat(request.topic)}.")


def _claims(body: str, claims: Sequence[Claim], request: Request) -> Iterator[Failure]:
    sources = {source.key: flat(source.text) for source in request.sources}
    written = flat(body)
    for key in sorted(set(_MARK.findall(body)) - {claim.key for claim in claims}):
        yield Failure("claim.unsupported", f"[{key}] is cited, but no sentence of it is quoted.")
    if not claims:
        yield Failure("claim.none", "Nothing in the text is cited.")
    for claim in claims:
        if claim.key not in sources:
            yield Failure("claim.unknown_source", f"There is no source [{claim.key}].")
        elif not claim.quote or flat(claim.quote) not in sources[claim.key]:
            yield Failure("claim.not_in_source", f"Source [{claim.key}] does not say: {claim.quote[:120]}")
        elif not claim.repeated and len(words(claim.quote)) < LEAST_EVIDENCE_WORDS:
            yield Failure("claim.too_short", f"“{claim.quote}” is too little to rest a statement on; cite a sentence.")
        elif f"[{claim.key}]" not in written or (claim.repeated and flat(escape(claim.quote)) not in written):
            yield Failure("claim.not_in_text", f"The text lacks what it claims from [{claim.key}]: {claim.quote[:120]}")
