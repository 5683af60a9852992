"""The clock, the limits and the end of all connections.

Over 300 lines, as these stand in one module of the hub's, too.
"""

import asyncio

import pytest

from gateway.errors import TooMany, Unavailable
from gateway.hub.hub import MAX_TICK_S, SLICE
from gateway.wire import control
from gateway.wire.codes import Close
from gateway.wire.framing import SSE, SSE_CHUNKED, WEBSOCKET
from tests.broker.doubles import begun, says
from tests.hub.doubles import (
    HEARTBEAT_S,
    LIMITS,
    START,
    Recorder,
    connect,
    hub_on,
    join,
    nothing_left,
)

pytestmark = pytest.mark.looptime


@pytest.fixture
async def started():
    hubs = []

    def make(*args, **kwargs):
        hubs.append(hub_on(*args, **kwargs))
        hubs[-1].start()
        return hubs[-1]

    yield make
    for hub in hubs:
        await hub.close()


async def test_a_heartbeat_comes_only_after_silence(started):
    hub = started()
    run = await begun(hub._broker)
    connection = connect(hub)
    await join(hub, connection, run)
    for _ in range(6):
        await asyncio.sleep(HEARTBEAT_S / 3)
        await hub._broker.append(run, [says("a")])
    assert "heartbeat" not in connection.transport.types()
    await asyncio.sleep(HEARTBEAT_S + 2)
    assert connection.transport.types()[-1:] == ["heartbeat"]
    await asyncio.sleep(10 * HEARTBEAT_S)
    assert 9 <= connection.transport.types().count("heartbeat") <= 11


async def test_the_heartbeats_of_a_large_crowd_are_spread_as_its_pongs_come_back_at_once(started):
    hub = started()
    crowd = [connect(hub, subject=str(number)) for number in range(3 * SLICE)]
    for connection in crowd:
        connection.transport.heard = 0.0
    await asyncio.sleep(HEARTBEAT_S * 1.1 + MAX_TICK_S)
    beats = sorted({connection.wrote_at for connection in crowd})
    assert [sum(connection.wrote_at == at for connection in crowd) for at in beats] == [SLICE] * 3
    assert MAX_TICK_S / 4 < beats[-1] - beats[0] < MAX_TICK_S / 2
    assert all(connection._pinged_at == connection.wrote_at for connection in crowd)


async def test_a_client_that_nobody_reads_from_is_not_taken_for_a_silent_one(started):
    hub = started()
    connection = connect(hub, Recorder(pings=True))
    connection.transport.heard = float("inf")
    await asyncio.sleep(HEARTBEAT_S + LIMITS.stall_timeout_s + 5)
    assert connection.close is None


async def test_no_connection_is_silent_for_much_longer_than_a_heartbeat(started):
    hub = started()
    connection = connect(hub)
    await asyncio.sleep(HEARTBEAT_S * 1.1 + 0.1)
    assert connection.transport.types() == ["heartbeat"]


async def test_a_heartbeat_is_the_same_bytes_for_everyone_of_a_framing(started):
    hub = started()
    connections = [connect(hub, framing=framing) for framing in (SSE, SSE, SSE_CHUNKED, WEBSOCKET, WEBSOCKET)]
    await asyncio.sleep(HEARTBEAT_S + 2)
    (first,), (second,), (chunked,), (ws,), (other,) = [connection.transport.writes for connection in connections]
    assert first is second
    assert ws is other
    assert first in chunked
    ts = round((START + HEARTBEAT_S) * 1000)
    beats = [SSE.control(control.heartbeat(ts + late)) for late in range(0, 1501, 1)]
    assert first in beats


async def test_no_heartbeat_while_something_is_unsent(started):
    hub = started()
    run = await begun(hub._broker)
    connection = connect(hub)
    connection.transport.stalled = True
    await join(hub, connection, run)
    await asyncio.sleep(HEARTBEAT_S + 5)
    assert connection.transport.types() == ["run.queued", "run.started"]
    connection.transport.drain()
    await asyncio.sleep(2)
    assert connection.transport.types()[-1] == "heartbeat"


async def test_a_credential_that_runs_out_is_told_once_and_then_ends_the_connection(started):
    hub = started()
    connection = connect(hub, expires_at=START + 200)
    await asyncio.sleep(138)
    assert "auth.expiring" not in connection.transport.types()
    await asyncio.sleep(4)
    assert connection.transport.frames()[-1] == {"type": "auth.expiring", "expires_at": round((START + 200) * 1000)}
    await asyncio.sleep(56)
    assert connection.transport.types().count("auth.expiring") == 1
    assert not connection.transport.finished.is_set()
    await asyncio.sleep(4)
    assert connection.transport.finished.is_set()
    assert connection.close is Close.TOKEN_EXPIRED


async def test_a_renewed_credential_is_told_of_again_in_its_own_time(started):
    hub = started()
    connection = connect(hub, expires_at=START + 50)
    await asyncio.sleep(30)
    hub.belongs(connection, "alice", START + 200)
    await asyncio.sleep(100)
    assert connection.transport.types().count("auth.expiring") == 1
    await asyncio.sleep(40)
    assert connection.transport.types().count("auth.expiring") == 2
    assert connection.transport.finished.is_set() is False


@pytest.mark.parametrize("life_s", [0.1, 0.8, 1.4, 2, 5])
async def test_however_short_its_life_a_credential_is_told_of_before_it_ends_the_connection(started, life_s):
    hub = started()
    connections = []
    for _ in range(20):
        connections.append(connect(hub, expires_at=START + asyncio.get_running_loop().time() + life_s))
        await asyncio.sleep(0.15)
    await asyncio.sleep(10)
    for connection in connections:
        assert connection.transport.types() == ["auth.expiring"]
        assert connection.close is Close.TOKEN_EXPIRED


async def test_credentials_of_a_short_life_are_told_of_at_half_of_it(started):
    hub = started()
    connection = connect(hub, expires_at=START + 20)
    told = 0
    for second in range(1, 101):
        await asyncio.sleep(1)
        if connection.transport.types().count("auth.expiring") > told:
            told += 1
            hub.belongs(connection, "alice", START + second + 20)
    assert 7 <= told <= 10
    assert not connection.transport.finished.is_set()


async def test_a_client_that_takes_nothing_is_cut_off(started):
    hub = started()
    run = await begun(hub._broker)
    connection = connect(hub)
    connection.transport.stalled = True
    await join(hub, connection, run)
    await asyncio.sleep(LIMITS.stall_timeout_s - 2)
    assert not connection.transport.aborted
    await asyncio.sleep(5)
    assert connection.transport.aborted
    assert connection.close is Close.TOO_SLOW


async def test_a_client_that_takes_a_little_now_and_then_is_not_cut_off(started):
    hub = started()
    run = await begun(hub._broker)
    connection = connect(hub)
    connection.transport.stalled = True
    await hub._broker.append(run, [says("a" * 500)])
    await join(hub, connection, run)
    for _ in range(6):
        await asyncio.sleep(LIMITS.stall_timeout_s * 0.8)
        connection.transport.take(20)
    assert not connection.transport.aborted


async def test_a_client_that_takes_less_than_is_said_is_slow_but_not_stalled(started):
    """What it takes counts, also while more is written than it takes."""
    hub = started()
    run = await begun(hub._broker)
    connection = connect(hub, Recorder(limit=1 << 20))
    connection.transport.stalled = True
    await join(hub, connection, run)
    for _ in range(int(LIMITS.stall_timeout_s * 4)):
        await hub._broker.append(run, [says("a" * 200)])
        await asyncio.sleep(0.5)
        connection.transport.take(50)
    assert not connection.transport.aborted


async def test_one_that_answers_no_ping_is_cut_off_and_one_that_does_is_not(started):
    hub = started()
    dead, alive = connect(hub, Recorder(pings=True)), connect(hub, Recorder(pings=True))
    loop = asyncio.get_running_loop()
    for _ in range(80):
        await asyncio.sleep(1)
        alive.transport.heard = loop.time()
    assert dead.close is Close.TOO_SLOW
    assert dead.transport.finished.is_set()
    assert alive.close is None


async def test_the_limits_of_connections_hold_and_counts_go_back_to_nothing(started):
    hub = started(limits=LIMITS._replace(max_connections=3, max_connections_per_subject=2))
    connections = [connect(hub), connect(hub)]
    with pytest.raises(TooMany) as caught:
        connect(hub)
    assert caught.value.code == "limit.connections"
    connections.append(connect(hub, subject="bob"))
    with pytest.raises(Unavailable) as caught:
        connect(hub, subject="carol")
    assert caught.value.code == "server.busy"
    assert caught.value.retry_after_ms > 0
    for connection in connections:
        hub.forget(connection)
        hub.forget(connection)
    assert (hub.connections, hub._places.taken, dict(hub._places._addresses)) == (0, 0, {})
    for _ in range(2):
        connect(hub)


async def test_those_who_have_not_said_who_they_are_count_in_all_and_then_for_their_subject(started):
    hub = started(limits=LIMITS._replace(max_connections=4, max_connections_per_subject=1))
    unknown = [connect(hub, subject="") for _ in range(3)]
    hub.belongs(unknown[0], "alice", START + 9)
    with pytest.raises(TooMany):
        hub.belongs(unknown[1], "alice", START + 9)
    assert unknown[1].subject == ""
    hub.belongs(unknown[0], "alice", START + 99)
    hub.forget(unknown[0])
    hub.belongs(unknown[1], "alice", START + 9)
    for connection in unknown:
        hub.forget(connection)
    assert dict(hub._places._subjects) == {}


async def test_viewers_are_told_of_as_they_come_and_go(started):
    told = []
    hub = started(watching=lambda run, change: told.append(change))
    run = await begun(hub._broker)
    first, second = connect(hub), connect(hub)
    await join(hub, first, run)
    await join(hub, second, run)
    await join(hub, second, run)
    assert sum(told) == 2
    for connection in (first, second):
        hub.forget(connection)
    assert sum(told) == 0


async def test_a_drain_refuses_newcomers_and_sends_everyone_away_one_after_the_other(started):
    hub = started()
    connections = [connect(hub) for _ in range(5)]
    hub.draining = True
    with pytest.raises(Unavailable) as caught:
        connect(hub)
    assert caught.value.code == "server.draining"
    loop = asyncio.get_running_loop()
    began = loop.time()
    ended = {}

    async def owner(connection):
        await connection.transport.finished.wait()
        ended[connection] = loop.time() - began
        hub.forget(connection)

    owners = [asyncio.ensure_future(owner(connection)) for connection in connections]
    await hub.drain(over_s=10, gone_in_s=12)
    await asyncio.wait_for(hub.gone(), 5)
    await asyncio.gather(*owners)
    assert sorted(ended.values()) == pytest.approx([2, 4, 6, 8, 10], abs=0.2)
    for connection in connections:
        (frame,) = connection.transport.frames()
        assert (frame["type"], frame["reason"]) == ("reconnect", "server.draining")
        assert ended[connection] + frame["after_ms"] / 1000 >= 12
        assert connection.close is Close.DRAINING
    assert hub.connections == 0


async def test_a_lost_log_sends_everyone_away(started):
    hub = started()
    connections = [connect(hub) for _ in range(3)]
    hub.abandon(reason="broker.unavailable")
    for connection in connections:
        assert connection.transport.frames()[0]["reason"] == "broker.unavailable"
        assert connection.transport.finished.is_set()


async def test_closing_cuts_off_whoever_is_left():
    hub = hub_on()
    hub.start()
    run = await begun(hub._broker)
    connection = connect(hub)
    await join(hub, connection, run)
    await hub.close()
    assert connection.transport.aborted
    hub.forget(connection)
    assert nothing_left(hub)


async def test_a_topic_can_be_watched_for_a_while_and_wakes_who_waits():
    hub = hub_on()
    run = await begun(hub._broker)
    record = await hub._broker.get(run)
    async with hub.topic(record) as topic:
        waiting = asyncio.ensure_future(topic.moved(2))
        await asyncio.sleep(1)
        assert not waiting.done()
        await hub._broker.append(run, [says("a")])
        await asyncio.wait_for(waiting, 1)
        gave_up = asyncio.ensure_future(topic.moved(3))
        await asyncio.sleep(1)
        gave_up.cancel()
        await asyncio.sleep(0)
        assert topic._waiters == []
    assert nothing_left(hub)
