"""What a run says is folded while it speaks: whoever joins first reads next to nothing, and gets what the log tells."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker import SqliteBroker
from gateway.hub import Hub, Pasts
from gateway.runs.active import FOLD_EVENTS, IN_A_TURN, MAX_AHEAD
from gateway.wire import json
from gateway.wire.fold import fold
from gateway.wire.status import Status
from tests.hub.doubles import WIDE, Reads, frames_of, hub_on, told
from tests.runs.doubles import ALICE, LIMITS, log_of, service, start
from tests.wire.doubles import BOUNDED, MAX, assert_law, said, sealed, stream

pytestmark = pytest.mark.looptime


@pytest.fixture
def reads(monkeypatch):
    return Reads(monkeypatch)


@pytest.fixture
async def house(made, reads):
    """Runs and a hub that share what they keep."""
    pasts = Pasts()
    return made(reads.broker, pasts=pasts), hub_on(reads.broker, limits=WIDE, pasts=pasts)


async def external(runs, count: int, *, by: int = 50):
    run = await start(runs, "external")
    await asyncio.sleep(0.1)
    for first in range(0, count, by):
        words = [("delta", {"block": "b", "delta": f"word{n} "}) for n in range(first, first + by)]
        await runs.external.publish(run, words, producer=None)
    return run


def text_of(frames: list[dict]) -> str:
    return "".join(frame.get("delta", "") for frame in frames)


@pytest.mark.parametrize("ended", [False, True], ids=["active", "finished"])
async def test_the_first_to_join_a_long_run_reads_hardly_anything(house, reads, ended):
    runs, hub = house
    run = await external(runs, 5000)
    if ended:
        await runs.external.finish(run, Status.COMPLETED, result=1, error=None, producer=None)
        await asyncio.sleep(1)
    reads.since()
    frames = frames_of(await told(hub, run.id))
    assert reads.since() < FOLD_EVENTS
    assert len(frames) <= 20
    assert text_of(frames) == "".join(f"word{n} " for n in range(5000))
    assert frames[-1]["type"] == ("run.completed" if ended else "delta")


async def test_what_is_told_is_what_the_log_tells_whoever_asks_when(house, reads):
    runs, hub = house
    run = await external(runs, 200)
    for number in range(30):
        await runs.external.publish(run, [("delta", {"block": "b", "delta": "x"})] * number, producer=None)
        kept = await told(hub, run.id)
        alone = await told(hub_on(reads.broker, limits=WIDE), run.id)
        assert text_of(frames_of(kept)) == text_of(frames_of(alone)) == text_of(await log_of(runs, run))
        assert frames_of(kept)[-1]["id"] == (await log_of(runs, run))[-1]["id"]


work = said.filter(lambda event: not event[0].startswith("run."))


@given(st.lists(work, max_size=60), st.lists(st.integers(1, 9), min_size=60, max_size=60))
@BOUNDED
def test_a_past_that_grows_while_it_is_said_tells_the_law(words, sizes):
    async def play() -> None:
        pasts = Pasts()
        runs = service(pasts=pasts)
        try:
            run = await start(runs, "external")
            active = runs._roster.get(run.id)
            while active.state.status is Status.QUEUED:
                await asyncio.sleep(0)
            rest = words
            for size in sizes:
                some, rest = rest[:size], rest[size:]
                if some:
                    await runs.external.publish(run, some, producer=None)
                assert active.state.status is Status.RUNNING  # somebody asks, so all of it is folded
            page = pasts.page(run.id, 0, floor=0)
            whole = await runs._broker.read(run.id, after=0, upto=1000, limit=1000, max_bytes=MAX)
            assert (page.first, page.upto) == (1, whole[-1].offset)
            assert_law(whole, page.events)
        finally:
            await runs._tasks.close()

    asyncio.run(play())


async def test_after_a_restart_a_run_that_goes_on_is_known_again(made, reads):
    run = await external(made(reads.broker), 3000)
    pasts = Pasts()
    after, hub = made(reads.broker, pasts=pasts), hub_on(reads.broker, limits=WIDE, pasts=pasts)
    await after.recover()
    await after.external.publish(run, [("delta", {"block": "b", "delta": "more"})], producer=None)
    reads.since()
    frames = frames_of(await told(hub, run.id))
    assert reads.since() < FOLD_EVENTS
    assert text_of(frames).endswith("word2999 more")


async def ended_run(made, reads, words: int, **how):
    runs = made(reads.broker, **how)
    run = await external(runs, words)
    await runs.external.finish(run, Status.COMPLETED, result=1, error=None, producer=None)
    await asyncio.sleep(1)
    return runs, run


@pytest.mark.parametrize("floor", [0, 2000], ids=["whole", "without its beginning"])
async def test_after_a_restart_the_first_to_join_a_finished_run_gets_what_the_log_tells(made, reads, floor):
    """Its first page is beside the log, unless the run's end let go of what that page tells."""
    most = {"max_events_per_run": 3003 - floor} if floor else {}
    runs, run = await ended_run(made, reads, 3000, limits=LIMITS._replace(**most))
    reads.since()
    frames = frames_of(await told(hub_on(reads.broker, limits=WIDE), run.id))
    assert reads.since() == (3003 - floor if floor else 0)
    assert text_of(frames) == "".join(f"word{n} " for n in range(max(0, floor - 2), 3000))
    assert frames[-1]["id"] == (await log_of(runs, run))[-1]["id"]
    assert (frames[0]["type"] == "gap") == bool(floor)


async def test_of_a_run_longer_than_a_page_the_rest_is_read(made, reads):
    pasts = Pasts(page_bytes=4000)
    _, run = await ended_run(made, reads, 2000, pasts=pasts)
    reads.since()
    frames = frames_of(await told(hub_on(reads.broker, limits=WIDE, pasts=Pasts(page_bytes=4000)), run.id))
    assert 0 < reads.since() < 2003
    assert text_of(frames) == "".join(f"word{n} " for n in range(2000))


@pytest.mark.parametrize("after", ["1", "1500", "3003"])
async def test_a_cursor_within_a_stored_page_gets_what_comes_after_it(made, reads, after):
    runs, run = await ended_run(made, reads, 3000)
    epoch = (await reads.broker.get(run.id)).epoch
    frames = frames_of(await told(hub_on(reads.broker, limits=WIDE), run.id, after=f"{epoch}-{after}"))
    assert text_of(frames) == text_of((await log_of(runs, run))[int(after) :])


async def test_a_state_that_is_asked_for_has_everything_that_is_told(house):
    runs, _hub = house
    run = await external(runs, 30, by=3)
    described = await runs.views.describe(await runs.views.find(ALICE, run.id))
    assert described["blocks"]["b"] == "".join(f"word{n} " for n in range(30))
    assert described["tail"] == (await log_of(runs, run))[-1]["id"]


async def test_large_events_do_not_wait_to_be_folded(house):
    runs, _hub = house
    run = await external(runs, 0)
    for _ in range(5):
        await runs.external.publish(run, [("draft", {"stage": "s", "draft": "x" * 9000})], producer=None)
        assert len(runs._roster.get(run.id)._unfolded) <= 2


def deltas(first: int, last: int):
    """What so many deltas fold to."""
    return fold([sealed(at, "delta", {"block": "b", "delta": "x" * 5}) for at in range(first, last + 1)], max_bytes=300)


def test_growth_that_nobody_asked_for_is_a_page_and_no_more():
    pasts = Pasts(page_bytes=4000)
    whole = stream([])
    pasts.grow("run", whole, first=1, max_bytes=300)
    for first in range(3, 900, 10):
        pasts.grow("run", deltas(first, first + 9), first=first, max_bytes=300)
    page = pasts.page("run", 0, floor=0)
    assert pasts.full(page)
    assert page.bytes < 4000
    assert not pasts.page("run", page.upto, floor=0).events


def test_growth_follows_what_is_kept_or_begins_the_run_and_is_dropped_otherwise():
    pasts = Pasts()
    pasts.grow("late", deltas(2, 5), first=2, max_bytes=MAX)
    assert "late" not in pasts
    pasts.grow("run", stream([]), first=1, max_bytes=MAX)
    pasts.grow("run", deltas(4, 5), first=4, max_bytes=MAX)  # 3 is missing
    pasts.grow("run", deltas(2, 5), first=2, max_bytes=MAX)  # 2 is there
    page = pasts.page("run", 0, floor=0)
    assert (page.upto, len(page.events)) == (2, 2)
    pasts.grow("run", deltas(3, 9), first=3, max_bytes=MAX)
    assert (page.upto, json.loads(page.events[-1].json)["delta"]) == (9, "x" * 35)


async def test_a_page_does_not_grow_under_its_reader(house, reads):
    runs, hub = house
    run = await external(runs, 100)
    hub._pasts.forget(run.id)
    telling = asyncio.ensure_future(told(hub, run.id))
    reads.since()
    while not reads.count:
        await asyncio.sleep(0)
    await runs.external.publish(run, [("delta", {"block": "b", "delta": "!"})] * 100, producer=None)
    assert text_of(frames_of(await telling)) == "".join(f"word{n} " for n in range(100)) + "!" * 100


async def test_runs_that_nobody_joins_do_not_outlast_the_bound(made):
    pasts = Pasts(max_bytes=200_000)
    runs = made(pasts=pasts)
    for _ in range(20):
        run = await external(runs, 0)
        await runs.external.publish(run, [("draft", {"stage": s, "draft": s * 9000}) for s in "abcdef"], producer=None)
        assert pasts.weight <= 200_000
    assert run.id in pasts


async def test_what_does_not_fold_takes_no_room_until_somebody_asks(house, reads):
    runs, hub = house
    run = await external(runs, 0)
    await runs.external.publish(run, [("x.own", {"pad": "x" * 900})] * 500, producer=None)
    assert hub._pasts.weight < 3000
    assert len(frames_of(await told(hub, run.id))) == 502
    assert hub._pasts.weight > 100_000


async def test_a_hub_that_keeps_nothing_of_a_run_reads_it(made, reads):
    """Runs and hub of different houses: what one keeps the other does not know."""
    run = await external(made(reads.broker), 100)
    hub: Hub = hub_on(reads.broker, limits=WIDE)
    reads.since()
    await told(hub, run.id)
    assert reads.since() == 102


@pytest.mark.looptime(False)
async def test_a_pipeline_is_never_far_ahead_of_the_log(tmp_path):
    """On a real log, unseen, so that it would gather."""
    ahead: list[int] = []

    async def talker(ctx, _input):
        for number in range(1000):
            await ctx.delta("b", f"{number} ")
            ahead.append(number + 1 - (active.tail - 2))

    broker = SqliteBroker(tmp_path / "log.db")
    await broker.open()
    runs = service(broker, talker=talker)
    try:
        run = await start(runs, "talker")
        active = runs._roster.get(run.id)
        await active.ended
        assert (await log_of(runs, run))[-1]["type"] == "run.completed"
    finally:
        await runs._tasks.close()
        await broker.close()
    assert len(ahead) == 1000
    assert IN_A_TURN < max(ahead) <= MAX_AHEAD
