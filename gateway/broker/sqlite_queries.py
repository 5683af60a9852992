"""What the SQLite broker asks of its file: plain functions of the reading connection."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from gateway.broker.base import NewRun, Page, Producer, Revocation, Run, Snapshot
from gateway.wire.events import Event
from gateway.wire.status import Status

COLUMNS = [spec.name for spec in fields(NewRun)]
_RECORD = ", ".join(
    f"runs.{name}" for name in [*COLUMNS, "epoch", "status", "created_at", "started_at", "finished_at", "floor", "tail"]
)
# A state that was kept before the run ended says nothing of its end.
_SELECT = (
    f"SELECT {_RECORD}, snapshots.summary FROM runs LEFT JOIN snapshots ON snapshots.run = runs.number"  # nosec B608 # noqa: S608 - names of our own columns
    " AND runs.finished_at IS NOT NULL AND snapshots.offset >= runs.tail"
)


def record(run: NewRun, *, epoch: str, created_at: int) -> Run:
    values: dict[str, Any] = {name: getattr(run, name) for name in COLUMNS}
    return Run(**values, epoch=epoch, created_at=created_at)


def next_number(read: sqlite3.Connection) -> int:
    last: int | None = read.execute("SELECT max(number) FROM runs").fetchone()[0]
    return (last or 0) + 1


class OpenRun(NamedTuple):
    """An unfinished run as the file has it. `recorded`: `bytes` as its record says; `producers`: `(epoch, seq)`."""

    number: int
    record: Run
    bytes: int
    recorded: int
    producers: dict[str, tuple[int, int]]


def open_runs(read: sqlite3.Connection) -> list[OpenRun]:
    """Every unfinished run; the record's tail is the real one."""
    numbers = read.execute("SELECT number, bytes FROM runs WHERE finished_at IS NULL").fetchall()
    found = []
    for number, recorded in numbers:
        row = read.execute(f"{_SELECT} WHERE number = ?", (number,)).fetchone()
        tail, size = read.execute(
            "SELECT max(offset), coalesce(sum(length(json)), 0) FROM events WHERE run = ?", (number,)
        ).fetchone()
        producers = read.execute(
            "SELECT producer, epoch, max(seq) FROM requests AS r WHERE run = ? AND epoch ="
            " (SELECT max(epoch) FROM requests WHERE run = r.run AND producer = r.producer) GROUP BY producer",
            (number,),
        )
        values = dict(zip(Run.__dataclass_fields__, _values(row), strict=True)) | {"tail": tail or 0}
        latest = {name: (epoch, seq) for name, epoch, seq in producers}
        found.append(OpenRun(number, Run(**values), size, recorded, latest))
    return found


def finished_bytes(read: sqlite3.Connection) -> int:
    total: int = read.execute("SELECT coalesce(sum(bytes), 0) FROM runs WHERE finished_at IS NOT NULL").fetchone()[0]
    return total


def oldest_finished(read: sqlite3.Connection, limit: int) -> list[Run]:
    rows = read.execute(f"{_SELECT} WHERE finished_at IS NOT NULL ORDER BY finished_at, number LIMIT ?", (limit,))
    return [Run(*_values(row)) for row in rows]


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


def find_past(read: sqlite3.Connection, run: str) -> bytes:
    row = read.execute("SELECT past FROM snapshots JOIN runs ON number = run WHERE id = ?", (run,)).fetchone()
    return row[0] if row else b""


def list_runs(read: sqlite3.Connection, page: Page) -> list[Run]:
    unfinished = page.status is not None and not page.status.terminal
    # Few runs are unfinished, and an index has them; in the order of the ids all others would be looked at, too.
    id = "+id" if unfinished else "id"
    where: list[str] = [f"{id} < ?"]
    values: list[Any] = [page.before or "~"]
    if page.visible.only is not None:
        where.append(f"id IN ({', '.join('?' * len(page.visible.only))})")
        values += sorted(page.visible.only)
    if page.status is not None:
        where.append("status = ? AND finished_at IS NULL" if unfinished else "status = ?")
        values.append(page.status)
    if page.pipeline is not None:
        where.append("pipeline = ?")
        values.append(page.pipeline)
    wanted, values = f"{' AND '.join(where)} ORDER BY {id} DESC LIMIT ?", [*values, page.limit]
    if not page.visible.everything:
        # Each way to see a run has an index in the page's order. Asked for all ways at once, every run is looked at.
        ways = {"owner = ?": [page.visible.subject], "creator = ?": [page.visible.subject]}
        ways[f"id IN ({', '.join('?' * len(page.visible.runs))})"] = sorted(page.visible.runs)
        seen = " UNION ".join(f"SELECT * FROM (SELECT number FROM runs WHERE {way} AND {wanted})" for way in ways)  # nosec B608 # noqa: S608 - names of our own columns
        values = [value for named in ways.values() for value in (*named, *values)]
        wanted, values = f"number IN ({seen}) ORDER BY +id DESC LIMIT ?", [*values, page.limit]
    return [Run(*_values(row)) for row in read.execute(f"{_SELECT} WHERE {wanted}", values)]


def read_events(read: sqlite3.Connection, run: str, after: int, upto: int, limit: int, max_bytes: int) -> list[Event]:
    found = read.execute("SELECT number, epoch FROM runs WHERE id = ?", (run,)).fetchone()
    if found is None:
        return []
    number, epoch = found
    rows: Iterable[tuple[int, str, bytes]] = read.execute(
        "SELECT offset, type, json FROM events WHERE run = ? AND offset > ? AND offset <= ? ORDER BY offset LIMIT ?",
        (number, after, upto, limit),
    )
    page: list[Event] = []
    # Whoever joins a long run waits for this loop, so it asks the file for no column that it can spell itself.
    for offset, type, json in rows:
        page.append(Event(offset, type, f"{epoch}-{offset}", json, run))
        max_bytes -= len(json)
        if max_bytes < 0:
            break
    return page


def page_of(events: Sequence[Event], upto: int, limit: int, max_bytes: int) -> list[Event]:
    """What `read_events` would give of these, which lie in memory."""
    page: list[Event] = []
    for event in events[:limit]:
        if event.offset > upto:
            break
        page.append(event)
        max_bytes -= len(event.json)
        if max_bytes < 0:
            break
    return page


def revocations(read: sqlite3.Connection) -> list[Revocation]:
    return [Revocation(*row) for row in read.execute("SELECT kind, name, at FROM revocations")]


def _values(row: tuple[Any, ...]) -> list[Any]:
    values = list(row)
    values[len(COLUMNS) + 1] = Status(values[len(COLUMNS) + 1])
    return values


def _one(row: tuple[Any, ...] | None) -> Run | None:
    return Run(*_values(row)) if row else None
