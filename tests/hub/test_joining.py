"""What a join gets: gaps, replays, filters."""

import asyncio

import pytest

from gateway.hub import Join
from gateway.hub.subscription import State
from gateway.wire.cursor import Resume
from tests.broker.doubles import COMPLETED, begun, finished, keep
from tests.hub.doubles import connect, hub_on, join, live, many, settled

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("after", ["k-1", "mad\r\n", "EPOCH-99", "EPOCH-0", "EPOCH-1"])
async def test_a_cursor_that_cannot_be_resumed_gets_the_gap_and_then_all_that_is_held(after):
    hub = hub_on()
    run = await begun(hub._broker)
    await many(hub, run, 5)
    assert await keep(hub._broker, run, max_events=4) == 3
    epoch = (await hub._broker.get(run)).epoch
    after = after.replace("EPOCH", epoch)
    connection = connect(hub)
    subscription = await join(hub, connection, run, after=after, replay="full")
    await settled(hub)
    assert subscription.resume is Resume.GAP
    assert connection.transport.frames()[0] == {"type": "gap", "run": run, "after": after, "from": f"{epoch}-4"}
    assert connection.transport.offsets() == [4, 5, 6, 7]


async def test_a_slow_client_whose_next_event_was_forgotten_is_told_of_the_gap():
    hub = hub_on()
    run = await begun(hub._broker)
    connection, _ = await live(hub, run, replay="full")
    connection.transport.stalled = True
    await many(hub, run, 10)
    last = connection.transport.offsets()[-1]
    epoch = (await hub._broker.get(run)).epoch
    for topic in hub._topics.values():
        topic._recent.clear()
    await keep(hub._broker, run, max_events=2)
    start = len(connection.transport.data)
    connection.transport.drain()
    await settled(hub)
    gap, *events = connection.transport.frames(start)
    assert gap == {"type": "gap", "run": run, "after": f"{epoch}-{last}", "from": f"{epoch}-11"}
    assert [frame["id"] for frame in events] == [f"{epoch}-11", f"{epoch}-12"]


async def test_without_replay_only_what_is_said_from_now_on_comes():
    hub = hub_on()
    run = await begun(hub._broker)
    connection, subscription = await live(hub, run, replay="none")
    assert connection.transport.data == b""
    await many(hub, run, 1)
    assert (connection.transport.offsets(), subscription.cursor) == ([3], 3)


async def test_without_replay_a_cursor_counts_all_the_same():
    hub = hub_on()
    run = await begun(hub._broker)
    epoch = (await hub._broker.get(run)).epoch
    connection, _ = await live(hub, run, replay="none", after=f"{epoch}-1")
    assert connection.transport.offsets() == [2]


@pytest.mark.parametrize("replay, offsets", [("none", [3]), ("full", [1, 2, 3]), ("folded", [1, 2, 3])])
async def test_a_finished_run_gives_its_terminal_event_in_any_case_and_ends(replay, offsets):
    hub = hub_on()
    run = await finished(hub._broker)
    connection = connect(hub)
    subscription = await join(hub, connection, run, replay=replay, types=frozenset({"delta"}))
    await settled(hub)
    assert connection.transport.offsets() == offsets
    assert (subscription.state, connection.transport.finished.is_set()) == (State.ENDED, True)


async def test_a_filter_holds_in_the_past_and_in_the_present():
    hub = hub_on()
    run = await begun(hub._broker)
    await many(hub, run, 2)
    connection, subscription = await live(hub, run, types=frozenset({"warning"}))
    assert connection.transport.offsets() == [1, 2]
    await many(hub, run, 3)
    assert (connection.transport.offsets(), subscription.cursor) == ([1, 2], 7)
    await hub._broker.append(run, [COMPLETED])
    assert connection.transport.types() == ["run.queued", "run.started", "run.completed"]


@pytest.mark.parametrize("replay", ["full", "folded"])
async def test_what_is_forgotten_while_a_read_waits_is_told_of_too(monkeypatch, replay):
    hub = hub_on()
    run = await begun(hub._broker)
    await many(hub, run, 20)
    read, on = hub._broker.read, asyncio.Event()

    async def late(*asked, **how):
        await on.wait()
        return await read(*asked, **how)

    monkeypatch.setattr(hub._broker, "read", late)
    connection = connect(hub)
    await join(hub, connection, run, replay=replay)
    await asyncio.sleep(1)
    await many(hub, run, 20)
    floor = await keep(hub._broker, run, max_events=5)
    on.set()
    await settled(hub)
    first = connection.transport.frames()[0]
    assert (first["type"], first["after"], first["from"].partition("-")[2]) == ("gap", "0", str(floor + 1))
    assert connection.transport.offsets() == (list(range(floor + 1, 43)) if replay == "full" else [42])


async def test_a_beginning_that_was_gone_is_told_of_although_more_goes_before_the_stream_starts():
    hub = hub_on()
    run = await begun(hub._broker)
    await many(hub, run, 10)
    floor = await keep(hub._broker, run, max_events=6)
    await live(hub, run, replay="full")  # what it has read is remembered
    connection = connect(hub)
    subscription = await hub.subscribe(connection, await hub._broker.get(run), Join(replay="full"))
    await keep(hub._broker, run, max_events=3)
    await join(hub, connect(hub), run)  # somebody else comes to what is left
    subscription.start()
    await settled(hub)
    first, *_ = connection.transport.frames()
    assert (first["type"], first["after"], first["from"].partition("-")[2]) == ("gap", "0", str(floor + 1))
    assert connection.transport.offsets() == list(range(floor + 1, 13))
