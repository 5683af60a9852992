"""Logs that take their time, so that whatever can come between a question and its answer does.

Rule 1: they keep the contract of `gateway.broker`. What is not durable yet can be found by nobody.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gateway.broker import MemoryBroker, Page, Run, SqliteBroker
from gateway.errors import Conflict
from gateway.wire.events import Event

TURNS = (0, 0, 1, 2, 5)
MOMENT_S = 1 / 128
FILE_S = (0, 0, 0, 0.001, 0.004)


class UnsteadyMemory(MemoryBroker):
    """Answers some turns of the loop later than it could. What is said is durable, for all to see, `late_s` later.

    What a run begins with is durable at once; it is the answer that takes longer.
    """

    def __init__(self, rng: random.Random, *, late_s: float, now: Callable[[], float]) -> None:
        super().__init__(now=now)
        self._rng = rng
        self._late_s = late_s
        self._on_the_way: deque[tuple[asyncio.Event, Callable[[], None]]] = deque()

    async def _nap(self) -> None:
        for _ in range(self._rng.choice(TURNS)):
            await asyncio.sleep(0)
        if self._rng.random() < 0.1:
            await asyncio.sleep(MOMENT_S)

    async def create(self, run, drafts, *, key=None, sink=None):
        made, new = await super().create(run, drafts, key=key, sink=sink)
        if new and self._late_s:
            stream = self._runs[made.id].stream
            stream.reached = partial(self._reaches_later, stream.reached)
        await self._nap()  # found by others before the answer is here
        return self._as_durable(made), new

    async def find_key(self, owner, key):
        earlier = await super().find_key(owner, key)
        return self._as_durable(earlier) if earlier else None

    def _reaches_later(self, reached: Callable[[Sequence[Event]], None], events: Sequence[Event]) -> None:
        if events:
            self._on_the_way.append((asyncio.Event(), partial(reached, events)))
            asyncio.get_running_loop().call_later(self._late_s, self._arrive)

    def _arrive(self) -> None:
        """In the order in which all was said, as of one file."""
        arrived, reach = self._on_the_way.popleft()
        reach()
        arrived.set()

    def _as_durable(self, run: Run) -> Run:
        kept = self._runs.get(run.id)
        if kept is None:
            return run
        status, tail = kept.stream.settled, kept.stream.visible
        return replace(
            kept.run, status=status, tail=tail, finished_at=kept.run.finished_at if status.terminal else None
        )

    async def append(self, run, drafts, *, producer=None):
        cursor = await super().append(run, drafts, producer=producer)
        await self.durable()
        await self._nap()
        return cursor

    async def durable(self) -> None:
        if self._on_the_way:
            await self._on_the_way[-1][0].wait()

    async def get(self, run):
        await self._nap()
        kept = await super().get(run)
        found = self._as_durable(kept) if kept else None
        await self._nap()
        return found

    async def page(self, page: Page) -> list[Run]:
        await self._nap()
        found = [self._as_durable(run) for run in await super().page(page)]
        await self._nap()
        return found

    async def unfinished(self) -> list[Run]:
        return [run for kept in self._runs.values() if not (run := self._as_durable(kept.run)).status.terminal]

    async def read(self, run, *, after, upto, limit, max_bytes):
        await self._nap()
        kept = self._runs.get(run)
        upto = min(upto, kept.stream.visible) if kept else upto
        found = await super().read(run, after=after, upto=upto, limit=limit, max_bytes=max_bytes)
        await self._nap()
        return found

    async def erase(self, run) -> None:
        await self._nap()
        if not self._as_durable(self._find(run).run).status.terminal:
            raise Conflict("run.active")
        await super().erase(run)
        await self._nap()

    async def keep(self, run, snapshot, *, max_events, max_bytes) -> int:
        await self._nap()
        kept = self._runs.get(run)
        unseen = kept.stream.tail - kept.stream.visible if kept else 0  # the newest that stays is one that can be read
        floor = await super().keep(run, snapshot, max_events=max_events + unseen, max_bytes=max_bytes)
        await self._nap()
        return floor

    async def watch(self, *args: Any, **how: Any):
        await self._nap()
        return await super().watch(*args, **how)

    async def snapshot(self, run):
        await self._nap()
        found = await super().snapshot(run)
        await self._nap()
        return found

    async def past(self, run):
        await self._nap()
        found = await super().past(run)
        await self._nap()
        return found

    @property
    def watched(self) -> list[str]:
        """Runs that somebody still watches."""
        return [id for id, kept in self._runs.items() if kept.stream.sinks]


class UnsteadyFile(SqliteBroker):
    """A file whose questions and commits take a few real milliseconds more, in their threads."""

    def __init__(self, rng: random.Random, path: Path) -> None:
        super().__init__(path)
        self._rng = rng

    async def open(self) -> None:
        await super().open()
        commits = self._commits
        query, in_turn = commits.query, commits._in_turn
        commits.query = lambda question, *args: query(self._slowed(question), *args)
        commits._in_turn = lambda work: in_turn(self._slowed(work))

    def _slowed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        delay_s = self._rng.choice(FILE_S)

        def slow(*args: Any) -> Any:
            time.sleep(delay_s)
            return work(*args)

        return slow

    @property
    def watched(self) -> list[str]:
        """Runs that somebody still watches."""
        return [id for id, stream in self._streams.items() if stream.sinks]
