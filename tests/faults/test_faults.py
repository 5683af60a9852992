"""Whatever breaks on the way: each event once, in order."""

import asyncio
import random

from tests.e2e.clients import caller, served, started
from tests.faults.check import log_of, seed_of
from tests.faults.proxy import KINDS, Proxy
from tests.faults.several import SeveralFollower
from tests.faults.storm import SETTINGS, storm

FAULTS = 300


async def test_every_event_comes_once_and_in_order_through_faults_of_every_kind(tmp_path):
    seed = seed_of(20260)
    with served(tmp_path, **SETTINGS) as gateway:
        found = await storm(gateway, seed=seed, faults=FAULTS)
    print(found)
    assert found.tally.wrong == []
    assert found.tally.gaps == 0
    assert set(found.struck) == set(KINDS)


async def test_several_runs_over_one_response_come_once_and_in_order_too(tmp_path):
    rng = random.Random(seed_of(32))
    with served(tmp_path, **SETTINGS) as gateway:
        async with caller(gateway) as client, Proxy(gateway.port, rng, reach=12_000) as proxy:
            lengths = (15, 60, 150)
            runs = [await started(client, "flood", seed=n, steps=n, burst=8, gap_s=0.01) for n in lengths]
            followers = [
                SeveralFollower(proxy.port, rng.sample(runs, 3), rng, replay=("full", "folded")[n % 2])
                for n in range(6)
            ]
            async with asyncio.timeout(30), asyncio.TaskGroup() as group:
                for each in followers:
                    group.create_task(each.follow())
            assert [wrong for each in followers for wrong in each.wrong] == []
            assert sum(each.connects for each in followers) > len(followers)
            for run in runs:
                log = await log_of(client, run)
                assert all(each.events[run] == log for each in followers[::2])
                assert all(each.events[run][-1] == log[-1] for each in followers[1::2])
