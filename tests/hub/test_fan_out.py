"""Fanning out to many: one encoding, turns for everyone else, and the order that holds all the same."""

import asyncio
from itertools import pairwise

import pytest

from gateway.hub import Topic
from gateway.hub import topic as topic_module
from gateway.wire.framing import SSE, WEBSOCKET
from tests.broker.doubles import COMPLETED, begun, says
from tests.hub.doubles import connect, hub_on, join, live, nothing_left, settled

COST_S = 0.0002


class Costly:
    """A client to whom every write takes its time, by a clock that only writes move."""

    clock = 0.0

    def __init__(self, transport) -> None:
        self._transport = transport

    def __getattr__(self, name):
        return getattr(self._transport, name)

    def offer(self, data: bytes) -> bool:
        Costly.clock += COST_S
        return self._transport.offer(data)


@pytest.fixture(autouse=True)
async def clock(monkeypatch):
    began = asyncio.get_running_loop().time()
    monkeypatch.setattr(Costly, "clock", 0.0)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: began + Costly.clock)


async def crowd(hub, run, count):
    connections = [connect(hub, sole=False) for _ in range(count)]
    for connection in connections:
        await join(hub, connection, run, replay="none")
        connection.transport = Costly(connection.transport)
    await settled(hub)
    return connections


async def test_fanning_out_to_many_lets_others_have_a_turn():
    hub = hub_on()
    run = await begun(hub._broker)
    connections = await crowd(hub, run, 300)
    turns = []

    async def watch():
        while not all(connection.transport.data for connection in connections):
            turns.append(Costly.clock)
            await asyncio.sleep(0)
        turns.append(Costly.clock)

    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0)
    await hub._broker.append(run, [says("a")])
    assert 0 < sum(bool(connection.transport.data) for connection in connections) < 300
    await watching
    longest = max(later - earlier for earlier, later in pairwise(turns))
    assert longest <= topic_module.TURN_S + topic_module.SLICE * COST_S


async def test_order_holds_when_more_is_said_meanwhile():
    hub = hub_on()
    run = await begun(hub._broker)
    connections = await crowd(hub, run, 200)
    for number in range(10):
        await hub._broker.append(run, [says(str(number))])
        await asyncio.sleep(0)
    newcomer = connect(hub)
    await join(hub, newcomer, run, replay="full")
    await hub._broker.append(run, [COMPLETED])
    await newcomer.transport.finished.wait()
    while any(connection.subscriptions for connection in connections):
        await asyncio.sleep(0)
    assert {tuple(connection.transport.offsets()) for connection in connections} == {tuple(range(3, 14))}
    assert newcomer.transport.offsets() == list(range(1, 14))


async def test_those_who_leave_half_way_are_not_written_to():
    hub = hub_on()
    run = await begun(hub._broker)
    connections = await crowd(hub, run, 300)
    await hub._broker.append(run, [says("a")])
    late = [connection for connection in connections if not connection.transport.data]
    assert late
    for connection in late:
        hub.forget(connection)
    await asyncio.sleep(0.0)
    await hub._broker.append(run, [says("b")])
    await asyncio.sleep(0)
    assert not any(connection.transport.data for connection in late)
    for connection in connections:
        hub.forget(connection)
    assert nothing_left(hub)


async def test_an_event_is_encoded_once_for_each_framing():
    hub = hub_on()
    run = await begun(hub._broker)
    connections = [(await live(hub, run, replay="none"))[0] for _ in range(5)]
    sse = connect(hub, framing=SSE)
    await join(hub, sse, run, replay="none")
    await hub._broker.append(run, [says("a"), says("b")])
    first = connections[0].transport.writes
    assert len(first) == 1
    assert all(connection.transport.writes[0] is first[0] for connection in connections)
    assert sse.transport.writes[0].startswith(b"id: ")
    assert connections[0].framing is WEBSOCKET


def test_a_turn_is_short():
    assert topic_module.TURN_S <= 0.005
    assert Topic("r", max_event_bytes=1).tail == 0
