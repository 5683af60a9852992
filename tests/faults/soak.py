"""Churn, and whether anything grows: runs and connections of every kind that come and go, with looks in between.

Before each look everything is closed, so what is still there then is a leak, or memory that was not given back.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import httpx

from tests.e2e.clients import caller, eventually, started
from tests.e2e.process import GatewayProcess
from tests.faults.crowd import rss_bytes
from tests.faults.follower import Follower

SETTINGS = {
    "pipelines": "tests.faults.pipelines,tests.e2e.pipelines,tests.e2e.probe",
    "heartbeat_s": 0.5,
    "retry_ms": 50,
    "cancel_grace_s": 0.5,
    "log_level": "warning",
    "max_runs_per_subject": 1000,
}
WAYS = ("sse", "websocket", "poll")
# What must be nought when nobody is there.
GAUGES = ("connections", "connections_lagging", "subscriptions", "watched_runs", "unsent_bytes", "runs_unfinished",
          "broker_queue")  # fmt: skip


class Look(NamedTuple):
    """`left`: gauges that are not nought. `held_ms`, `computed_ms`: of the loop, since the look before."""

    rss_bytes: int
    files: int
    tasks: int
    log_bytes: int
    held_ms: float
    computed_ms: float
    left: dict[str, float]


@dataclass
class Soak:
    """`looks`: the first one after a round that warms up. `wrong`: what clients saw that must not be."""

    took_s: float = 0
    did: Counter[str] = field(default_factory=Counter)
    looks: list[Look] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        did = ", ".join(f"{count} {what}" for what, count in sorted(self.did.items()))
        first, last = self.thirds("rss_bytes")
        log = self.looks[-1].log_bytes
        late_ms = max(look.held_ms for look in self.looks)
        return (
            f"{self.took_s:.0f} s, {len(self.looks)} looks: {did}; memory {first / 1e6:.1f} to {last / 1e6:.1f} MB"
            f" ({last / first - 1:+.1%}), files {self._ends('files')}, tasks {self._ends('tasks')},"
            f" log {log / 1e6:.1f} MB; loop late by {late_ms:.1f} ms at most, its own doing {self.computed_ms:.1f} ms"
        )

    @property
    def computed_ms(self) -> float:
        """The longest step of the event loop, without waits for a processor that others had."""
        return max(look.computed_ms for look in self.looks)

    def _ends(self, name: str) -> str:
        return f"{getattr(self.looks[0], name)} to {getattr(self.looks[-1], name)}"

    def thirds(self, name: str) -> tuple[float, float]:
        """The mean over the first third of the looks, and over the last."""
        values = [float(getattr(look, name)) for look in self.looks]
        third = max(1, len(values) // 3)
        return fmean(values[:third]), fmean(values[-third:])

    def grown(self, *, memory: float) -> list[str]:
        """What grew, in words; `memory`: the share by which memory and log may."""
        found = list(self.wrong)
        first = self.looks[0]
        for number, look in enumerate(self.looks):
            if look.left:
                found.append(f"look {number}: {look.left} although everything is closed")
            if look.files > first.files or look.tasks > first.tasks:
                found.append(f"look {number}: {look.files} files and {look.tasks} tasks, not {first[1:3]}")
        before, after = self.thirds("rss_bytes")
        if after > before * (1 + memory):
            found.append(f"memory grew from {before / 1e6:.1f} to {after / 1e6:.1f} MB")
        return found


async def soaked(gateway: GatewayProcess, *, seed: int, seconds: float, looks: int, churners: int) -> Soak:
    """So many rounds of churn in that time, the first one to warm up, with a look after each."""
    rng, found, began = random.Random(seed), Soak(), time.monotonic()
    for number in range(looks + 1):
        end = began + seconds * (number + 1) / (looks + 1)
        async with caller(gateway) as client, asyncio.TaskGroup() as group:
            for _ in range(churners):
                group.create_task(_churn(gateway, client, random.Random(rng.random()), end, found))
        look = await _look(gateway, found.looks)
        if number:
            found.looks.append(look)
    found.took_s = time.monotonic() - began
    return found


async def _churn(gateway: GatewayProcess, client: httpx.AsyncClient, rng: random.Random, end: float, found: Soak):
    while time.monotonic() < end:
        run = await _run(client, rng)
        await _lived(gateway, client, run, rng, found)
        if rng.random() < 0.3:
            again = (await client.post(f"/runs/{run}/retry")).json()["id"]
            found.did["retried"] += 1
            await _lived(gateway, client, again, rng, found)
            await _erased(client, again, found)
        await _erased(client, run, found)


async def _run(client: httpx.AsyncClient, rng: random.Random) -> str:
    match rng.choice(("flood", "flood", "forever", "steps", "broken")):
        case "flood":
            burst, steps = rng.randint(1, 8), rng.randint(3, 30)
            return await started(client, "flood", seed=rng.randrange(1 << 30), steps=steps, burst=burst, gap_s=0.01)
        case "steps":
            return await started(client, "steps", count=rng.randint(5, 50), gap_s=0.01)
        case other:
            return await started(client, other, gap_s=0.01)


async def _lived(gateway: GatewayProcess, client: httpx.AsyncClient, run: str, rng: random.Random, found: Soak) -> None:
    """One run with its viewers, some of whom leave, to its end."""
    found.did["runs"] += 1
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(rng.randint(1, 4)):
            group.create_task(_watched(gateway, run, random.Random(rng.random()), found))
        for how in ("pause", "resume", "cancel"):
            await asyncio.sleep(rng.uniform(0, 0.15))
            if how == "cancel" or rng.random() < 0.3:
                answer = await client.post(f"/runs/{run}/{how}")
                found.did[f"{how} {answer.status_code}"] += 1
        await eventually(lambda: _over(client, run), within_s=30)


async def _over(client: httpx.AsyncClient, run: str) -> bool:
    return (await client.get(f"/runs/{run}")).json()["finished_at"] is not None


async def _watched(gateway: GatewayProcess, run: str, rng: random.Random, found: Soak) -> None:
    """Watch a run in one of the ways, to its end or for a while."""
    way, replay = rng.choice(WAYS), rng.choice(("full", "folded"))
    leaves_s = rng.choice((None, rng.uniform(0, 0.3)))
    follower = Follower(gateway.port, run, rng, replay=replay, transports=(way,))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(leaves_s):
            await follower.follow()
    found.did[way] += follower.connects
    found.wrong += follower.wrong
    if follower.refused or follower.gaps:
        found.wrong.append(f"{run}: {way}: refused: {follower.refused}, gaps: {follower.gaps}")


async def _erased(client: httpx.AsyncClient, run: str, found: Soak) -> None:
    answer = await client.delete(f"/runs/{run}")
    found.did["erased"] += 1
    if answer.status_code != 204:
        found.wrong.append(f"{run} was not erased: {answer.text}")


async def _look(gateway: GatewayProcess, before: Sequence[Look]) -> Look:
    """What is left when all have gone; it waits a while until there is no more than at the first look."""
    async with caller(gateway) as client:
        look = await _looked(gateway, client)
        held_ms, computed_ms = look.held_ms, look.computed_ms
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while look.left or (before and (look.files > before[0].files or look.tasks > before[0].tasks)):
                    await asyncio.sleep(0.1)
                    look = await _looked(gateway, client)
    return look._replace(held_ms=held_ms, computed_ms=computed_ms)


async def _looked(gateway: GatewayProcess, client: httpx.AsyncClient) -> Look:
    answer = await client.post("/run", json={"pipeline": "probe", "input": {"collect": True}})
    seen = answer.json()
    await client.delete(f"/runs/{seen['id']}")
    seen = seen["result"]
    return Look(
        rss_bytes=rss_bytes(gateway),
        files=len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir())),
        tasks=seen["tasks"],
        log_bytes=sum(each.stat().st_size for each in gateway.folder.glob("runcast.db*")),
        held_ms=seen["held_ms"],
        computed_ms=seen["computed_ms"],
        left={name: value for name, value in _gauges(await client.get("/metrics")).items() if value},
    )


def _gauges(exposition: httpx.Response) -> Counter[str]:
    """Each gauge that must come to nought, over all its labels."""
    found: Counter[str] = Counter()
    for line in exposition.text.splitlines():
        name = line.partition("{")[0].partition(" ")[0].removeprefix("runcast_")
        if name in GAUGES:
            found[name] += float(line.rpartition(" ")[2])
    return found
