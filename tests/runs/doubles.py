"""Small pipelines, a service to run them, and a broker whose disk takes its time."""

import asyncio
import contextlib
from collections import deque
from typing import Any

from gateway.broker import Broker, MemoryBroker, Run, Visible
from gateway.errors import Unavailable
from gateway.hub import Pasts
from gateway.runs import Caller, Limits, Policy, Runs
from gateway.wire import json
from gateway.wire.commands import Options, Start
from gateway.wire.status import TERMINAL_TYPES
from pipeline import Context, Registry, Rejected
from pipeline.registry import describe

GRACE_S = 5
IDLE_S = 300
LOTS = 1 << 30
LIMITS = Limits(
    max_runs=100,
    max_runs_per_subject=100,
    max_event_bytes=65_536,
    cancel_grace_s=GRACE_S,
    external_idle_s=IDLE_S,
    max_events_per_run=LOTS,
    max_bytes_per_run=LOTS,
)
KEPT = Policy(max_age_s=LOTS, max_bytes=LOTS)


def caller(subject: str = "alice", *, delegate: bool = False) -> Caller:
    return Caller(subject, Visible(everything=False, subject=subject), delegate)


ALICE = caller()


class SlowBroker(MemoryBroker):
    """What is appended has its place at once and is durable, and visible, `delay_s` later."""

    delay_s = 0.1

    def __init__(self) -> None:
        super().__init__()
        self._on_the_way = deque()

    async def append(self, run, drafts, *, producer=None):
        with self._late(run) as arrival:
            cursor = await super().append(run, drafts, producer=producer)
        await arrival
        return cursor

    def append_nowait(self, run, draft):
        with self._late(run):
            return super().append_nowait(run, draft)

    async def durable(self):
        if self._on_the_way:
            await self._on_the_way[-1][0]

    @contextlib.contextmanager
    def _late(self, run):
        kept = self._find(run)
        before = len(kept.events)
        sinks, kept.stream.sinks = kept.stream.sinks, ()
        loop = asyncio.get_running_loop()
        arrival = loop.create_future()
        try:
            yield arrival
        finally:
            kept.stream.sinks = sinks
        self._on_the_way.append((arrival, kept.stream, kept.events[before:]))
        loop.call_later(self.delay_s, self._arrive)

    def _arrive(self):
        arrival, stream, placed = self._on_the_way.popleft()
        for sink in stream.sinks if placed else ():
            sink(placed)
        if not arrival.done():
            arrival.set_result(None)


class FailingBroker(MemoryBroker):
    """Loses its log when told."""

    broken = False

    async def append(self, run, drafts, *, producer=None):
        if self.broken:
            raise Unavailable("broker.unavailable")
        return await super().append(run, drafts, producer=producer)

    def append_nowait(self, run, draft):
        if self.broken:
            raise Unavailable("broker.unavailable")
        return super().append_nowait(run, draft)


def registry(**functions: Any) -> Registry:
    """Pipelines named after their parameters, and the usual ones."""
    made = Registry()
    for name, function in {"quick": quick, "forever": forever, "stubborn": stubborn, **functions}.items():
        made.add(describe(name, function))
    return made


def service(
    broker: Broker | None = None,
    *,
    limits: Limits = LIMITS,
    retention: Policy = KEPT,
    pasts: Pasts | None = None,
    **functions: Any,
) -> Runs:
    loop = asyncio.get_running_loop()
    return Runs(
        broker if broker is not None else MemoryBroker(),
        registry(**functions),
        limits=limits,
        retention=retention,
        pasts=Pasts() if pasts is None else pasts,
        now=lambda: 1_763_580_000 + loop.time(),
    )


async def quick(ctx: Context, input: dict[str, Any]) -> Any:
    """Gives back its input."""
    await ctx.progress(50, "Half")
    return input


async def forever(ctx: Context, input: dict[str, Any]) -> None:
    while True:
        await ctx.delta("body", "on ")
        await asyncio.sleep(1)


async def stubborn(ctx: Context, input: dict[str, Any]) -> str:
    """Ignores being cancelled for a minute, then says one thing more."""
    end = asyncio.get_running_loop().time() + 60
    while (left := end - asyncio.get_running_loop().time()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(left)
    await ctx.delta("body", "too late")
    return "too late"


def wants(pipeline: str, input: Any = None, *, owner: str | None = None, **options: Any) -> Start:
    return Start(pipeline=pipeline, input={} if input is None else input, options=Options(**options), owner=owner)


async def start(runs: Runs, pipeline: str, input: Any = None, **options: Any) -> Run:
    return (await runs.start(ALICE, wants(pipeline, input, **options)))[0]


async def log_of(runs: Runs, run: Run | str) -> list[dict[str, Any]]:
    id = run if isinstance(run, str) else run.id
    return [json.loads(e.json) for e in await runs._broker.read(id, after=0, upto=LOTS, limit=LOTS, max_bytes=LOTS)]


async def ending(runs: Runs, run: Run, *, within_s: float = 1000) -> dict[str, Any]:
    """Wait for the run's end; its terminal event, which is the last one and the only one."""
    async with asyncio.timeout(within_s):
        active = runs._roster.get(run.id)
        if active is not None:
            await active.ended
    log = await log_of(runs, run)
    assert [event["type"] in TERMINAL_TYPES for event in log].count(True) == 1
    assert log[-1]["type"] in TERMINAL_TYPES
    return log[-1]


def types(log: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in log]


async def rejecting(ctx: Context, input: dict[str, Any]) -> None:
    raise Rejected("this input makes no sense")
