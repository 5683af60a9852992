"""The unfinished runs that this process is in charge of, and how many there may be."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from gateway.broker import Broker, NewRun, Run
from gateway.errors import TooMany
from gateway.hub import Pasts
from gateway.runs.active import ActiveRun
from gateway.runs.counts import Counts
from gateway.runs.limits import Limits
from gateway.wire.events import Event
from gateway.wire.fold import fold
from gateway.wire.state import State

EXTERNAL = "external"
FOLD_EVENTS = 1000
FOLD_BYTES = 1 << 20
BUSY_RETRY_MS = 5000


class Roster:
    """`now` gives Unix seconds."""

    def __init__(self, broker: Broker, *, limits: Limits, now: Callable[[], float], pasts: Pasts) -> None:
        self.limits = limits
        self._broker = broker
        self._now = now
        self._pasts = pasts
        self.counts = Counts()
        self._active: dict[str, ActiveRun] = {}
        self._owners: Counter[str] = Counter()

    def __iter__(self) -> Iterator[ActiveRun]:
        return iter(tuple(self._active.values()))

    def __len__(self) -> int:
        return len(self._active)

    def get(self, run: str) -> ActiveRun | None:
        return self._active.get(run)

    def reserve(self, owner: str) -> None:
        """Take a place for one more run of this owner. Raises TooMany (`limit.runs`)."""
        full = self._owners.total() >= self.limits.max_runs
        if full or self._owners[owner] >= self.limits.max_runs_per_subject:
            raise TooMany("limit.runs", retry_after_ms=BUSY_RETRY_MS)
        self._owners[owner] += 1

    def cede(self, owner: str) -> None:
        """Give a place back."""
        self._owners[owner] -= 1
        if self._owners[owner] <= 0:
            del self._owners[owner]

    def readmit(self, owner: str) -> None:
        """Take a place for a run that was there before the limits were asked."""
        self._owners[owner] += 1

    def expect(self, run: NewRun) -> ActiveRun:
        """Take charge of a run that is about to be made, so that whoever finds it finds it here."""
        active = self._made(run, began_ms=round(self._now() * 1000))
        active.take_over(State(), 0)
        self._active[run.id] = active
        return active

    def _made(self, run: NewRun, *, began_ms: int) -> ActiveRun:
        return ActiveRun(
            self._broker,
            run,
            began_ms=began_ms,
            limits=self.limits,
            now=self._now,
            counts=self.counts,
            pasts=self._pasts,
        )

    async def adopt(self, record: Run) -> ActiveRun:
        """Take charge of an unfinished run: fold what its stream holds, and follow it."""
        active = self._made(record, began_ms=record.created_at)
        position = await self._broker.watch(record.id, active.observe, patient=True)
        tail = position.tail if position else 0

        def told(page: Sequence[Event]) -> None:
            most = self.limits.max_event_bytes
            self._pasts.grow(record.id, fold(page, max_bytes=most), first=page[0].offset, max_bytes=most)

        active.take_over(await fold_log(self._broker, record.id, upto=tail, told=told), tail)
        self._active[record.id] = active
        return active

    def watching(self, run: str, change: int) -> None:
        """A run has a viewer more or less."""
        active = self._active.get(run)
        if active is not None:
            active.viewers.change(change)

    def release(self, active: ActiveRun) -> None:
        """The run has ended, or was never made."""
        if self._active.pop(active.id, None) is not None:
            self._broker.unwatch(active.id, active.observe)
            self.cede(active.record.owner)
            if active.state.status.terminal:
                now, asked_at = asyncio.get_running_loop().time(), active.cancelling_at
                self.counts.ended(
                    active.record.pipeline,
                    active.state.status,
                    duration_s=active.duration_ms() / 1000,
                    cancel_s=None if asked_at is None else now - asked_at,
                )


async def fold_log(
    broker: Broker, run: str, *, upto: int, told: Callable[[Sequence[Event]], None] = lambda _page: None
) -> State:
    """A run's state: its stored snapshot and the events after it, up to and with an offset. `told` gets these, too."""
    kept = await broker.snapshot(run)
    state, tail = (State.load(kept.state), kept.offset) if kept else (State(), 0)
    while page := await broker.read(run, after=tail, upto=upto, limit=FOLD_EVENTS, max_bytes=FOLD_BYTES):
        for event in page:
            state.apply(event)
        told(page)
        tail = page[-1].offset
        await asyncio.sleep(0)
    return state
