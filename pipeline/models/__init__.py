"""The seam between a pipeline and whatever writes its text.

Rule 1: a model gets the whole request, both rendered for reading (the prompt) and as values, and gives pieces of
Markdown as it goes; it emits no events and knows nothing of runs.
Rule 2: what is said is claimed: each statement taken from a source comes with a `Claim` that names it.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

Tone = Literal["neutral", "formal", "friendly", "concise"]
Format = Literal["article", "summary", "bullets"]


@dataclass(frozen=True)
class Source:
    """A text to draw on. `key` is what stands between brackets in the Markdown, `name` what a reader sees."""

    key: str
    name: str
    text: str


@dataclass(frozen=True)
class Claim:
    """Says that `quote` stands in the source `key`, but for white space.

    `repeated`: the text has it word for word, escaped for Markdown; otherwise the text says it in words of its own.
    """

    key: str
    quote: str
    repeated: bool = True


@dataclass(frozen=True)
class Failure:
    """Something that was wrong with a text: a code (such as `text.too_long`) and a sentence for people and models."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to write. `max_words` bounds the body alone; `failures` is what was wrong with the attempt before."""

    topic: str
    sources: tuple[Source, ...]
    tone: Tone = "neutral"
    format: Format = "article"
    max_words: int = 400
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Piece:
    """Markdown to append to the body, with the claims that are complete now that it is there."""

    text: str
    claims: tuple[Claim, ...] = ()


class TextModel(Protocol):
    """Writes a body (no title) for a request.

    `write` may be called again with `failures` filled in. It may raise any `PipelineError`: `Rejected` when the
    request cannot be met by this model, `ProviderError` and `ProviderRefused` when its provider says so. Closing
    the generator must end any call that it has under way.
    """

    def write(self, prompt: str, request: Request) -> AsyncGenerator[Piece, None]: ...
