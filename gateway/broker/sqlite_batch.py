"""What the SQLite broker writes to its file, one transaction at a time."""

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from gateway.broker.base import Key, Producer, Run, Snapshot
from gateway.broker.sqlite_queries import COLUMNS
from gateway.wire.events import Event
from gateway.wire.status import Status


class Batch:
    """All that one transaction writes. Statements run in the order given, events after them."""

    def __init__(self) -> None:
        self._statements: list[tuple[str, tuple[Any, ...]]] = []
        self._events: list[tuple[int, int, str, bytes]] = []

    def create(self, number: int, run: Run) -> None:
        values = (number, *astuple(run)[: len(COLUMNS)], run.epoch, run.status, run.created_at)
        names = ", ".join(["number", *COLUMNS, "epoch", "status", "created_at"])
        marks = ", ".join("?" * len(values))
        self._statements.append((f"INSERT INTO runs ({names}) VALUES ({marks})", values))  # noqa: S608 - names of our own columns

    def key(self, owner: str, key: Key, number: int, now: int) -> None:
        self._statements.append(
            ("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)", (owner, key.text, key.digest, number, now))
        )

    def request(self, number: int, producer: Producer, offset: int) -> None:
        self._statements.append(("INSERT INTO requests VALUES (?, ?, ?, ?, ?)", (number, *producer, offset)))

    def snapshot(self, run: str, snapshot: Snapshot) -> None:
        self._statements.append(
            ("INSERT OR REPLACE INTO snapshots SELECT number, ?, ?, ? FROM runs WHERE id = ?", (*snapshot, run))
        )

    def status(
        self, number: int, status: Status, *, tail: int, bytes: int, started_at: int | None, finished_at: int | None
    ) -> None:
        self._statements.append(
            (
                "UPDATE runs SET status = ?, tail = ?, bytes = ?, started_at = ?, finished_at = ? WHERE number = ?",
                (status, tail, bytes, started_at, finished_at, number),
            )
        )

    def events(self, number: int, events: Sequence[Event]) -> None:
        self._events += [(number, event.offset, event.type, event.json) for event in events]

    def erase(self, number: int) -> None:
        self._statements.append(("DELETE FROM runs WHERE number = ?", (number,)))

    def commit(self, write: sqlite3.Connection) -> None:
        write.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in self._statements:
                write.execute(statement, values)
            write.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", self._events)
            write.execute("COMMIT")
        except BaseException:
            if write.in_transaction:
                write.execute("ROLLBACK")
            raise


def trim(write: sqlite3.Connection, run: str, max_events: int, max_bytes: int) -> tuple[int, int]:
    """Delete the oldest events beyond the caps; the new floor and how many bytes went."""
    number, floor, tail = write.execute(
        "SELECT number, floor, (SELECT max(offset) FROM events WHERE run = number) FROM runs WHERE id = ?", (run,)
    ).fetchone() or (0, 0, None)
    if tail is None:
        return floor, 0
    over = write.execute(
        "SELECT max(offset) FROM (SELECT offset, sum(length(json)) OVER (ORDER BY offset DESC) AS held"
        " FROM events WHERE run = ?) WHERE held > ?",
        (number, max_bytes),
    ).fetchone()[0]
    cut = min(max(floor, tail - max_events, over or 0), tail - 1)
    if cut <= floor:
        return floor, 0
    write.execute("BEGIN IMMEDIATE")
    gone: int = write.execute(
        "SELECT sum(length(json)) FROM events WHERE run = ? AND offset <= ?", (number, cut)
    ).fetchone()[0]
    write.execute("DELETE FROM events WHERE run = ? AND offset <= ?", (number, cut))
    write.execute("UPDATE runs SET floor = ?, bytes = max(0, bytes - ?) WHERE number = ?", (cut, gone, number))
    write.execute("COMMIT")
    return cut, gone
