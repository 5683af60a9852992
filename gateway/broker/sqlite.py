"""A broker on one SQLite file, for one gateway process.

Rule 1: what can be known from memory is: unfinished runs are few, and their streams' ends are held here. Everything
else is asked of the file.
Rule 2: when a write fails the broker is over. Everything after it is refused (`broker.unavailable`), and the next
start ends the interrupted runs.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.broker import sqlite_file as file
from gateway.broker import sqlite_queries as queries
from gateway.broker.base import Key, NewRun, Page, Position, Producer, Revocation, Run, Sink, Snapshot
from gateway.broker.counts import Counts
from gateway.broker.sqlite_batch import OpenStream, Placed, erase_some, keep, revoke
from gateway.broker.sqlite_commit import GroupCommit
from gateway.broker.stream import new_epoch
from gateway.errors import Conflict, NotFound, Unavailable
from gateway.wire.cursor import Cursor
from gateway.wire.events import Draft, Event
from gateway.wire.status import AFTER, TERMINAL_TYPES, Status

KEY_LIFE_MS = 24 * 3600 * 1000


class SqliteBroker:
    """Implements Broker. `path` is the file; `durable`: what is committed survives a loss of power too.

    `boot` tells one boot of the machine from another (default: the kernel's id); `now` gives Unix seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = False,
        boot: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._durable = durable
        self._boot = file.boot_id() if boot is None else boot
        self._now = now
        self._streams: dict[str, OpenStream] = {}
        self._commits = GroupCommit(path, settle=self._settle)
        self._keyed = asyncio.Lock()
        self._next_number = 1

    @property
    def available(self) -> bool:
        return self._commits.available

    @property
    def counts(self) -> Counts:
        return self._commits.counts

    @property
    def queue(self) -> int:
        return self._commits.queue

    async def lost(self) -> None:
        await self._commits.over.wait()

    async def open(self) -> None:
        try:
            await self._commits.open(durable=self._durable, boot=self._boot)
        except file.ERRORS as error:
            raise Unavailable("broker.unavailable", f"{self._path}: {error}") from None
        self._next_number = await self._commits.query(queries.next_number)
        for kept in await self._commits.query(queries.open_runs):
            stream = self._remember(kept.number, kept.record, tail=kept.record.tail, status=kept.record.status)
            stream.bytes, stream.recorded = kept.bytes, kept.recorded
            stream.producers.update(kept.producers)

    async def close(self) -> None:
        await self._commits.close()

    async def create(
        self, run: NewRun, drafts: Sequence[Draft], *, key: Key | None = None, sink: Sink | None = None
    ) -> tuple[Run, bool]:
        if key is None:
            return await self._create(run, drafts, None, sink), True
        # Two requests with one key must not both find it unused.
        async with self._keyed:
            earlier = await self._commits.query(queries.find_key, run.owner, key.text, self._ms() - KEY_LIFE_MS)
            if earlier is None:
                return await self._create(run, drafts, key, sink), True
        return self._earlier(key, *earlier), False

    async def find_key(self, owner: str, key: Key) -> Run | None:
        earlier = await self._commits.query(queries.find_key, owner, key.text, self._ms() - KEY_LIFE_MS)
        return self._earlier(key, *earlier) if earlier is not None else None

    def _earlier(self, key: Key, digest: bytes, record: Run) -> Run:
        if digest != key.digest:
            raise Conflict("key.conflict")
        stream = self._streams.get(record.id)
        return stream.record if stream else record

    async def _create(self, run: NewRun, drafts: Sequence[Draft], key: Key | None, sink: Sink | None) -> Run:
        self._commits.check()
        now = self._ms()
        record = queries.record(run, epoch=new_epoch(), created_at=now)
        number, self._next_number = self._next_number, self._next_number + 1
        stream = self._remember(number, record, tail=0, status=None)
        if sink is not None:
            stream.watch(sink, patient=True)
        events = stream.seal(drafts, ts=now)
        self._commits.batch.create(number, record)
        if key is not None:
            self._commits.batch.key(run.owner, key, number, now)
        self._place(stream, events, now)
        await self._commits.durable()
        return stream.record

    async def append(self, run: str, drafts: Sequence[Draft], *, producer: Producer | None = None) -> Cursor:
        self._commits.check()
        stream = self._streams.get(run)
        if stream is None:
            return await self._append_to_finished(run, producer)
        if producer is not None and stream.is_repeat(producer):
            await self._commits.durable()  # the original may still be on its way to the disk
            offset = await self._commits.query(queries.find_request, stream.number, producer)
            return Cursor(stream.epoch, offset or stream.visible)
        now = self._ms()
        events = stream.seal(drafts, ts=now)
        cursor = stream.cursor
        if producer is not None:
            stream.advance(producer)
            self._commits.batch.request(stream.number, producer, cursor.offset)
        self._place(stream, events, now)
        await self._commits.durable()
        return cursor

    def append_nowait(self, run: str, draft: Draft) -> int:
        self._commits.check()
        stream = self._streams.get(run)
        if stream is None:
            # A stream is let go of when it has ended, and nobody appends to a run that never was.
            raise Conflict("run.finished")
        now = self._ms()
        self._place(stream, stream.seal((draft,), ts=now), now)
        self._commits.soon(seen=stream.watched)
        return stream.tail

    async def durable(self) -> None:
        await self._commits.durable()

    async def _append_to_finished(self, run: str, producer: Producer | None) -> Cursor:
        record = await self._commits.query(queries.find_run, run)
        if record is None:
            raise NotFound
        number = await self._commits.query(queries.number_of, run)
        offset = None
        if producer is not None and number is not None:
            offset = await self._commits.query(queries.find_request, number, producer)
        if offset is None:
            raise Conflict("run.finished")
        return Cursor(record.epoch, offset)

    async def get(self, run: str) -> Run | None:
        self._commits.check()
        stream = self._streams.get(run)
        if stream is not None and stream.visible:
            return stream.record
        # A run that is being made is listed as soon as it is in the file, a moment before it is settled here.
        return await self._commits.query(queries.find_run, run)

    async def page(self, page: Page) -> list[Run]:
        records = await self._commits.query(queries.list_runs, page)
        return [self._streams[run.id].record if run.id in self._streams else run for run in records]

    async def unfinished(self) -> list[Run]:
        return [stream.record for stream in self._streams.values() if not stream.settled.terminal]

    async def read(self, run: str, *, after: int, upto: int, limit: int, max_bytes: int) -> list[Event]:
        self._commits.check()
        if after >= upto:
            return []
        fresh = self._commits.journal.of(run, after=after, limit=limit)
        placed = min(upto, fresh[0].offset - 1) if fresh else upto
        page: list[Event] = []
        if after < placed:
            page = await self._commits.query(queries.read_events, run, after, placed, limit, max_bytes)
            limit -= len(page)
            max_bytes -= sum(len(event.json) for event in page)
        if limit > 0 and max_bytes >= 0:
            page += queries.page_of(fresh, upto, limit, max_bytes)
        return page

    async def snapshot(self, run: str) -> Snapshot | None:
        return await self._commits.query(queries.find_snapshot, run)

    async def past(self, run: str) -> bytes:
        return await self._commits.query(queries.find_past, run)

    async def keep(self, run: str, snapshot: Snapshot, *, max_events: int, max_bytes: int) -> int:
        fresh, stream = self._commits.journal.of(run), self._streams.get(run)
        unrecorded = stream.bytes - stream.recorded if stream is not None else 0
        floor, gone = await self._commits.change(keep, run, fresh, unrecorded, snapshot, max_events, max_bytes)
        if fresh:
            self._commits.journal.placed(run, fresh[-1].offset)
        if stream is not None:
            stream.forgot(floor, gone)
        return floor

    def weigh(self, run: str) -> tuple[int, int]:
        stream = self._streams.get(run)
        return (stream.visible - stream.floor, stream.bytes) if stream else (0, 0)

    async def total_bytes(self) -> int:
        finished = await self._commits.query(queries.finished_bytes)
        return finished + sum(stream.bytes for stream in self._streams.values())

    async def oldest_finished(self, limit: int) -> list[Run]:
        return await self._commits.query(queries.oldest_finished, limit)

    async def erase(self, run: str) -> None:
        if run in self._streams:
            raise Conflict("run.active")
        number = await self._commits.query(queries.number_of, run)
        if number is None:
            raise NotFound
        # In pieces, so that no commit has to wait for a long one.
        while await self._commits.change(erase_some, number):
            pass
        self._commits.journal.forget(run)

    async def revoke(self, revocation: Revocation, *, forget_before: int) -> None:
        await self._commits.change(revoke, revocation, forget_before)

    async def revocations(self) -> list[Revocation]:
        return await self._commits.query(queries.revocations)

    async def watch(self, run: str, sink: Sink, *, patient: bool = False) -> Position | None:
        stream = self._streams.get(run)
        if stream is not None:
            stream.watch(sink, patient=patient)
            if stream.watched and stream.tail > stream.visible:
                self._commits.soon(seen=True)
            return stream.position
        record = await self._commits.query(queries.find_run, run)
        return Position(record.epoch, record.floor, record.tail, record.status) if record else None

    def unwatch(self, run: str, sink: Sink) -> None:
        stream = self._streams.get(run)
        if stream is not None:
            stream.unwatch(sink)

    def _ms(self) -> int:
        return int(self._now() * 1000)

    def _remember(self, number: int, record: Run, *, tail: int, status: Status | None) -> OpenStream:
        stream = OpenStream(record.id, record.epoch, status=status, tail=tail, floor=record.floor)
        stream.number, stream.made, stream.started_at = number, record, record.started_at
        self._streams[record.id] = stream
        return stream

    def _place(self, stream: OpenStream, events: list[Event], now: int) -> None:
        self._commits.batch.events(stream, events)
        for event in events:
            if event.type in AFTER and stream.status is not None:
                if event.type == "run.started":
                    stream.started_at = now
                self._commits.batch.status(stream, stream.status, finished_at=now if stream.status.terminal else None)

    def _settle(self, placed: Placed) -> None:
        for stream, events in placed.items():
            if events[-1].type in TERMINAL_TYPES:
                del self._streams[stream.run]
            stream.reached(events)
