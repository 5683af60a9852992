"""How much history is kept (PROTOCOL section 3, gaps; settings `RUNCAST_RETENTION_S`, `RUNCAST_MAX_*`).

Rule 1: finished runs go first, the oldest first and whole; of an unfinished run the oldest events beyond the caps.
Rule 2: what is told of a run stays complete: its folded state is stored in the same step that forgets events.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

import structlog

from gateway.broker import Broker
from gateway.errors import NotFound, Problem
from gateway.runs.roster import Roster

log = structlog.get_logger(__name__)

PERIOD_S = 1.0
LOT = 50


class Policy(NamedTuple):
    """`max_age_s` counts from a run's end."""

    max_age_s: float
    max_bytes: int


class Retention:
    """`erased` is told of each run of which nothing is held any more. `now` gives Unix seconds."""

    def __init__(
        self,
        broker: Broker,
        roster: Roster,
        policy: Policy,
        *,
        now: Callable[[], float],
        erased: Callable[[str], None],
    ) -> None:
        self._broker = broker
        self._roster = roster
        self._policy = policy
        self._now = now
        self._erased = erased

    async def run(self) -> None:
        """Sweep for ever, or until the log is lost."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.sweep()
            except Problem as problem:
                if not self._broker.available:
                    return
                log.warning("not everything could be forgotten", code=problem.code)

    async def sweep(self) -> None:
        limits = self._roster.limits
        for active in self._roster:
            events, size = self._broker.weigh(active.id)
            if events > limits.max_events_per_run or size > limits.max_bytes_per_run:
                await active.forget(max_events=limits.max_events_per_run, max_bytes=limits.max_bytes_per_run)
        await self._forget_old()
        await self._forget_excess()

    async def _forget_old(self) -> None:
        limit_ms = (self._now() - self._policy.max_age_s) * 1000
        while True:
            old = [run for run in await self._broker.oldest_finished(LOT) if (run.finished_at or 0) <= limit_ms]
            for run in old:
                await self._erase_if_there(run.id)
            if len(old) < LOT:
                return

    async def _forget_excess(self) -> None:
        while await self._broker.total_bytes() > self._policy.max_bytes:
            oldest = await self._broker.oldest_finished(1)
            if oldest:
                await self._erase_if_there(oldest[0].id)
                continue
            unfinished = list(self._roster)
            share = self._policy.max_bytes // max(1, len(unfinished))
            for active in unfinished:
                if self._broker.weigh(active.id)[1] > share:
                    await active.forget(max_events=self._roster.limits.max_events_per_run, max_bytes=share)
            return

    async def erase(self, run: str) -> None:
        """Raises NotFound, Conflict (`run.active`)."""
        await self._broker.erase(run)
        self._erased(run)

    async def _erase_if_there(self, run: str) -> None:
        with contextlib.suppress(NotFound):  # someone else was faster
            await self.erase(run)
