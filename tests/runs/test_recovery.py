"""The beginning and the end of a process: what was under way is taken over, ended, or left in order."""

import asyncio

import pytest

from gateway.broker import MemoryBroker
from gateway.wire.status import Status
from tests.runs.doubles import ALICE, GRACE_S, IDLE_S, LIMITS, ending, log_of, start, types

pytestmark = pytest.mark.looptime


async def stopped(runs) -> None:
    """As if the process had died: nothing more is written."""
    for task in tuple(runs._tasks._tasks) + tuple(runs._stragglers._tasks):
        task.cancel()
    await asyncio.sleep(0)
    for active in runs._roster:
        runs._broker.unwatch(active.id, active.observe)


async def test_what_was_under_way_ends_orphaned_and_external_runs_go_on(made):
    broker = MemoryBroker()
    runs = made(broker)
    done, running, external = [await start(runs, name) for name in ("quick", "forever", "external")]
    await asyncio.sleep(2.5)
    await stopped(runs)
    after = made(broker)
    await after.recover()
    last = await ending(after, running)
    assert (last["error"]["code"], last["error"]["retryable"]) == ("run.orphaned", True)
    assert (await ending(after, done))["type"] == "run.completed"
    assert [active.id for active in after._roster] == [external.id]
    cursor = await after.external.publish(external, [("x.a", {})], producer=None)
    assert cursor.offset == 3
    await after.external.finish(external, Status.COMPLETED, result=1, error=None, producer=None)
    assert (await after.views.describe(await after.views.find(ALICE, external.id)))["result"] == 1


async def test_a_recovered_run_has_its_whole_state(made):
    broker = MemoryBroker()
    runs = made(broker)
    run = await start(runs, "external")
    await asyncio.sleep(0.1)
    said = [("delta", {"block": "b", "delta": str(n)}) for n in range(5)]
    await runs.external.publish(
        run, [*said, ("progress", {"stage": "s", "message": "m", "progress": 40})], producer=None
    )
    before = await runs.views.describe(run)
    await stopped(runs)
    after = made(broker)
    await after.recover()
    assert await after.views.describe(run) == before
    await after.external.publish(run, [("progress", {"stage": "s", "message": "m", "progress": 5})], producer=None)
    assert (await log_of(after, run))[-1]["progress"] == 40


async def test_a_recovered_external_run_has_the_whole_idle_time_again_and_is_then_orphaned(made):
    broker = MemoryBroker()
    runs = made(broker)
    run = await start(runs, "external")
    await asyncio.sleep(IDLE_S - 10)
    await stopped(runs)
    after = made(broker)
    await after.recover()
    await asyncio.sleep(IDLE_S - 1)
    assert len(list(after._roster)) == 1
    assert (await ending(after, run))["error"]["code"] == "run.orphaned"


async def test_a_cancel_that_was_under_way_goes_on(made):
    broker = MemoryBroker()
    runs = made(broker)
    run = await start(runs, "external")
    await asyncio.sleep(0.1)
    await runs.cancel(ALICE, run, "enough")
    await stopped(runs)
    after = made(broker)
    await after.recover()
    last = await ending(after, run, within_s=GRACE_S + 1)
    assert (last["type"], last["forced"]) == ("run.cancelled", True)


async def test_recovered_runs_count_and_give_their_places_back(made):
    broker = MemoryBroker()
    runs = made(broker)
    for _ in range(3):
        await start(runs, "external")
    await asyncio.sleep(0.1)
    await stopped(runs)
    after = made(broker, limits=LIMITS._replace(max_runs=2))
    await after.recover()
    assert after._roster._owners.total() == 3
    await asyncio.sleep(IDLE_S + 1)
    assert after._roster._owners.total() == 0


async def test_a_drain_lets_runs_end_in_their_time_and_then_ends_them(made):
    runs = made()
    quick, forever, stubborn, external = [
        await start(runs, name) for name in ("quick", "forever", "stubborn", "external")
    ]
    await asyncio.sleep(0.5)
    loop = asyncio.get_running_loop()
    began = loop.time()
    runs.refuse()
    await runs.drain(within_s=4, grace_s=2)
    assert loop.time() - began == pytest.approx(6, abs=0.5)
    assert (await ending(runs, quick))["type"] == "run.completed"
    for run in (forever, stubborn):
        last = await ending(runs, run)
        assert (last["error"]["code"], last["error"]["retryable"]) == ("server.draining", True)
    assert types(await log_of(runs, external)) == ["run.queued", "run.started"]


async def test_a_drain_does_not_wait_when_nothing_is_under_way(made):
    runs = made()
    await start(runs, "external")
    await asyncio.sleep(0.5)
    began = asyncio.get_running_loop().time()
    await runs.drain(within_s=100, grace_s=100)
    assert asyncio.get_running_loop().time() == began


async def test_a_run_that_is_being_cancelled_ends_cancelled_also_in_a_drain(made):
    runs = made()
    run = await start(runs, "forever")
    await asyncio.sleep(0.5)
    await runs.cancel(ALICE, run, "enough")
    await runs.drain(within_s=0, grace_s=1)
    assert (await ending(runs, run))["type"] == "run.cancelled"


async def test_closing_names_the_pipelines_that_would_not_stop(made):
    runs = made()
    run = await start(runs, "stubborn")
    await start(runs, "forever")
    await asyncio.sleep(0.5)
    assert await runs.close() == [f"pipelines:{run.id}"]
