"""Runs that flood, followed through a proxy that breaks every connection sooner or later."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.e2e.clients import caller, started
from tests.e2e.process import GatewayProcess
from tests.faults.check import Tally, tally
from tests.faults.follower import Follower
from tests.faults.proxy import Proxy

SETTINGS = {"pipelines": "tests.faults.pipelines", "heartbeat_s": 0.2, "retry_ms": 50, "max_runs_per_subject": 1000}
RUNS = 4
WAYS = (("sse",), ("websocket",), ("poll",), ("sse", "websocket", "poll"), ("sse", "websocket", "poll"))


@dataclass
class Storm:
    struck: Counter[str] = field(default_factory=Counter)
    tally: Tally = field(default_factory=Tally)
    waves: int = 0
    took_s: float = 0

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.struck.items()))
        return f"{self.struck.total()} faults ({kinds}) in {self.waves} waves, {self.took_s:.1f} s; {self.tally}"


async def storm(gateway: GatewayProcess, *, seed: int, faults: int, wave_s: float = 60) -> Storm:
    """Waves of runs until so many faults have struck; each wave is checked against the log."""
    rng = random.Random(seed)
    found = Storm()
    began = time.monotonic()
    async with caller(gateway) as client:
        while found.struck.total() < faults:
            async with Proxy(gateway.port, rng, limit=faults - found.struck.total()) as proxy:
                runs = [
                    await started(
                        client, "flood",
                        seed=rng.randrange(1 << 30), steps=rng.randint(20, 120), burst=rng.randint(1, 30),
                        gap_s=rng.choice((0, 0.002, 0.01)), size=rng.choice((20, 200)),
                    )
                    for _ in range(RUNS)
                ]  # fmt: skip
                followers = [
                    Follower(proxy.port, run, random.Random(rng.random()), replay=replay, transports=ways)
                    for run in runs
                    for replay in ("full", "folded")
                    for ways in WAYS
                ]
                async with asyncio.timeout(wave_s), asyncio.TaskGroup() as group:
                    for follower in followers:
                        group.create_task(follower.follow())
                found.struck += proxy.struck
            found.waves += 1
            await tally(client, followers, found.tally)
    found.took_s = time.monotonic() - began
    return found
