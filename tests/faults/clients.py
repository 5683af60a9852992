"""Runs that flood, followed by the Python client through a proxy that breaks every connection sooner or later."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from unittest import mock

import runcast.follow
import runcast.policy
from runcast import Client, RunState, events
from tests.e2e.clients import caller, started
from tests.e2e.process import GatewayProcess, token
from tests.faults.check import log_of
from tests.faults.proxy import Proxy
from tests.faults.storm import WAYS

RUNS = 3
WAVE_S = 120


async def clients_storm(gateway: GatewayProcess, *, seed: int, faults: int) -> tuple[Counter[str], list[str]]:
    """Waves of runs until so many faults have struck; the faults, and what was wrong with what clients saw."""
    rng = random.Random(seed)
    struck: Counter[str] = Counter()
    wrong: list[str] = []
    # Before the first hello the delays are the policy's own, which are for outages and not for this.
    hurried = mock.patch.object(runcast.policy, "MAX_DELAY_MS", 200)
    with hurried, mock.patch.object(runcast.follow, "OPEN_TIMEOUT_MS", 1000):
        async with caller(gateway) as http:
            while struck.total() < faults:
                async with Proxy(gateway.port, rng, limit=faults - struck.total()) as proxy:
                    runs = [
                        await started(http, "flood", seed=rng.randrange(1 << 30), steps=60, burst=10, gap_s=0.005)
                        for _ in range(RUNS)
                    ]
                    async with asyncio.timeout(WAVE_S), asyncio.TaskGroup() as group:
                        told = [
                            (run, replay, ways, group.create_task(_follow(proxy.port, run, replay, ways)))
                            for run in runs
                            for replay in ("full", "folded")
                            for ways in WAYS
                        ]
                    struck += proxy.struck
                logs = {run: await log_of(http, run) for run in runs}
                wrong += [
                    f"seed {seed}: {run} {replay} {ways}"
                    for run, replay, ways, task in told
                    if not _right(replay, task.result(), logs[run])
                ]
    return struck, wrong


async def _follow(port: int, run: str, replay: str, ways: Sequence[str]) -> list[dict]:
    settings = {"token": token(), "transports": ways, "max_retries": 1000}
    async with (
        Client(f"http://127.0.0.1:{port}", **settings) as client,
        aclosing(client.run(run).events(replay=replay)) as stream,
    ):
        return [event.fields() async for event in stream]


def _right(replay: str, seen: list[dict], log: list[dict]) -> bool:
    """Every event once and in order; folded, the same state."""
    return seen == log if replay == "full" else _state(seen) == _state(log)


def _state(seen: list[dict]) -> RunState:
    state = RunState()
    for event in seen:
        state.apply(events.parse(event))
    return state
