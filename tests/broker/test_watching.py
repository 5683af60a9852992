"""The contract of the brokers: durable before visible, and every event once to each who watches."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway.broker import MemoryBroker, Position, SqliteBroker
from gateway.wire.status import Status
from tests.broker.doubles import COMPLETED, LOTS, Recording, begun, everything, finished, in_loop, new_run, queued, says
from tests.wire.doubles import FEW


async def test_a_sink_sees_all_events_after_the_position_and_none_up_to_it(broker):
    run, sink = await begun(broker), Recording()
    position = await broker.watch(run, sink)
    record = await broker.get(run)
    assert position == Position(record.epoch, 0, 2, Status.RUNNING)
    assert sink.events == []
    await broker.append(run, [says("a"), says("b")])
    await broker.append(run, [says("c")])
    assert sink.offsets == [3, 4, 5]
    assert sink.events == (await everything(broker, run))[2:]


async def test_a_finished_run_can_be_watched_and_says_nothing_more(broker):
    run, sink = await finished(broker), Recording()
    position = await broker.watch(run, sink)
    assert (position.tail, position.status, position.floor) == (3, Status.COMPLETED, 0)
    broker.unwatch(run, sink)
    assert sink.events == []


async def test_who_stops_watching_sees_nothing_more_and_may_stop_twice(broker):
    run, sink, other = await begun(broker), Recording(), Recording()
    await broker.watch(run, sink)
    await broker.watch(run, other)
    await broker.append(run, [says("a")])
    broker.unwatch(run, sink)
    broker.unwatch(run, sink)
    await broker.append(run, [says("b")])
    assert (sink.offsets, other.offsets) == ([3], [3, 4])


async def test_a_sink_may_leave_while_it_is_told(broker):
    run, other = await begun(broker), Recording()
    seen = []

    def once(events):
        seen.extend(events)
        broker.unwatch(run, once)

    await broker.watch(run, once)
    await broker.watch(run, other)
    await broker.append(run, [says("a")])
    await broker.append(run, [says("b")])
    assert [event.offset for event in seen] == [3]
    assert other.offsets == [3, 4]


async def test_those_who_watch_have_the_event_before_its_append_returns(broker):
    run, sink = await begun(broker), Recording()
    await broker.watch(run, sink)
    cursor = await broker.append(run, [says("a")])
    assert sink.offsets[-1] == cursor.offset


async def test_what_a_sink_sees_can_be_read_at_that_moment(broker):
    """Durable before visible: nothing is shown that a read does not give."""
    run = await begun(broker)
    reads = []

    def sink(events):
        reads.append((events, asyncio.ensure_future(everything(broker, run))))

    await broker.watch(run, sink)
    await asyncio.gather(*(broker.append(run, [says(str(n))]) for n in range(20)), broker.append(run, [COMPLETED]))
    for events, reading in reads:
        held = {event.offset: event for event in await reading}
        assert all(held[event.offset] == event for event in events)


async def test_the_position_never_runs_ahead_of_what_can_be_read(broker):
    run = await begun(broker)
    appending = [asyncio.ensure_future(broker.append(run, [says(str(n))])) for n in range(20)]
    while not all(append.done() for append in appending):
        sink = Recording()
        position = await broker.watch(run, sink)
        readable = await broker.read(run, after=0, upto=position.tail, limit=LOTS, max_bytes=LOTS)
        assert len(readable) == position.tail
        record = await broker.get(run)
        assert record.tail >= position.tail
        await asyncio.sleep(0)
        broker.unwatch(run, sink)


async def test_a_run_that_is_being_made_is_not_there_before_it_is_durable(broker):
    """Whoever finds it finds its first event too."""
    asked = new_run()
    making = asyncio.ensure_future(broker.create(asked, [queued()]))
    while not making.done():
        await asyncio.sleep(0)
        if (found := await broker.get(asked.id)) is not None:
            assert found.tail == 1
            assert len(await everything(broker, asked.id)) == 1
    assert (await broker.get(asked.id)).tail == 1


def test_whoever_joins_when_has_every_event_once_and_in_order(tmp_path_factory):
    """Any interleaving of appends and joins: what is read up to the position and then watched is the whole stream."""

    async def case(broker, steps: list[str]) -> None:
        await broker.open()
        run = await begun(broker)
        joined, appending = [], []
        for number, step in enumerate(steps):
            if step == "append":
                appending.append(asyncio.ensure_future(broker.append(run, [says(str(number))])))
            elif step == "join":
                sink = Recording()
                position = await broker.watch(run, sink)
                joined.append((position, sink))
            else:
                await asyncio.sleep(0)
        await asyncio.gather(*appending)
        await broker.append(run, [COMPLETED])
        whole = await everything(broker, run)
        for position, sink in joined:
            past = await broker.read(run, after=0, upto=position.tail, limit=LOTS, max_bytes=LOTS)
            assert past + sink.events == whole
        await broker.close()

    @given(st.lists(st.sampled_from(["append", "join", "wait"]), max_size=25))
    @FEW
    def check(steps: list[str]) -> None:
        in_loop(case(MemoryBroker(), steps))
        in_loop(case(SqliteBroker(tmp_path_factory.mktemp("log") / "log.db"), steps))

    check()
