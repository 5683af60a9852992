"""Cursors: where in a run's stream a client is (PROTOCOL section 1).

Rule 1: offsets of two epochs are never compared; they count different logs.
"""

import re
from typing import NamedTuple

NO_CURSOR = "0"
_CURSOR = re.compile(r"([a-z0-9]{1,13})-([1-9][0-9]{0,14})", re.ASCII)


class Cursor(NamedTuple):
    epoch: str
    offset: int


def parse(text: str | None) -> Cursor | None:
    """None when the text is not a cursor."""
    match = _CURSOR.fullmatch(text) if text else None
    return Cursor(match[1], int(match[2])) if match else None


def follows(last: str | None, id: str) -> bool:
    """Whether an event may come after what a client has (PROTOCOL section 9, rule 5).

    `last` is None at the start and after a gap: then any epoch may come.
    """
    after, before = parse(id), parse(last)
    if after is None:
        return False
    return before is None or (after.epoch == before.epoch and after.offset > before.offset)
