"""Opening and closing the file of the SQLite broker.

Rule 1: a file belongs to one gateway at a time.
Rule 2: a stop that was not clean is looked into. When the machine itself went down, a log that was not synced to the
disk may have lost events that clients have seen; then every unfinished run gets a new epoch.
"""

import fcntl
import sqlite3
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gateway.broker.sqlite_journal import move
from gateway.broker.stream import new_epoch

# Each takes the file from one version to the next.
SCRIPTS = ("schema.sql", "journal.sql", "revocations.sql", "pasts.sql", "indexes.sql")
ERRORS = (sqlite3.Error, OSError)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Opened(NamedTuple):
    """A connection that writes, one that reads, and the lock that keeps other gateways off the file."""

    write: sqlite3.Connection
    read: sqlite3.Connection
    lock: BinaryIO


def boot_id() -> str:
    """Which boot of the machine this is; "" where that cannot be told."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def is_damage(error: BaseException) -> bool:
    """Whether the file is not what it was, which no second try will change."""
    return type(error) is sqlite3.DatabaseError  # SQLITE_CORRUPT and SQLITE_NOTADB; the rest has classes of its own


def open_file(path: Path, *, durable: bool, boot: str) -> Opened:
    """`durable`: each commit reaches the disk before it counts. Raises one of ERRORS."""
    path = path.resolve()  # whatever names a file has, it has one lock
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(path.name + "-lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise OSError("another gateway has it open") from None
    opened: list[sqlite3.Connection | BinaryIO] = [lock]
    try:
        opened.append(write := _connect(path))
        write.execute("PRAGMA journal_mode=WAL")
        # A loss of power must not take back that the file was opened, or the next start would believe in a clean stop.
        write.execute("PRAGMA synchronous=FULL")
        _migrate(write)
        move(write)
        _look_into_last_stop(write, durable=durable, boot=boot)
        if not durable:
            write.execute("PRAGMA synchronous=NORMAL")
        opened.append(read := _connect(path))
        read.execute("PRAGMA query_only=ON")
    except BaseException:
        for each in reversed(opened):
            each.close()
        raise
    return Opened(write, read, lock)


def close_file(opened: Opened) -> None:
    """Raises one of ERRORS when the file can no longer be written; it is closed all the same."""
    try:
        opened.read.close()
        move(opened.write)
        opened.write.execute("UPDATE opening SET clean = 1")
    finally:
        opened.write.close()
        opened.lock.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(write: sqlite3.Connection) -> None:
    version = write.execute("PRAGMA user_version").fetchone()[0]
    if version > len(SCRIPTS):
        raise sqlite3.DatabaseError(f"schema version {version}, this gateway knows {len(SCRIPTS)}")
    if version < len(SCRIPTS):
        missing = "".join(files("gateway.broker").joinpath(name).read_text() for name in SCRIPTS[version:])
        write.executescript(f"BEGIN; {missing} PRAGMA user_version={len(SCRIPTS)}; COMMIT;")


def _look_into_last_stop(write: sqlite3.Connection, *, durable: bool, boot: str) -> None:
    last_boot, clean, was_durable = write.execute("SELECT boot, clean, durable FROM opening").fetchone()
    write.execute("BEGIN IMMEDIATE")
    if not (clean or was_durable or (boot and boot == last_boot)):
        for number, epoch in write.execute("SELECT number, epoch FROM runs WHERE finished_at IS NULL").fetchall():
            _change_epoch(write, number, epoch, new_epoch())
    write.execute("UPDATE opening SET boot = ?, clean = 0, durable = ?", (boot, durable))
    write.execute("COMMIT")


def _change_epoch(write: sqlite3.Connection, number: int, old: str, new: str) -> None:
    """An event's JSON holds its cursor, right behind type and run, whose values cannot contain this text."""
    was, will_be = b'"id":"%b-' % old.encode(), b'"id":"%b-' % new.encode()
    write.execute("UPDATE runs SET epoch = ? WHERE number = ?", (new, number))
    # Inside SQLite, as a run may be larger than memory.
    write.create_function("renamed", 1, lambda json: json.replace(was, will_be, 1))
    write.execute("UPDATE events SET json = renamed(json) WHERE run = ?", (number,))
