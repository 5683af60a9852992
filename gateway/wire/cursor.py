"""Cursors: where in a run's stream a client is (PROTOCOL section 1).

A cursor says "I have everything up to and with this offset". Its epoch guards against a log that lost events a
client has seen: offsets of another epoch mean nothing.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

_CURSOR = re.compile(r"([a-z0-9]{1,13})-([1-9][0-9]{0,14})", re.ASCII)
_SEPARATOR = "~"


class Cursor(NamedTuple):
    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"


class Resume(StrEnum):
    """What a join's cursor was worth."""

    START = "start"
    RESUMED = "resumed"
    GAP = "gap"


def parse(text: str) -> Cursor | None:
    """None when the text is not a cursor."""
    match = _CURSOR.fullmatch(text)
    return Cursor(match[1], int(match[2])) if match else None


def resolve(text: str | None, *, epoch: str, floor: int, tail: int) -> tuple[Resume, int]:
    """The verdict on a join and the offset to send from (exclusive).

    `floor` is the highest offset that is no longer held (0: all are), `tail` the highest one written.
    """
    if text is None or text in ("", "0"):
        return Resume.START, floor
    cursor = parse(text)
    if cursor is None or cursor.epoch != epoch or not floor <= cursor.offset <= tail:
        return Resume.GAP, floor
    return Resume.RESUMED, cursor.offset


def split_composite(text: str, count: int) -> list[str] | None:
    """The cursors of several runs joined by `~` (PROTOCOL section 5); None when there are not `count` of them."""
    parts = text.split(_SEPARATOR)
    return parts if len(parts) == count else None


def join_composite(cursors: Iterable[str]) -> str:
    return _SEPARATOR.join(cursors)
