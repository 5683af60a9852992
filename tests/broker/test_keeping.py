"""The contract of the brokers: snapshots kept beside the log, and a log that forgets its beginning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker import MemoryBroker, Snapshot, SqliteBroker
from tests.broker.doubles import COMPLETED, LOTS, Recording, begun, everything, finished, in_loop, keep, outcomes, says
from tests.wire.doubles import FEW


def weight(events) -> int:
    return sum(len(event.json) for event in events)


async def test_a_snapshot_is_kept_in_place_of_the_earlier_one_and_shows_in_the_record(broker):
    run = await finished(broker)
    assert await broker.snapshot(run) is None
    for offset in (2, 3):
        taken = Snapshot(offset, b'{"s":1}', b'{"state":%d}' % offset, b"past %d\n" % offset)
        assert await broker.keep(run, taken, max_events=LOTS, max_bytes=LOTS) == 0
    assert await broker.snapshot(run) == Snapshot(3, b'{"s":1}', b'{"state":3}')
    assert await broker.past(run) == b"past 3\n"
    assert (await broker.get(run)).summary == b'{"s":1}'
    assert len(await everything(broker, run)) == 3
    await keep(broker, run, offset=3)
    assert await broker.past(run) == b""
    await broker.erase(run)
    assert await broker.snapshot(run) is None
    assert await broker.past(run) == b""


async def test_a_record_has_no_summary_from_before_its_run_ended(broker):
    """A process that dies at the end of a run leaves the state that retention kept while it was under way."""
    run = await begun(broker)
    await keep(broker, run, offset=2)
    assert (await broker.get(run)).summary is None
    await broker.append(run, [COMPLETED])
    assert (await broker.get(run)).summary is None
    await keep(broker, run, offset=3)
    assert (await broker.get(run)).summary == b"{}"


async def test_a_run_weighs_what_is_held_of_it(broker):
    run = await begun(broker)
    await broker.append(run, [says("a" * n) for n in range(10)])
    held = await everything(broker, run)
    assert broker.weigh(run) == (12, weight(held))
    await keep(broker, run, max_events=5)
    assert broker.weigh(run) == (5, weight(held[-5:]))
    await broker.append(run, [COMPLETED])
    assert broker.weigh(run) == (0, 0)


async def test_the_total_is_the_bytes_of_all_events_held(broker):
    assert await broker.total_bytes() == 0
    runs = [await begun(broker), await finished(broker)]
    await broker.append(runs[0], [says("a" * 300)])

    async def weighed():
        return sum([weight(await everything(broker, run)) for run in runs])

    assert await broker.total_bytes() == await weighed()
    for run in runs:
        await keep(broker, run, max_events=1)
        assert await broker.total_bytes() == await weighed()
    await broker.erase(runs.pop())
    assert await broker.total_bytes() == await weighed()


async def test_the_total_is_right_when_a_run_forgets_while_it_ends(broker):
    for first in (True, False):
        run = await begun(broker)
        await broker.append(run, [says("a" * 300) for _ in range(8)])
        forgetting, ending = keep(broker, run, max_events=3), broker.append(run, [COMPLETED])
        await outcomes(*((forgetting, ending) if first else (ending, forgetting)))
        assert await broker.total_bytes() == weight(await everything(broker, run))
        await broker.erase(run)


async def test_what_was_forgotten_is_gone_and_the_rest_keeps_its_offsets(broker):
    run, sink = await begun(broker), Recording()
    await broker.append(run, [says(str(n)) for n in range(8)])
    assert await keep(broker, run, max_events=4) == 6
    assert [event.offset for event in await everything(broker, run)] == [7, 8, 9, 10]
    assert (await broker.get(run)).floor == 6
    assert (await broker.watch(run, sink)).floor == 6
    assert await keep(broker, run, max_events=4) == 6
    assert (await broker.append(run, [says("more")])).offset == 11
    assert sink.offsets == [11]


@pytest.mark.parametrize("offset, floor", [(0, 0), (1, 1), (4, 4), (6, 6), (7, 6), (10, 6)])
async def test_only_what_the_snapshot_covers_is_forgotten(broker, offset, floor):
    run = await begun(broker)
    await broker.append(run, [says(str(n)) for n in range(8)])
    assert await keep(broker, run, offset=offset, max_events=4) == floor
    assert (await everything(broker, run))[0].offset == floor + 1


async def test_the_newest_event_always_stays(broker):
    run = await begun(broker)
    await broker.append(run, [says("a" * 1000)])
    assert await keep(broker, run, max_events=1, max_bytes=1) == 2
    assert [event.offset for event in await everything(broker, run)] == [3]


async def test_the_beginning_of_a_finished_run_can_go_too(broker):
    run = await finished(broker)
    assert await keep(broker, run, max_events=1) == 2
    record = await broker.get(run)
    assert (record.floor, record.tail, record.summary) == (2, 3, b"{}")


@pytest.mark.parametrize("caps", [(5, 5), (5, 3), (3, 5)])
async def test_keepings_side_by_side_forget_what_they_forget_one_after_the_other(broker, caps):
    run = await begun(broker)
    await broker.append(run, [says("a" * n) for n in range(10)])
    floors = await outcomes(*(keep(broker, run, max_events=cap) for cap in caps))
    held = await everything(broker, run)
    assert [event.offset for event in held] == list(range(13 - min(caps), 13))
    assert (floors[-1], broker.weigh(run)) == (12 - min(caps), (min(caps), weight(held)))


def test_any_keeping_leaves_the_longest_end_that_may_be_held(tmp_path_factory):
    async def case(broker, sizes, keeps):
        await broker.open()
        run = await begun(broker)
        await broker.append(run, [says("a" * size) for size in sizes])
        for max_events, max_bytes in keeps:
            before = await everything(broker, run)
            floor = await keep(broker, run, max_events=max_events, max_bytes=max_bytes)
            held = await everything(broker, run)
            assert held == before[len(before) - len(held) :]
            assert floor == held[0].offset - 1
            assert len(held) == 1 or (len(held) <= max_events and weight(held) <= max_bytes)
            if len(held) < len(before):
                one_more = before[len(before) - len(held) - 1]
                assert len(held) == max_events or weight(held) + len(one_more.json) > max_bytes
            assert broker.weigh(run) == (len(held), weight(held))
        await broker.close()

    @given(
        st.lists(st.integers(0, 300), min_size=1, max_size=12),
        st.lists(st.tuples(st.integers(1, 12), st.integers(1, 3000)), min_size=1, max_size=3),
    )
    @FEW
    def check(sizes, keeps):
        in_loop(case(MemoryBroker(), sizes, keeps))
        in_loop(case(SqliteBroker(tmp_path_factory.mktemp("log") / "log.db"), sizes, keeps))

    check()
