"""The Python client, whatever breaks on the way: each event once, in order."""

import asyncio
import random
from contextlib import aclosing

import runcast.follow
from runcast import Client, RunState
from tests.e2e.clients import caller, served, started
from tests.e2e.process import token
from tests.faults.check import log_of, seed_of
from tests.faults.proxy import KINDS, Proxy
from tests.faults.storm import SETTINGS, WAYS

FAULTS = 120


async def test_every_event_comes_once_and_in_order_through_faults_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(runcast.follow, "OPEN_TIMEOUT_MS", 1000)
    rng = random.Random(seed_of(4711))
    with served(tmp_path, **SETTINGS) as gateway:
        async with caller(gateway) as http, Proxy(gateway.port, rng, limit=FAULTS, reach=4000) as proxy:
            runs = [
                await started(http, "flood", seed=rng.randrange(1 << 30), steps=60, burst=10, gap_s=0.005)
                for _ in range(3)
            ]
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                told = [
                    (run, replay, group.create_task(_follow(proxy.port, run, replay, ways)))
                    for run in runs
                    for replay in ("full", "folded")
                    for ways in WAYS
                ]
            for run, replay, task in told:
                log, seen = await log_of(http, run), task.result()
                if replay == "full":
                    assert seen == log
                else:
                    assert _state(seen) == _state(log)
            print(f"{proxy.faults} faults: {dict(proxy.struck)}")
            assert set(proxy.struck) == set(KINDS)


async def _follow(port: int, run: str, replay: str, ways) -> list[dict]:
    settings = {"token": token(), "transports": ways, "max_retries": 1000}
    async with (
        Client(f"http://127.0.0.1:{port}", **settings) as client,
        aclosing(client.run(run).events(replay=replay)) as events,
    ):
        return [event.fields() async for event in events]


def _state(events: list[dict]) -> dict:
    state = RunState()
    for event in events:
        state.apply(runcast.events.parse(event))
    return state.model_dump()
