"""The SQL of the SQLite broker: plain functions of a connection, called in the broker's threads.

Rule 1: no asyncio, no state beyond the connection; what is asked and what is written stands here once.
"""

import fcntl
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

from gateway.broker.base import Key, NewRun, Page, Producer, Run, Snapshot
from gateway.wire.events import Event
from gateway.wire.status import Status

VERSION = 1
ERRORS = (sqlite3.Error, OSError)
_NEW = [spec.name for spec in fields(NewRun)]
_RECORD = ", ".join(
    f"runs.{name}" for name in [*_NEW, "epoch", "status", "created_at", "started_at", "finished_at", "floor", "tail"]
)
_SELECT = f"SELECT {_RECORD}, snapshots.summary FROM runs LEFT JOIN snapshots ON snapshots.run = runs.number"  # noqa: S608 - names of our own columns


def record(run: NewRun, *, epoch: str, created_at: int) -> Run:
    values: dict[str, Any] = {name: getattr(run, name) for name in _NEW}
    return Run(**values, epoch=epoch, created_at=created_at)


def open_writer(path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection, BinaryIO]:
    """A connection that writes, one that reads, and the lock that keeps other gateways off the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(path.name + "-lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise OSError("another gateway has it open") from None
    write = _connect(path)
    write.execute("PRAGMA journal_mode=WAL")
    write.execute("PRAGMA synchronous=NORMAL")
    version = write.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        schema = files("gateway.broker").joinpath("schema.sql").read_text()
        write.executescript(f"BEGIN; {schema} PRAGMA user_version={VERSION}; COMMIT;")
    elif version != VERSION:
        raise sqlite3.DatabaseError(f"schema version {version}, this gateway knows {VERSION}")
    read = _connect(path)
    read.execute("PRAGMA query_only=ON")
    return write, read, lock


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def close_writer(write: sqlite3.Connection, lock: BinaryIO) -> None:
    write.close()
    lock.close()


class Batch:
    """All that one transaction writes. Statements run in the order given, events after them."""

    def __init__(self) -> None:
        self._statements: list[tuple[str, tuple[Any, ...]]] = []
        self._events: list[tuple[int, int, str, bytes]] = []

    def create(self, number: int, run: Run) -> None:
        values = (number, *astuple(run)[: len(_NEW)], run.epoch, run.status, run.created_at)
        names = ", ".join(["number", *_NEW, "epoch", "status", "created_at"])
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
        self, number: int, status: Status, *, tail: int, started_at: int | None, finished_at: int | None
    ) -> None:
        self._statements.append(
            (
                "UPDATE runs SET status = ?, tail = ?, started_at = ?, finished_at = ? WHERE number = ?",
                (status, tail, started_at, finished_at, number),
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


def next_number(read: sqlite3.Connection) -> int:
    last: int | None = read.execute("SELECT max(number) FROM runs").fetchone()[0]
    return (last or 0) + 1


def open_runs(read: sqlite3.Connection) -> list[tuple[int, Run, dict[str, tuple[int, int]]]]:
    """Every unfinished run with its number, its real tail, and each producer's `(epoch, seq)`."""
    numbers = [row[0] for row in read.execute("SELECT number FROM runs WHERE finished_at IS NULL")]
    found = []
    for number in numbers:
        row = read.execute(f"{_SELECT} WHERE number = ?", (number,)).fetchone()
        tail = read.execute("SELECT max(offset) FROM events WHERE run = ?", (number,)).fetchone()[0]
        producers = read.execute(
            "SELECT producer, epoch, max(seq) FROM requests AS r WHERE run = ? AND epoch ="
            " (SELECT max(epoch) FROM requests WHERE run = r.run AND producer = r.producer) GROUP BY producer",
            (number,),
        )
        values = dict(zip(Run.__dataclass_fields__, _values(row), strict=True)) | {"tail": tail or 0}
        found.append((number, Run(**values), {name: (epoch, seq) for name, epoch, seq in producers}))
    return found


def find_run(read: sqlite3.Connection, run: str) -> Run | None:
    return _one(read.execute(f"{_SELECT} WHERE id = ?", (run,)).fetchone())


def number_of(read: sqlite3.Connection, run: str) -> int | None:
    row = read.execute("SELECT number FROM runs WHERE id = ?", (run,)).fetchone()
    return row[0] if row else None


def find_key(read: sqlite3.Connection, owner: str, key: str, since: int) -> tuple[bytes, Run] | None:
    row = read.execute(
        "SELECT digest, run FROM keys WHERE owner = ? AND key = ? AND at >= ?", (owner, key, since)
    ).fetchone()
    if row is None:
        return None
    found = _one(read.execute(f"{_SELECT} WHERE number = ?", (row[1],)).fetchone())
    return (row[0], found) if found else None


def find_request(read: sqlite3.Connection, number: int, producer: Producer) -> int | None:
    row = read.execute(
        "SELECT offset FROM requests WHERE run = ? AND producer = ? AND epoch = ? AND seq = ?", (number, *producer)
    ).fetchone()
    return row[0] if row else None


def find_snapshot(read: sqlite3.Connection, run: str) -> Snapshot | None:
    row = read.execute(
        "SELECT snapshots.offset, summary, state FROM snapshots JOIN runs ON number = run WHERE id = ?", (run,)
    ).fetchone()
    return Snapshot(*row) if row else None


def list_runs(read: sqlite3.Connection, page: Page) -> list[Run]:
    where, values = ["id < ?"], [page.before or "~"]
    if not page.visible.everything:
        named = sorted(page.visible.runs)
        where.append(f"(owner = ? OR creator = ? OR id IN ({', '.join('?' * len(named))}))")
        values += [page.visible.subject, page.visible.subject, *named]
    if page.visible.only is not None:
        where.append(f"id IN ({', '.join('?' * len(page.visible.only))})")
        values += sorted(page.visible.only)
    if page.status is not None:
        where.append("status = ?")
        values.append(page.status)
    if page.pipeline is not None:
        where.append("pipeline = ?")
        values.append(page.pipeline)
    rows = read.execute(f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?", (*values, page.limit))
    return [Run(*_values(row)) for row in rows]


def read_events(read: sqlite3.Connection, run: str, after: int, upto: int, limit: int, max_bytes: int) -> list[Event]:
    rows = read.execute(
        "SELECT offset, type, epoch || '-' || offset, json FROM events JOIN runs ON number = run"
        " WHERE id = ? AND offset > ? AND offset <= ? ORDER BY offset LIMIT ?",
        (run, after, upto, limit),
    )
    page: list[Event] = []
    size = 0
    for row in rows:
        page.append(Event(*row))
        size += len(row[3])
        if size > max_bytes:
            break
    return page


def _values(row: tuple[Any, ...]) -> list[Any]:
    values = list(row)
    values[len(_NEW) + 1] = Status(values[len(_NEW) + 1])
    return values


def _one(row: tuple[Any, ...] | None) -> Run | None:
    return Run(*_values(row)) if row else None
