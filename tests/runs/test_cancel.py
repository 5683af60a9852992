"""Cancelling: a state, not a hope, whatever it races with."""

import asyncio
import contextlib

import pytest

from gateway.broker import MemoryBroker
from gateway.errors import NotFound, Unavailable
from gateway.runs import Cancelled
from gateway.wire.status import Status
from pipeline import Context
from tests.runs.doubles import (
    ALICE,
    GRACE_S,
    FailingBroker,
    SlowBroker,
    ending,
    log_of,
    start,
    types,
)

pytestmark = pytest.mark.looptime
CANCELLING = Cancelled(None)


async def test_a_cancel_says_who_and_why_and_the_run_ends_cancelled(made):
    runs = made()
    run = await start(runs, "forever")
    await asyncio.sleep(3.5)
    assert await runs.cancel(ALICE, run, "enough") == CANCELLING
    last = await ending(runs, run)
    assert (last["type"], last["by"], last["reason"], last["forced"]) == ("run.cancelled", "alice", "enough", False)
    assert types(await log_of(runs, run)) == [
        "run.queued", "run.started", *["delta"] * 4, "run.cancelling", "run.cancelled"
    ]  # fmt: skip


async def test_a_cancel_is_durable_when_it_returns(made):
    runs = made(SlowBroker())
    run = await start(runs, "forever")
    await asyncio.sleep(1)
    await runs.cancel(ALICE, run, None)
    assert "run.cancelling" in types(await log_of(runs, run))
    assert runs._roster.get(run.id).state.status in ("cancelling", "cancelled")


@pytest.mark.parametrize("broker", [None, SlowBroker])
async def test_a_cancel_before_the_run_began_ends_it_without_its_pipeline(made, broker):
    called = []

    async def noted(ctx: Context, input: dict) -> None:
        called.append(ctx.run)
        await asyncio.sleep(100)

    runs = made(broker and broker(), noted=noted)
    run = await start(runs, "noted")
    assert await runs.cancel(ALICE, run, None) == CANCELLING
    last = await ending(runs, run)
    assert (last["type"], last["forced"]) == ("run.cancelled", False)
    if "run.started" not in types(await log_of(runs, run)):
        assert called == []


@pytest.mark.parametrize("broker", [None, SlowBroker])
async def test_many_cancels_at_once_are_one(made, broker):
    runs = made(broker and broker())
    run = await start(runs, "forever")
    await asyncio.sleep(1)
    given = await asyncio.gather(*(runs.cancel(ALICE, run, str(n)) for n in range(5)))
    assert given == [CANCELLING] * 5
    last = await ending(runs, run)
    assert last["reason"] == "0"
    assert types(await log_of(runs, run)).count("run.cancelling") == 1
    await asyncio.sleep(1)
    assert await runs.cancel(ALICE, run, "again") == Cancelled("cancelled")
    assert Cancelled("cancelled").fields() == {"status": "finished", "final": "cancelled"}
    assert CANCELLING.fields() == {"status": "cancelling"}


@pytest.mark.parametrize("broker", [None, SlowBroker])
@pytest.mark.parametrize("how", ["return", "raise"])
@pytest.mark.parametrize("at", [0.9, 0.95, 0.99, 1.0, 1.0001, 1.05, 1.1, 1.15, 1.2, 1.3])
async def test_a_cancel_as_the_run_ends_gives_one_end_and_tells_the_truth(made, broker, how, at):
    """Once `run.cancelling` is written the run ends cancelled, even if its pipeline then returns or raises."""

    async def ends(ctx: Context, input: dict) -> str:
        await asyncio.sleep(1)
        if how == "raise":
            raise RuntimeError("no")
        return "done"

    runs = made(broker and broker(), ends=ends)
    run = await start(runs, "ends")
    await asyncio.sleep(at)
    answer = await runs.cancel(ALICE, run, "race")
    last = await ending(runs, run)
    if "run.cancelling" in types(await log_of(runs, run)):
        assert last["type"] == "run.cancelled"
        assert answer.final in (None, "cancelled")
    else:
        assert last["type"] == ("run.completed" if how == "return" else "run.failed")
        assert answer.final == last["type"].removeprefix("run.")


async def test_a_pipeline_that_does_not_stop_is_left_behind_after_the_grace(made):
    runs = made()
    run = await start(runs, "stubborn")
    await asyncio.sleep(1)
    loop = asyncio.get_running_loop()
    asked = loop.time()
    await runs.cancel(ALICE, run, None)
    last = await ending(runs, run)
    assert loop.time() - asked == pytest.approx(GRACE_S)
    assert (last["type"], last["forced"]) == ("run.cancelled", True)
    assert len(runs._stragglers) == 1
    await asyncio.sleep(100)
    assert len(runs._stragglers) == 0
    assert "delta" not in types(await log_of(runs, run))


async def test_a_pipeline_may_use_the_grace_to_tidy_up(made):
    async def tidy(ctx: Context, input: dict) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await ctx.delta("body", "tidied")
            await asyncio.sleep(GRACE_S / 2)

    runs = made(tidy=tidy)
    run = await start(runs, "tidy")
    await asyncio.sleep(1)
    await runs.cancel(ALICE, run, None)
    last = await ending(runs, run)
    assert (last["type"], last["forced"]) == ("run.cancelled", False)
    assert types(await log_of(runs, run))[-3:] == ["run.cancelling", "delta", "run.cancelled"]


async def test_a_checkpoint_of_a_straggler_stops_it(made):
    reached = []

    async def deaf(ctx: Context, input: dict) -> None:
        end = asyncio.get_running_loop().time() + 20
        while (left := end - asyncio.get_running_loop().time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(left)
        reached.append("before")
        await ctx.checkpoint()
        reached.append("after")

    runs = made(deaf=deaf)
    run = await start(runs, "deaf")
    await asyncio.sleep(1)
    await runs.cancel(ALICE, run, None)
    await ending(runs, run)
    await asyncio.sleep(60)
    assert reached == ["before"]
    assert len(runs._stragglers) == 0


async def test_a_cancel_during_the_grace_of_a_timeout_is_a_cancel(made):
    runs = made()
    run = await start(runs, "stubborn", timeout_s=10)
    await asyncio.sleep(12)
    assert await runs.cancel(ALICE, run, "enough") == CANCELLING
    last = await ending(runs, run)
    assert (last["type"], last["forced"]) == ("run.cancelled", True)


async def test_a_caller_that_goes_away_has_cancelled_all_the_same(made):
    runs = made(SlowBroker())
    run = await start(runs, "forever")
    await asyncio.sleep(1)
    cancelling = asyncio.ensure_future(runs.cancel(ALICE, run, None))
    await asyncio.sleep(0)
    cancelling.cancel()
    assert (await ending(runs, run))["type"] == "run.cancelled"


async def test_a_cancel_of_a_run_that_is_gone_is_not_found(made):
    runs = made()
    run = await start(runs, "quick")
    await ending(runs, run)
    await asyncio.sleep(1)
    await runs.erase(run)
    with pytest.raises(NotFound):
        await runs.cancel(ALICE, run, None)


async def test_no_cancel_waits_for_ever_when_the_log_is_lost(made):
    broker = FailingBroker()
    runs = made(broker)
    run = await start(runs, "forever")
    await asyncio.sleep(1)
    broker.broken = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(runs.cancel(ALICE, run, None), 60)


class LosingBroker(MemoryBroker):
    """Its log is lost amid the appends, once told so."""

    def __init__(self) -> None:
        super().__init__()
        self.losing = False
        self.gone = asyncio.Event()

    @property
    def available(self) -> bool:
        return not self.gone.is_set()

    async def lost(self) -> None:
        await self.gone.wait()

    async def append(self, run, drafts, *, producer=None):
        if self.losing:
            await asyncio.sleep(0.1)
            self.gone.set()
            raise Unavailable("broker.unavailable")
        return await super().append(run, drafts, producer=producer)


async def test_whoever_asks_for_an_end_while_the_log_is_lost_is_told_so(made):
    broker = LosingBroker()
    runs = made(broker)
    external, own = await start(runs, "external"), await start(runs, "forever")
    await asyncio.sleep(1)
    broker.losing = True

    async def given_up() -> None:
        await broker.lost()
        await runs.abandon()

    def finished():
        return runs.finish(external, Status.COMPLETED, result=None, error=None, producer=None)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(given_up())
        asked = (runs.cancel(ALICE, run, None) for run in (external, own, external, own))
        told = await asyncio.gather(*asked, finished(), finished(), return_exceptions=True)
    assert [getattr(each, "code", each) for each in told] == ["broker.unavailable"] * 6
