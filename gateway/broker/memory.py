"""A broker that keeps everything in this process and promises nothing beyond its life."""

import asyncio
import bisect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

from gateway.broker.base import (
    Key,
    NewRun,
    Page,
    Position,
    Producer,
    Revocation,
    Run,
    Sink,
    Snapshot,
)
from gateway.broker.counts import Counts
from gateway.broker.stream import Stream, new_epoch
from gateway.errors import Conflict, NotFound
from gateway.wire.cursor import Cursor
from gateway.wire.events import Draft, Event
from gateway.wire.status import Status

KEY_LIFE_S = 24 * 3600


@dataclass(slots=True)
class _Kept:
    run: Run
    stream: Stream
    events: list[Event] = field(default_factory=list)
    snapshot: Snapshot | None = None
    replies: dict[Producer, Cursor] = field(default_factory=dict)


class MemoryBroker:
    """Implements Broker. `now` gives Unix seconds."""

    available = True
    queue = 0

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self.counts = Counts()
        self._now = now
        self._runs: dict[str, _Kept] = {}
        self._keys: dict[tuple[str, str], tuple[bytes, str, float]] = {}
        self._revocations: dict[tuple[str, str], int] = {}

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def lost(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def create(
        self, run: NewRun, drafts: Sequence[Draft], *, key: Key | None = None, sink: Sink | None = None
    ) -> tuple[Run, bool]:
        if key is not None and (earlier := self._earlier(run.owner, key)):
            return earlier, False
        stream = Stream(run.id, new_epoch())
        copied = {spec.name: getattr(run, spec.name) for spec in fields(NewRun)}
        kept = self._runs[run.id] = _Kept(Run(**copied, epoch=stream.epoch), stream)
        if key is not None:
            self._keys[run.owner, key.text] = (key.digest, run.id, self._now())
        if sink is not None:
            stream.watch(sink, patient=True)
        stream.reached(self._place(kept, drafts))
        return kept.run, True

    async def find_key(self, owner: str, key: Key) -> Run | None:
        return self._earlier(owner, key)

    async def append(self, run: str, drafts: Sequence[Draft], *, producer: Producer | None = None) -> Cursor:
        kept = self._find(run)
        if producer is not None and not kept.run.status.terminal:
            kept.stream.is_repeat(producer)  # a fenced producer is told so, also when it repeats
        if producer is not None and producer in kept.replies:
            return kept.replies[producer]
        events = self._place(kept, drafts)
        if producer is not None:
            kept.stream.advance(producer)
            kept.replies[producer] = kept.stream.cursor
        kept.stream.reached(events)
        return kept.stream.cursor

    def append_nowait(self, run: str, draft: Draft) -> int:
        kept = self._find(run)
        kept.stream.reached(self._place(kept, [draft]))
        return kept.stream.tail

    async def durable(self) -> None:
        """Nothing to wait for."""

    async def get(self, run: str) -> Run | None:
        kept = self._runs.get(run)
        return kept.run if kept else None

    async def page(self, page: Page) -> list[Run]:
        runs = sorted((kept.run for kept in self._runs.values()), key=lambda run: run.id, reverse=True)
        return [
            run
            for run in runs
            if page.visible.shows(run)
            and (page.status is None or run.status == page.status)
            and (page.pipeline is None or run.pipeline == page.pipeline)
            and (page.before is None or run.id < page.before)
        ][: page.limit]

    async def unfinished(self) -> list[Run]:
        return [kept.run for kept in self._runs.values() if not kept.run.status.terminal]

    async def read(self, run: str, *, after: int, upto: int, limit: int, max_bytes: int) -> list[Event]:
        kept = self._runs.get(run)
        if kept is None:
            return []
        first = bisect.bisect_right(kept.events, after, key=lambda event: event.offset)
        page: list[Event] = []
        size = 0
        for event in kept.events[first : first + limit]:
            if event.offset > upto or size > max_bytes:
                break
            size += len(event.json)
            page.append(event)
        return page

    async def snapshot(self, run: str) -> Snapshot | None:
        kept = self._runs.get(run)
        return kept.snapshot._replace(past=b"") if kept and kept.snapshot else None

    async def past(self, run: str) -> bytes:
        kept = self._runs.get(run)
        return kept.snapshot.past if kept and kept.snapshot else b""

    async def keep(self, run: str, snapshot: Snapshot, *, max_events: int, max_bytes: int) -> int:
        kept = self._runs.get(run)
        if kept is None:
            return 0
        kept.snapshot = snapshot
        ended = kept.run.status.terminal and snapshot.offset >= kept.run.tail
        kept.run = replace(kept.run, summary=snapshot.summary if ended else None)
        cut = max(0, len(kept.events) - max_events)
        held = sum(len(event.json) for event in kept.events[cut:])
        while held > max_bytes and cut < len(kept.events) - 1:
            held -= len(kept.events[cut].json)
            cut += 1
        cut = min(cut, snapshot.offset - kept.stream.floor)
        held = sum(len(event.json) for event in kept.events[cut:])
        if cut > 0:
            kept.stream.floor = kept.events[cut - 1].offset
            kept.stream.bytes = held
            del kept.events[:cut]
            kept.run = replace(kept.run, floor=kept.stream.floor)
        return kept.stream.floor

    def weigh(self, run: str) -> tuple[int, int]:
        kept = self._runs.get(run)
        return (len(kept.events), kept.stream.bytes) if kept and not kept.run.status.terminal else (0, 0)

    async def total_bytes(self) -> int:
        return sum(kept.stream.bytes for kept in self._runs.values())

    async def oldest_finished(self, limit: int) -> list[Run]:
        finished = [kept.run for kept in self._runs.values() if kept.run.status.terminal]
        return sorted(finished, key=lambda run: run.finished_at or 0)[:limit]

    async def erase(self, run: str) -> None:
        if not self._find(run).run.status.terminal:
            raise Conflict("run.active")
        del self._runs[run]
        self._keys = {place: value for place, value in self._keys.items() if value[1] != run}

    async def revoke(self, revocation: Revocation, *, forget_before: int) -> None:
        place = (revocation.kind, revocation.name)
        latest = {**self._revocations, place: max(revocation.at, self._revocations.get(place, 0))}
        self._revocations = {place: at for place, at in latest.items() if at >= forget_before}

    async def revocations(self) -> list[Revocation]:
        return [Revocation(*place, at) for place, at in self._revocations.items()]

    async def watch(self, run: str, sink: Sink, *, patient: bool = False) -> Position | None:
        kept = self._runs.get(run)
        if kept is None:
            return None
        kept.stream.watch(sink, patient=patient)
        return kept.stream.position

    def unwatch(self, run: str, sink: Sink) -> None:
        kept = self._runs.get(run)
        if kept is not None:
            kept.stream.unwatch(sink)

    def _find(self, run: str) -> _Kept:
        kept = self._runs.get(run)
        if kept is None:
            raise NotFound
        return kept

    def _place(self, kept: _Kept, drafts: Sequence[Draft]) -> list[Event]:
        ts = int(self._now() * 1000)
        events = kept.stream.seal(drafts, ts=ts)
        kept.events += events
        run = kept.run = replace(
            kept.run,
            tail=kept.stream.tail,
            status=kept.stream.status or Status.QUEUED,
            created_at=kept.run.created_at or ts,
        )
        if any(event.type == "run.started" for event in events):
            run = kept.run = replace(run, started_at=ts)
        if run.status.terminal:
            kept.run = replace(run, finished_at=ts)
        return events

    def _earlier(self, owner: str, key: Key) -> Run | None:
        digest, id, at = self._keys.get((owner, key.text), (b"", "", 0.0))
        if id not in self._runs or at < self._now() - KEY_LIFE_S:
            return None
        if digest != key.digest:
            raise Conflict("key.conflict")
        return self._runs[id].run
