"""The events that are committed and not yet at their run's place in the file.

Streams grow side by side, an event here and an event there, and a commit that put each to its run's others would write
a page for each. So a commit puts them one behind the other into the journal, and many are moved at once.

Rule 1: what lies in the journal is held here too, so the journal's rows are read by the move alone.
Rule 2: the move may find rows that were moved before, or whose run has forgotten or lost them: it leaves those out.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from gateway.broker.stream import Stream
from gateway.wire.events import Event

MOVE_EVENTS = 4000
MOVE_BYTES = 4 << 20
ROWS = 32  # of a statement: each lets go of the interpreter and has to get it back, which takes long while others work


_RECORD = "INSERT INTO journal VALUES (?, ?, ?, ?)"
_PLACE = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)"
_ONE_MORE = ", (?, ?, ?, ?)"


class Journal:
    """In memory, what the journal holds of each run. Commits are sorted into runs when somebody asks, if ever."""

    def __init__(self) -> None:
        self._commits: list[Iterable[tuple[Stream, list[Event]]]] = []
        self._fresh: defaultdict[str, list[Event]] = defaultdict(list)
        self._rows = 0
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether it is time to move."""
        return self._rows >= MOVE_EVENTS or self._bytes >= MOVE_BYTES

    def add(self, placed: Iterable[tuple[Stream, list[Event]]], *, rows: int, bytes: int) -> None:
        """These events are committed. Nobody changes them any more."""
        self._commits.append(placed)
        self._rows += rows
        self._bytes += bytes

    def _sort(self) -> None:
        for placed in self._commits:
            for stream, events in placed:
                self._fresh[stream.run] += events
        self._commits.clear()

    def of(self, run: str, *, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """What is not yet at this run's place, in order and without a hole: the first that come after an offset."""
        self._sort()
        fresh = self._fresh.get(run)
        if not fresh:
            return ()
        begin = max(0, after + 1 - fresh[0].offset)
        return fresh[begin:] if limit is None else fresh[begin : begin + limit]

    def placed(self, run: str, upto: int) -> None:
        """This run's events up to an offset are at their place; their rows wait for the next move."""
        self._sort()
        left = [event for event in self._fresh.pop(run, ()) if event.offset > upto]
        if left:
            self._fresh[run] = left

    def moved(self) -> None:
        """Everything that was added is at its place."""
        self._commits.clear()
        self._fresh.clear()
        self._rows = self._bytes = 0

    def forget(self, run: str) -> None:
        self._sort()
        self._fresh.pop(run, None)


def record(write: sqlite3.Connection, values: list[Any]) -> None:
    """Write events into the journal: of each, one behind the other, the run's number, offset, type, json."""
    _insert(write, _RECORD, values)


def place(write: sqlite3.Connection, number: int, events: Sequence[Event]) -> None:
    """Put one run's events to its others."""
    _insert(write, _PLACE, [value for event in events for value in (number, event.offset, event.type, event.json)])


def _insert(write: sqlite3.Connection, statement: str, values: list[Any]) -> None:
    for at in range(0, len(values), 4 * ROWS):
        some = values[at : at + 4 * ROWS]
        write.execute(_of_rows(statement, len(some) // 4), some)


@lru_cache(2 * ROWS)
def _of_rows(statement: str, rows: int) -> str:
    return statement + _ONE_MORE * (rows - 1)


def move(write: sqlite3.Connection) -> None:
    """Put everything in the journal to its place."""
    # The join has seen to it that the run is there; to ask again for every row takes a third of the time.
    write.execute("PRAGMA foreign_keys=OFF")
    write.execute("BEGIN IMMEDIATE")
    write.execute(
        "INSERT OR IGNORE INTO events SELECT run, offset, type, json FROM journal JOIN runs ON number = run"
        " WHERE offset > floor ORDER BY run, offset"
    )
    write.execute("DELETE FROM journal")
    write.execute("COMMIT")
    write.execute("PRAGMA foreign_keys=ON")


def forget(write: sqlite3.Connection, number: int) -> None:
    write.execute("DELETE FROM journal WHERE run = ?", (number,))
