"""A world from its seed to its verdict."""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal

import looptime
from structlog.testing import capture_logs

from gateway.errors import Problem
from tests.model.brokers import UnsteadyFile, UnsteadyMemory
from tests.model.callers import Publisher, starts, steers, waits
from tests.model.laws import judge
from tests.model.viewers import Viewer, watches
from tests.model.world import PATIENCE_S, Unanswered, World
from tests.runs.doubles import ALICE

Kind = Literal["memory", "sqlite"]
LATE_S = (1 / 512, 1 / 64, 1 / 8)
VIEWERS = 6
SWEEP_S = 1 / 32
# A power of two: sums of such times are exact, and a rest of a time that is too short for the clock never comes up.
TICK_S = 2**-20


def play(seed: int, kind: Kind = "memory") -> World:
    """One world; `faults` says what did not hold in it.

    In virtual time. Over SQLite that stands still for no thread: what such a seed met may not come again.
    """
    with asyncio.Runner(loop_factory=partial(looptime.new_event_loop, resolution=TICK_S, noop_cycles=0)) as runner:
        return runner.run(_play(seed, kind))


async def _play(seed: int, kind: Kind) -> World:
    rng = random.Random(seed)
    with capture_logs() as logged:
        async with _broker(kind, seed, rng) as broker:
            world = World(seed, broker, rng)
            viewers: list[Viewer] = []
            try:
                await _happen(world, viewers)
                await judge(world, viewers)
            except Exception as error:
                error.add_note(str(world))
                raise
            finally:
                await world.runs.close()
                await world.hub.close()
    for entry in logged:
        if entry["log_level"] in ("error", "critical"):
            world.fault(f"logged: {entry}")
    return world


@asynccontextmanager
async def _broker(kind: Kind, seed: int, rng: random.Random) -> AsyncIterator[UnsteadyMemory | UnsteadyFile]:
    own = random.Random(rng.random())
    if kind == "memory":
        late_s = own.choice(LATE_S) if seed >> 3 & 1 else 0
        loop = asyncio.get_running_loop()
        yield UnsteadyMemory(own, late_s=late_s, now=lambda: 1_763_580_000 + loop.time())
        return
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        broker = UnsteadyFile(own, Path(folder) / "log.db")
        await broker.open()
        try:
            yield broker
        finally:
            await broker.close()


async def _happen(world: World, viewers: list[Viewer]) -> None:
    """All callers come and go; then whatever still runs is cancelled, and whoever watches is let to the end."""
    publishers = [Publisher(world, name) for name in ("p1", "p2")]
    acts = [starts(world), starts(world), *(each.publishes() for each in publishers), steers(world), steers(world)]
    async with asyncio.TaskGroup() as group:
        sweeping = group.create_task(_sweeps(world))
        watching = [group.create_task(watches(world, viewers)) for _ in range(VIEWERS)]
        waiting = [group.create_task(waits(world)) for _ in range(2)]
        await _all_done(world, "callers", [group.create_task(each) for each in acts])
        await asyncio.sleep(0.1)
        for active in world.runs._roster:
            with suppress(Unanswered):
                run = await world.find(active.id)
                await world.call("cancel", world.runs.cancel(ALICE, run, None), run=run.id)
        world.closing.set()
        await _all_done(world, "viewers", watching)
        await _all_done(world, "waiters", waiting)
        sweeping.cancel()
    await asyncio.sleep(1)  # more than the grace of a cancel, and than any commit takes


async def _all_done(world: World, who: str, tasks: list[asyncio.Task[None]]) -> None:
    _, late = await asyncio.wait(tasks, timeout=PATIENCE_S)
    for task in late:
        world.fault(f"{who} hang: {task.get_stack()[-1:]}")
        task.cancel()


async def _sweeps(world: World) -> None:
    """Retention, at its work more often than it would be."""
    while world.conditions.trim:
        await asyncio.sleep(SWEEP_S)
        with suppress(Problem):
            await world.runs._retention.sweep()
