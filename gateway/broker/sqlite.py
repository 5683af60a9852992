"""A broker on one SQLite file, for one gateway process.

Rule 1: one transaction for all that is pending. While a commit is under way further calls gather, and the next
commit takes them all; so the cost of a commit is shared, and no call waits for more than two.
Rule 2: SQL runs in threads of its own, one that writes and one that reads; the loop never waits for a disk.
Rule 3: when a write fails the broker is over: offsets have been given that the log does not hold. Everything after
it is refused (`broker.unavailable`), and the next start ends the interrupted runs.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from gateway.broker import sqlite_file as file
from gateway.broker.base import Key, NewRun, Page, Position, Producer, Run, Sink, Snapshot
from gateway.broker.stream import Stream, new_epoch
from gateway.errors import Conflict, NotFound, Unavailable
from gateway.wire.cursor import Cursor
from gateway.wire.events import Draft, Event
from gateway.wire.status import Status

KEY_LIFE_MS = 24 * 3600 * 1000
T = TypeVar("T")


class _Open(Stream):
    """A stream with its run's record as it stands in the file."""

    record: Run
    number: int
    started_at: int | None = None


class SqliteBroker:
    """Implements Broker. `path` is the file, `now` gives Unix seconds."""

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._streams: dict[str, _Open] = {}
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="sqlite-read")
        self._batch = file.Batch()
        self._waiting: list[tuple[asyncio.Future[None], _Open | None, Sequence[Event]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._keyed = asyncio.Lock()
        self._failure: BaseException | None = None
        self._next_number = 1

    @property
    def available(self) -> bool:
        return self._failure is None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            opened = await loop.run_in_executor(self._writer, file.open_writer, self._path)
            self._write, self._read, self._lock = opened
            self._next_number = await self._query(file.next_number)
            for number, record, producers in await self._query(file.open_runs):
                self._remember(number, record, tail=record.tail, status=record.status).producers.update(producers)
        except file.ERRORS as error:
            raise Unavailable("broker.unavailable", f"{self._path}: {error}") from None

    async def close(self) -> None:
        while self._committing is not None:
            await asyncio.wait([self._committing])
        loop = asyncio.get_running_loop()
        if hasattr(self, "_write"):
            await loop.run_in_executor(self._reader, self._read.close)
            await loop.run_in_executor(self._writer, file.close_writer, self._write, self._lock)
            del self._write
        self._failure = self._failure or RuntimeError("closed")
        self._reader.shutdown()
        self._writer.shutdown()

    async def create(self, run: NewRun, drafts: Sequence[Draft], *, key: Key | None = None) -> tuple[Run, bool]:
        if key is None:
            return await self._create(run, drafts, None), True
        # Two requests with one key must not both find it unused.
        async with self._keyed:
            earlier = await self._query(file.find_key, run.owner, key.text, self._ms() - KEY_LIFE_MS)
            if earlier is None:
                return await self._create(run, drafts, key), True
        digest, record = earlier
        if digest != key.digest:
            raise Conflict("key.conflict")
        open_ = self._streams.get(record.id)
        return (open_.record if open_ else record), False

    async def _create(self, run: NewRun, drafts: Sequence[Draft], key: Key | None) -> Run:
        self._check()
        now = self._ms()
        record = file.record(run, epoch=new_epoch(), created_at=now)
        number, self._next_number = self._next_number, self._next_number + 1
        stream = self._remember(number, record, tail=0, status=None)
        events = stream.seal(drafts, ts=now)
        self._batch.create(number, record)
        if key is not None:
            self._batch.key(run.owner, key, number, now)
        self._place(stream, events, now)
        await self._durable(stream, events)
        return stream.record

    async def append(self, run: str, drafts: Sequence[Draft], *, producer: Producer | None = None) -> Cursor:
        self._check()
        stream = self._streams.get(run)
        if stream is None:
            return await self._append_to_finished(run, producer)
        if producer is not None and stream.is_repeat(producer):
            await self._durable(None, ())  # the original may still be on its way to the disk
            offset = await self._query(file.find_request, stream.number, producer)
            return Cursor(stream.epoch, offset or stream.visible)
        now = self._ms()
        events = stream.seal(drafts, ts=now)
        cursor = stream.cursor
        if producer is not None:
            stream.advance(producer)
            self._batch.request(stream.number, producer, cursor.offset)
        self._place(stream, events, now)
        await self._durable(stream, events)
        return cursor

    async def _append_to_finished(self, run: str, producer: Producer | None) -> Cursor:
        record = await self._query(file.find_run, run)
        if record is None:
            raise NotFound
        number = await self._query(file.number_of, run)
        offset = None
        if producer is not None and number is not None:
            offset = await self._query(file.find_request, number, producer)
        if offset is None:
            raise Conflict("run.finished")
        return Cursor(record.epoch, offset)

    async def get(self, run: str) -> Run | None:
        stream = self._streams.get(run)
        if stream is not None:
            return stream.record if stream.visible else None
        return await self._query(file.find_run, run)

    async def page(self, page: Page) -> list[Run]:
        records = await self._query(file.list_runs, page)
        return [self._streams[run.id].record if run.id in self._streams else run for run in records]

    async def unfinished(self) -> list[Run]:
        return [stream.record for stream in self._streams.values() if not stream.settled.terminal]

    async def read(self, run: str, *, after: int, upto: int, limit: int, max_bytes: int) -> list[Event]:
        if after >= upto:
            return []
        return await self._query(file.read_events, run, after, upto, limit, max_bytes)

    async def keep(self, run: str, snapshot: Snapshot) -> None:
        self._check()
        self._batch.snapshot(run, snapshot)
        await self._durable(None, ())

    async def snapshot(self, run: str) -> Snapshot | None:
        return await self._query(file.find_snapshot, run)

    async def erase(self, run: str) -> None:
        if run in self._streams:
            raise Conflict("run.active")
        number = await self._query(file.number_of, run)
        if number is None:
            raise NotFound
        self._batch.erase(number)
        await self._durable(None, ())

    async def watch(self, run: str, sink: Sink) -> Position | None:
        stream = self._streams.get(run)
        if stream is not None:
            stream.sinks.append(sink)
            return stream.position
        record = await self._query(file.find_run, run)
        return Position(record.epoch, record.floor, record.tail, record.status) if record else None

    def unwatch(self, run: str, sink: Sink) -> None:
        stream = self._streams.get(run)
        if stream is not None and sink in stream.sinks:
            stream.sinks.remove(sink)

    def _ms(self) -> int:
        return int(self._now() * 1000)

    def _remember(self, number: int, record: Run, *, tail: int, status: Status | None) -> _Open:
        stream = _Open(record.id, record.epoch, status=status, tail=tail, floor=record.floor)
        stream.number, stream.record, stream.started_at = number, record, record.started_at
        self._streams[record.id] = stream
        return stream

    def _place(self, stream: _Open, events: Sequence[Event], now: int) -> None:
        self._batch.events(stream.number, events)
        if any(event.type.startswith("run.") for event in events) and stream.status is not None:
            if any(event.type == "run.started" for event in events):
                stream.started_at = now
            finished_at = now if stream.status.terminal else None
            self._batch.status(
                stream.number,
                stream.status,
                tail=stream.tail,
                started_at=stream.started_at,
                finished_at=finished_at,
            )

    async def _durable(self, stream: _Open | None, events: Sequence[Event]) -> None:
        """Return when all that was put into the batch up to now is committed."""
        self._check()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((done, stream, events))
        if self._committing is None:
            self._committing = loop.create_task(self._commit())
        await done

    async def _commit(self) -> None:
        """Owned by the broker, alive while anything is pending; `close` waits for it."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._batch = self._batch, file.Batch()
                waiting, self._waiting = self._waiting, []
                try:
                    await loop.run_in_executor(self._writer, batch.commit, self._write)
                except BaseException as error:  # noqa: BLE001 - whatever it was, the offsets are spent
                    self._fail(error, waiting)
                    return
                for done, stream, events in waiting:
                    if stream is not None:
                        self._settle(stream, events)
                    if not done.done():
                        done.set_result(None)
        finally:
            self._committing = None

    def _settle(self, stream: _Open, events: Sequence[Event]) -> None:
        if events and events[-1].offset == stream.tail and stream.status is not None and stream.status.terminal:
            del self._streams[stream.run]
        stream.reached(events)
        stream.record = replace(stream.record, status=stream.settled, tail=stream.visible, started_at=stream.started_at)

    def _fail(self, error: BaseException, waiting: Sequence[tuple[asyncio.Future[None], object, object]]) -> None:
        self._failure = error
        for done, _, _ in [*waiting, *self._waiting]:
            if not done.done():
                done.set_exception(Unavailable("broker.unavailable"))
                done.exception()  # the caller may be gone
        self._waiting = []

    def _check(self) -> None:
        if self._failure is not None:
            raise Unavailable("broker.unavailable")

    async def _query(self, question: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._reader, partial(question, self._read, *args))
        except file.ERRORS:
            self._check()
            raise Unavailable("broker.unavailable") from None
