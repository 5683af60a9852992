"""Any interleaving of appends, joins, stalls and departures: each client gets exactly what it is owed."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.broker import Broker, MemoryBroker, SqliteBroker
from gateway.hub import Connection, Join
from gateway.wire import json
from gateway.wire.events import Draft, Event
from gateway.wire.fold import select
from gateway.wire.state import State
from tests.broker.doubles import COMPLETED, begun, everything, in_loop
from tests.hub.doubles import LIMITS, Recorder, connect, hub_on, join, nothing_left
from tests.wire import doubles as wire
from tests.wire.doubles import BOUNDED

CLIENTS = 3
client = st.integers(0, CLIENTS - 1)
step = st.one_of(
    st.tuples(st.just("append"), st.lists(wire.said.filter(lambda said: not said[0].startswith("run.")), max_size=4)),
    st.tuples(st.just("flood"), st.integers(1, 12)),
    st.tuples(
        st.just("join"),
        client,
        st.sampled_from(["full", "folded", "none"]),
        st.none() | st.integers(0, 30),
        wire.filters,
    ),
    st.tuples(st.sampled_from(["stall", "drain", "leave"]), client),
    st.tuples(st.just("turn"), st.integers(1, 4)),
)


class Session:
    """One subscription of one client, with what it has received since."""

    def __init__(self, transport: Recorder, join: Join, cursor: int) -> None:
        self.transport = transport
        self.join = join
        self.cursor = cursor
        self.start = len(transport.data)
        self.end: int | None = None

    def received(self) -> list[dict[str, Any]]:
        data = self.transport.data[self.start : self.end]
        probe = Recorder.__new__(Recorder)
        probe.data = data
        return probe.frames()


def state_of(events: list[Event], received: list[dict[str, Any]]) -> dict[str, Any]:
    state = State()
    for event in events:
        state.apply(event)
    for fields in received:
        state.apply_fields(fields["type"], fields)
    return state.fields()


def check(session: Session, whole: list[Event]) -> None:
    received = session.received()
    assert not [frame for frame in received if "id" not in frame], "no control frame was due"
    offsets = [int(frame["id"].split("-")[1]) for frame in received]
    owed = [event for event in select(whole, session.join.types) if event.offset > session.cursor]
    stayed = session.end is None
    if stayed:
        assert offsets[-1:] == [event.offset for event in owed][-1:]
    if session.join.replay == "full":
        assert [json.dumps(frame) for frame in received] == [
            json.dumps(json.loads(e.json)) for e in owed[: len(received)]
        ]
        assert not stayed or len(received) == len(owed)
    assert offsets == sorted(set(offsets))
    known = [event for event in select(whole, session.join.types) if event.offset <= session.cursor]
    for length, offset in enumerate(offsets, start=1):
        all_so_far = [event for event in owed if event.offset <= offset]
        assert state_of(known, received[:length]) == state_of([*known, *all_so_far], [])


class Play:
    """A run and its clients, played step by step."""

    def __init__(self, broker: Broker, **limits: int) -> None:
        self.broker = broker
        self.hub = hub_on(broker, limits=LIMITS._replace(**limits))
        self.connections: dict[int, Connection] = {}
        self.sessions: list[Session] = []
        self.current: dict[int, Session] = {}
        self.appends: list[asyncio.Future] = []

    async def begin(self) -> None:
        self.run = await begun(self.broker)
        self.epoch = (await self.broker.get(self.run)).epoch

    def _append(self, drafts: list[Draft]) -> None:
        self.appends.append(asyncio.ensure_future(self.broker.append(self.run, drafts)))

    async def append(self, said: list[tuple[str, dict]]) -> None:
        if said:
            self._append([wire.draft(*each) for each in said])

    async def flood(self, count: int) -> None:
        for _ in range(count):
            self._append([wire.draft("delta", {"block": "flood", "delta": "a" * 200})])

    async def join(self, who: int, replay: str, after: int | None, types: frozenset[str] | None) -> None:
        if who not in self.connections:
            self.connections[who] = connect(self.hub, Recorder(limit=600))
        connection, record = self.connections[who], await self.broker.get(self.run)
        cursor = f"{self.epoch}-{after}" if after and after <= record.tail else None
        wanted = Join(cursor, replay, types)
        subscription = await self.hub.subscribe(connection, record, wanted)
        self._over(who)
        self.current[who] = Session(connection.transport, wanted, subscription.cursor)
        self.sessions.append(self.current[who])
        subscription.start()

    async def stall(self, who: int) -> None:
        if who in self.connections:
            self.connections[who].transport.stalled = True

    async def drain(self, who: int) -> None:
        if who in self.connections:
            self.connections[who].transport.drain()

    async def leave(self, who: int) -> None:
        self._over(who)
        if who in self.connections:
            self.hub.forget(self.connections.pop(who))

    async def turn(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    def _over(self, who: int) -> None:
        if who in self.current:
            session = self.current.pop(who)
            session.end = len(session.transport.data)

    async def end(self) -> None:
        await asyncio.gather(*self.appends)
        await self.broker.append(self.run, [COMPLETED])
        async with asyncio.timeout(30):
            for connection in self.connections.values():
                connection.transport.drain()
                await connection.transport.finished.wait()
        whole = await everything(self.broker, self.run)
        for session in self.sessions:
            check(session, whole)
        for connection in self.connections.values():
            self.hub.forget(connection)
        while len(self.hub._tasks):
            await asyncio.sleep(0)
        assert nothing_left(self.hub)


async def case(broker: Broker, steps: list[tuple], **limits: int) -> None:
    await broker.open()
    play = Play(broker, **limits)
    await play.begin()
    for name, *what in steps:
        await getattr(play, name)(*what)
    await play.end()
    await broker.close()


@given(st.lists(step, max_size=30))
@settings(BOUNDED, max_examples=150)
def test_each_client_gets_what_it_is_owed_on_a_log_in_memory(steps):
    in_loop(case(MemoryBroker(), steps), fast=True)


@given(st.lists(step, max_size=30))
@settings(BOUNDED, max_examples=150)
def test_each_client_gets_what_it_is_owed_when_the_past_is_in_small_pages(steps):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.hub.topic.RECENT_EVENTS", 2)
        patch.setattr("gateway.hub.past.MIN_PAGE_BYTES", 400)
        in_loop(case(MemoryBroker(), steps, max_buffer_bytes=400), fast=True)


def test_each_client_gets_what_it_is_owed_on_a_log_in_a_file(tmp_path_factory):
    @given(st.lists(step, max_size=25))
    @settings(BOUNDED, max_examples=50)
    def check_(steps):
        in_loop(case(SqliteBroker(tmp_path_factory.mktemp("log") / "log.db"), steps))

    check_()


@pytest.mark.looptime
async def test_a_thousand_clients_that_come_and_go_leave_nothing_behind():
    hub = hub_on()
    run = await begun(hub._broker)
    connections = [connect(hub) for _ in range(1000)]
    for connection in connections:
        await join(hub, connection, run)
    assert (hub.connections, len(hub._topics)) == (1000, 1)
    for connection in connections:
        hub.forget(connection)
        hub.forget(connection)
    await asyncio.sleep(1)
    assert nothing_left(hub)
    assert hub._broker._runs[run].stream.sinks == ()
