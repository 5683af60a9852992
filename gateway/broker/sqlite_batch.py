"""What the SQLite broker writes to its file, one transaction at a time."""

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Any

from gateway.broker.base import Key, Producer, Revocation, Run, Snapshot
from gateway.broker.sqlite_journal import forget, place, record
from gateway.broker.sqlite_queries import COLUMNS
from gateway.broker.stream import Stream
from gateway.wire.events import Event
from gateway.wire.status import Status

ERASED_AT_ONCE = 2000
_STATUS = "UPDATE runs SET status = ?, tail = ?, started_at = ?, finished_at = ?, bytes = bytes + ? WHERE number = ?"


class OpenStream(Stream):
    """A stream with its run's record as it stands in the file. `recorded`: what of `bytes` that record knows of."""

    made: Run
    number: int
    started_at: int | None = None
    recorded: int = 0

    def forgot(self, floor: int, gone: int) -> None:
        """So many bytes are not held any more, and the record knows it."""
        self.floor = floor
        self.bytes -= gone
        self.recorded -= gone

    @property
    def record(self) -> Run:
        return replace(self.made, status=self.settled, tail=self.visible, floor=self.floor, started_at=self.started_at)


Placed = dict[OpenStream, list[Event]]


class Batch:
    """All that one transaction writes: runs and keys, then events, then what the events make of their runs.

    `placed`: the events by stream; `bytes`: what they weigh, known once it is committed.
    """

    def __init__(self) -> None:
        self._statements: list[tuple[str, tuple[Any, ...]]] = []
        self._statuses: list[tuple[str, tuple[Any, ...]]] = []
        self._size = 0
        self.placed: Placed = {}
        self.bytes = 0

    def __len__(self) -> int:
        """How many events it holds."""
        return self._size

    def create(self, number: int, run: Run) -> None:
        values = (number, *astuple(run)[: len(COLUMNS)], run.epoch, run.status, run.created_at)
        names = ", ".join(["number", *COLUMNS, "epoch", "status", "created_at"])
        marks = ", ".join("?" * len(values))
        self._statements.append((f"INSERT INTO runs ({names}) VALUES ({marks})", values))  # nosec B608 # noqa: S608 - names of our own columns

    def key(self, owner: str, key: Key, number: int, now: int) -> None:
        self._statements.append(
            ("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)", (owner, key.text, key.digest, number, now))
        )

    def request(self, number: int, producer: Producer, offset: int) -> None:
        self._statements.append(("INSERT INTO requests VALUES (?, ?, ?, ?, ?)", (number, *producer, offset)))

    def status(self, stream: OpenStream, status: Status, *, finished_at: int | None) -> None:
        # Only what has come since the last time: of the rest some may just now be forgotten.
        more, stream.recorded = stream.bytes - stream.recorded, stream.bytes
        values = (status, stream.tail, stream.started_at, finished_at, more, stream.number)
        self._statuses.append((_STATUS, values))

    def events(self, stream: OpenStream, events: list[Event]) -> None:
        """The list becomes the batch's own."""
        self._size += len(events)
        placed = self.placed.get(stream)
        if placed is not None:
            placed += events
        elif events:
            self.placed[stream] = events

    def commit(self, write: sqlite3.Connection) -> None:
        flat: list[Any] = []
        for stream, events in self.placed.items():
            for event in events:
                flat += (stream.number, event.offset, event.type, event.json)
                self.bytes += len(event.json)
        write.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in self._statements:
                write.execute(statement, values)
            record(write, flat)
            for statement, values in self._statuses:
                write.execute(statement, values)
            write.execute("COMMIT")
        except BaseException:
            if write.in_transaction:
                write.execute("ROLLBACK")
            raise


def keep(
    write: sqlite3.Connection,
    run: str,
    fresh: Sequence[Event],
    unrecorded: int,
    snapshot: Snapshot,
    max_events: int,
    max_bytes: int,
) -> tuple[int, int]:
    """Store a snapshot and delete the oldest events beyond the caps; the new floor and how many bytes went.

    `fresh`: what was not yet at this run's place when this was asked for. Another keeping may have come first.
    `unrecorded`: the bytes that are held and not in the run's record. What stays is not looked at: it may be a lot.
    """
    row = write.execute("SELECT number, floor, bytes FROM runs WHERE id = ?", (run,)).fetchone()
    if row is None:
        return 0, 0
    number, floor, recorded = row
    write.execute("BEGIN IMMEDIATE")
    place(write, number, [event for event in fresh if event.offset > floor])
    tail = write.execute("SELECT max(offset) FROM events WHERE run = ?", (number,)).fetchone()[0] or 1
    over = _oldest(write, number, recorded + unrecorded - max_bytes, tail)
    cut = min(max(floor, tail - max_events, over), snapshot.offset, tail - 1)
    write.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?)", (number, *snapshot))
    gone = _delete_upto(write, number, cut) if cut > floor else 0
    write.execute("COMMIT")
    return max(cut, floor), gone


def _oldest(write: sqlite3.Connection, number: int, bytes: int, tail: int) -> int:
    """The first offset whose event, with all earlier ones, has so many bytes; `tail` when all have less."""
    if bytes <= 0:
        return 0
    row = write.execute(
        "SELECT offset FROM (SELECT offset, sum(length(json)) OVER (ORDER BY offset) AS gone FROM events"
        " WHERE run = ?) WHERE gone >= ? LIMIT 1",
        (number, bytes),
    ).fetchone()
    return row[0] if row else tail


def _delete_upto(write: sqlite3.Connection, number: int, cut: int) -> int:
    gone: int | None = write.execute(
        "SELECT sum(length(json)) FROM events WHERE run = ? AND offset <= ?", (number, cut)
    ).fetchone()[0]
    write.execute("DELETE FROM events WHERE run = ? AND offset <= ?", (number, cut))
    write.execute("UPDATE runs SET floor = ?, bytes = bytes - ? WHERE number = ?", (cut, gone or 0, number))
    return gone or 0


def erase_some(write: sqlite3.Connection, number: int) -> bool:
    """Delete a finished run's requests, its oldest events, and with the last ones the run; whether anything is left."""
    cut: int | None = write.execute(
        "SELECT max(offset) FROM (SELECT offset FROM events WHERE run = ? ORDER BY offset LIMIT ?)",
        (number, ERASED_AT_ONCE),
    ).fetchone()[0]
    tail: int | None = write.execute("SELECT max(offset) FROM events WHERE run = ?", (number,)).fetchone()[0]
    write.execute("BEGIN IMMEDIATE")
    if _forget_requests(write, number) == ERASED_AT_ONCE:
        write.execute("COMMIT")
        return True
    if cut is None or cut == tail:
        forget(write, number)
        write.execute("DELETE FROM runs WHERE number = ?", (number,))
    else:
        _delete_upto(write, number, cut)
    write.execute("COMMIT")
    return cut is not None and cut != tail


def _forget_requests(write: sqlite3.Connection, number: int) -> int:
    return write.execute(
        "DELETE FROM requests WHERE run = ? AND (producer, epoch, seq) IN"
        " (SELECT producer, epoch, seq FROM requests WHERE run = ? LIMIT ?)",
        (number, number, ERASED_AT_ONCE),
    ).rowcount


def revoke(write: sqlite3.Connection, revocation: Revocation, forget_before: int) -> None:
    """Keep a revocation, the latest of its kind and name, and let go of those that are too old to matter."""
    write.execute("BEGIN IMMEDIATE")
    write.execute(
        "INSERT INTO revocations VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at = max(at, excluded.at)", revocation
    )
    write.execute("DELETE FROM revocations WHERE at < ?", (forget_before,))
    write.execute("COMMIT")
