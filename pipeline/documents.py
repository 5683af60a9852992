"""The documents that a run is given to work on: their bounds, their names, their text as sources.

Rule 1: a document keeps its number, counted from 1 in the order given; an empty one is dropped but still counted.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from pipeline.content import MOST_SOURCES_CHARS
from pipeline.models import Source
from pipeline.models.sentences import flat, words

_NAME_WORDS = 8


def _together(texts: list[str]) -> list[str]:
    if len(texts) > 20 or sum(map(len, texts)) > MOST_SOURCES_CHARS:
        raise ValueError(f"at most 20 documents, together of at most {MOST_SOURCES_CHARS:,} characters")
    return texts


Documents = Annotated[list[Annotated[str, StringConstraints(max_length=200_000)]], AfterValidator(_together)]


def as_sources(texts: Sequence[str]) -> tuple[Source, ...]:
    """The documents that hold text, keyed by their number and named by their first line."""
    return tuple(Source(str(number), _name(text), text) for number, text in enumerate(texts, 1) if words(text))


def plural(count: int, thing: str) -> str:
    """`1 word`, `1,200 words`."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def _name(text: str) -> str:
    line = next(flat(line) for line in text.lstrip("\ufeff").splitlines() if words(line)).strip("#*_= ")
    kept = " ".join(line.split()[:_NAME_WORDS])[:80]
    return kept if kept == line else kept.rstrip(" .,;:") + "…"
