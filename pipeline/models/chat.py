"""The seam to a language model of a provider: turns go in, text comes out as it is made.

Rule 1: one call is one attempt; trying again, telling and paying for it is `pipeline.calling`'s business.
Rule 2: which model is used is decided once, by `use`, before any run; None means that the offline models work.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.spending import Priced, Tokens


@dataclass(frozen=True)
class Turn:
    """One part of a conversation."""

    by: Literal["system", "user", "model"]
    text: str


@dataclass(frozen=True)
class Aside:
    """What a model says to itself before it answers: nobody reads it, but it is paid for."""

    text: str


class Chat(Priced, Protocol):
    """A model of a provider."""

    def say(self, turns: Sequence[Turn]) -> AsyncGenerator[str | Aside | Tokens, None]:
        """The answer, piece by piece, and what it took as often as the provider tells (whole numbers so far).

        Raises ProviderError when another attempt may succeed, ProviderRefused when not, StagesFailed when the answer
        was cut off. Closing the generator closes the connection to the provider.
        """

    async def close(self) -> None:
        """Let go of the connections that are kept open."""


class _Choice:
    model: Chat | None = None


def use(model: Chat | None) -> None:
    """From now on runs use this model."""
    _Choice.model = model


def chosen() -> Chat | None:
    return _Choice.model


async def close() -> None:
    """Close the chosen model's connections, if there are any."""
    if _Choice.model is not None:
        await _Choice.model.close()
