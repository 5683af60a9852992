"""The states of a subscription and every way from one to another."""

import asyncio

import pytest

from gateway.errors import NotFound, Unavailable
from gateway.hub import Join
from gateway.hub.subscription import State
from gateway.wire.codes import Close
from gateway.wire.cursor import Resume
from tests.broker.doubles import COMPLETED, begun, new_run, queued
from tests.hub.doubles import Recorder, connect, hub_on, join, live, many, nothing_left, settled

pytestmark = pytest.mark.looptime


async def test_new_is_behind_then_live_and_gets_what_is_said(looptime):
    hub = hub_on()
    run = await begun(hub._broker)
    connection = connect(hub)
    subscription = await join(hub, connection, run)
    assert subscription.state is State.BEHIND
    await settled(hub)
    assert subscription.state is State.LIVE
    assert connection.transport.offsets() == [1, 2]
    await many(hub, run, 2)
    assert connection.transport.offsets() == [1, 2, 3, 4]


async def test_one_that_has_everything_is_live_at_once():
    hub = hub_on()
    run = await begun(hub._broker)
    epoch = (await hub._broker.get(run)).epoch
    connection = connect(hub)
    subscription = await join(hub, connection, run, after=f"{epoch}-2")
    assert (subscription.state, subscription.resume) == (State.LIVE, Resume.RESUMED)
    assert connection.transport.data == b""


async def test_live_falls_behind_and_is_live_again_once_it_has_caught_up():
    hub = hub_on()
    run = await begun(hub._broker)
    connection, subscription = await live(hub, run, replay="full")
    transport = connection.transport
    transport.stalled = True
    await many(hub, run, 10)
    assert subscription.state is State.BEHIND
    written = transport.offsets()[-1]
    assert written < 12
    assert transport.unsent() <= 1000 + 500
    transport.take(100)
    await asyncio.sleep(1)
    assert transport.offsets()[-1] == written
    transport.drain()
    await settled(hub)
    assert subscription.state is State.LIVE
    assert transport.offsets() == list(range(1, 13))


async def test_what_a_slow_client_missed_comes_folded_unless_it_wants_all():
    for replay, count in [("folded", 1), ("none", 1), ("full", 20)]:
        hub = hub_on()
        run = await begun(hub._broker)
        connection, _ = await live(hub, run, replay=replay)
        transport = connection.transport
        transport.stalled = True
        await many(hub, run, 4)
        lost_at = len(transport.frames())
        await many(hub, run, 20 - 4 + lost_at - len(transport.frames()))
        start, last = len(transport.data), transport.offsets()[-1]
        missed = (await hub._broker.get(run)).tail - last
        transport.drain()
        await settled(hub)
        assert len(transport.frames(start)) == (missed if count > 1 else 1)
        assert transport.offsets()[-1] == last + missed


async def test_one_that_stalls_gets_no_events_however_often_it_asks_anew():
    """Asking again is no way to make the gateway hold more than it may."""
    hub = hub_on()
    run = await begun(hub._broker)
    connection = connect(hub, sole=False)
    transport = connection.transport
    await join(hub, connection, run)
    await settled(hub)
    await many(hub, run, 20)
    transport.stalled = True
    for _ in range(50):
        await join(hub, connection, run, replay="full")
        await asyncio.sleep(0.01)
    assert transport.unsent() <= 1000 + 20 * 500
    hub.forget(connection)


@pytest.mark.parametrize("stalled", [False, True])
async def test_the_terminal_event_ends_it_from_live_and_from_behind(stalled):
    hub = hub_on()
    run = await begun(hub._broker)
    connection, subscription = await live(hub, run)
    connection.transport.stalled = stalled
    await many(hub, run, 5)
    assert subscription.state is (State.BEHIND if stalled else State.LIVE)
    await hub._broker.append(run, [COMPLETED])
    connection.transport.drain()
    await settled(hub)
    assert subscription.state is State.ENDED
    assert connection.transport.types()[-1] == "run.completed"
    assert connection.transport.finished.is_set()
    assert connection.close is Close.NORMAL
    hub.forget(connection)
    assert nothing_left(hub)


async def test_a_connection_for_several_runs_stays_when_one_of_them_ends():
    hub = hub_on()
    one, two = await begun(hub._broker), await begun(hub._broker)
    connection = connect(hub, sole=False)
    for run in (one, two):
        await join(hub, connection, run)
    await settled(hub)
    await hub._broker.append(one, [COMPLETED])
    assert list(connection.subscriptions) == [two]
    assert not connection.transport.finished.is_set()
    await hub._broker.append(two, [COMPLETED])
    assert not connection.transport.finished.is_set()
    sole = connect(hub)
    three, four = await begun(hub._broker), await begun(hub._broker)
    for run in (three, four):
        await join(hub, sole, run)
    await settled(hub)
    await hub._broker.append(three, [COMPLETED])
    assert not sole.transport.finished.is_set()
    await hub._broker.append(four, [COMPLETED])
    assert sole.transport.finished.is_set()


async def test_leaving_ends_it_from_behind_and_from_live_and_says_nothing_more():
    hub = hub_on()
    run = await begun(hub._broker)
    for wait in (False, True):
        connection = connect(hub, sole=False)
        subscription = await join(hub, connection, run)
        if wait:
            await settled(hub)
        subscription.end()
        subscription.end()
        assert subscription.state is State.ENDED
        said = connection.transport.data
        await many(hub, run, 2)
        await settled(hub)
        assert connection.transport.data == said
        hub.forget(connection)
    assert nothing_left(hub)


async def test_a_new_subscription_to_the_same_run_takes_the_place_of_the_old_one():
    hub = hub_on()
    run = await begun(hub._broker)
    connection, first = await live(hub, run)
    start = len(connection.transport.data)
    second = await join(hub, connection, run, replay="full")
    await settled(hub)
    assert (first.state, second.state) == (State.ENDED, State.LIVE)
    assert connection.transport.offsets(start) == [1, 2]
    await many(hub, run, 1)
    assert connection.transport.offsets(start) == [1, 2, 3]
    assert not connection.transport.finished.is_set()


async def test_a_run_that_is_not_there_is_not_found_and_leaves_nothing():
    hub = hub_on()
    connection = connect(hub)
    record, _ = await hub._broker.create(new_run(), [queued()])
    await hub._broker.append(record.id, [COMPLETED])
    await hub._broker.erase(record.id)
    with pytest.raises(NotFound):
        await hub.subscribe(connection, record, Join())
    hub.forget(connection)
    assert nothing_left(hub)


async def test_a_connection_that_closed_meanwhile_gets_no_subscription():
    hub = hub_on()
    run = await begun(hub._broker)
    connection = connect(hub)
    hub.forget(connection)
    with pytest.raises(ConnectionResetError):
        await join(hub, connection, run)
    assert nothing_left(hub)


async def test_a_log_that_cannot_be_read_sends_the_client_away_to_come_back(monkeypatch):
    hub = hub_on()
    run = await begun(hub._broker)

    async def read(*_, **__):
        raise Unavailable("broker.unavailable")

    monkeypatch.setattr(hub._broker, "read", read)
    connection = connect(hub)
    await join(hub, connection, run)
    await settled(hub)
    assert connection.transport.frames() == [{"type": "reconnect", "after_ms": 1000, "reason": "broker.unavailable"}]
    assert (connection.close, connection.transport.finished.is_set()) == (Close.DRAINING, True)
    hub.forget(connection)
    assert nothing_left(hub)


async def test_a_client_that_is_cut_off_while_it_catches_up_is_no_fault():
    hub = hub_on()
    run = await begun(hub._broker)
    connection, subscription = await live(hub, run)
    connection.transport.stalled = True
    await many(hub, run, 10)
    assert subscription.state is State.BEHIND
    connection.transport.abort()
    await settled(hub)
    hub.forget(connection)
    assert subscription.state is State.ENDED
    assert nothing_left(hub)
    assert isinstance(connection.transport, Recorder)


async def test_events_said_between_subscribing_and_starting_come_once():
    hub = hub_on()
    run = await begun(hub._broker)
    connection = connect(hub)
    subscription = await hub.subscribe(connection, await hub._broker.get(run), Join(replay="full"))
    await many(hub, run, 3)
    subscription.start()
    await settled(hub)
    await many(hub, run, 1)
    assert connection.transport.offsets() == [1, 2, 3, 4, 5, 6]
