"""The contract of the brokers: a producer's request takes effect once, however often it is made."""

import pytest

from gateway.broker import Producer
from gateway.errors import Conflict, NotFound
from tests.broker.doubles import COMPLETED, begun, everything, outcomes, says


def conflict(outcome) -> str:
    assert isinstance(outcome, Conflict)
    return outcome.code


async def test_a_repeat_gets_the_original_cursor_and_appends_nothing(broker):
    run = await begun(broker)
    first = await broker.append(run, [says("a"), says("b")], producer=Producer("w", 1, 1))
    second = await broker.append(run, [says("c")], producer=Producer("w", 1, 2))
    await broker.append(run, [says("someone else")])
    assert await broker.append(run, [says("a"), says("b")], producer=Producer("w", 1, 1)) == first
    assert await broker.append(run, [says("c")], producer=Producer("w", 1, 2)) == second
    assert (first.offset, second.offset, (await broker.get(run)).tail) == (4, 5, 6)


async def test_a_hole_in_the_sequence_is_refused_and_can_still_be_filled(broker):
    run = await begun(broker)
    for seq in (2, 7):
        with pytest.raises(Conflict) as caught:
            await broker.append(run, [says("a")], producer=Producer("w", 1, seq))
        assert caught.value.code == "producer.gap"
    assert (await broker.append(run, [says("a")], producer=Producer("w", 1, 1))).offset == 3
    assert (await broker.append(run, [says("b")], producer=Producer("w", 1, 2))).offset == 4


async def test_a_newer_epoch_counts_from_one_and_fences_the_older(broker):
    run = await begun(broker)
    await broker.append(run, [says("a")], producer=Producer("w", 1, 1))
    await broker.append(run, [says("b")], producer=Producer("w", 1, 2))
    with pytest.raises(Conflict) as caught:
        await broker.append(run, [says("c")], producer=Producer("w", 2, 3))
    assert caught.value.code == "producer.gap"
    assert (await broker.append(run, [says("c")], producer=Producer("w", 2, 1))).offset == 5
    with pytest.raises(Conflict) as caught:
        await broker.append(run, [says("d")], producer=Producer("w", 1, 3))
    assert caught.value.code == "producer.fenced"
    assert (await broker.append(run, [says("d")], producer=Producer("w", 2, 2))).offset == 6


async def test_producers_do_not_know_each_other_nor_runs(broker):
    one, two = await begun(broker), await begun(broker)
    for run, producer in [(one, "v"), (one, "w"), (two, "v")]:
        await broker.append(run, [says("a")], producer=Producer(producer, 1, 1))
    assert [len(await everything(broker, run)) for run in (one, two)] == [4, 3]


async def test_a_repeat_after_the_end_gets_the_original_cursor_and_a_new_request_is_refused(broker):
    run = await begun(broker)
    said = await broker.append(run, [says("a")], producer=Producer("w", 1, 1))
    ended = await broker.append(run, [COMPLETED], producer=Producer("w", 1, 2))
    assert await broker.append(run, [says("a")], producer=Producer("w", 1, 1)) == said
    assert await broker.append(run, [COMPLETED], producer=Producer("w", 1, 2)) == ended
    assert await broker.append(run, [], producer=Producer("w", 1, 2)) == ended
    for new in (Producer("w", 1, 3), Producer("v", 1, 1), Producer("w", 2, 1)):
        with pytest.raises(Conflict) as caught:
            await broker.append(run, [says("b")], producer=new)
        assert caught.value.code == "run.finished"


async def test_a_repeat_while_the_first_is_on_its_way_gets_the_same_cursor(broker):
    run = await begun(broker)
    producer = Producer("w", 1, 1)
    first, again, other, third = await outcomes(
        broker.append(run, [says("a")], producer=producer),
        broker.append(run, [says("a")], producer=producer),
        broker.append(run, [says("b")]),
        broker.append(run, [says("a")], producer=producer),
    )
    assert first == again == third
    assert (first.offset, other.offset, len(await everything(broker, run))) == (3, 4, 4)


async def test_requests_in_a_row_need_not_wait_for_each_other(broker):
    run = await begun(broker)
    cursors = await outcomes(*(broker.append(run, [says("a")], producer=Producer("w", 1, seq)) for seq in range(1, 30)))
    assert [cursor.offset for cursor in cursors] == list(range(3, 32))


async def test_a_repeat_of_the_end_while_it_is_on_its_way_gets_its_cursor_and_a_new_end_is_refused(broker):
    run = await begun(broker)
    given = await outcomes(
        broker.append(run, [COMPLETED], producer=Producer("w", 1, 1)),
        broker.append(run, [COMPLETED], producer=Producer("w", 1, 1)),
        broker.append(run, [COMPLETED], producer=Producer("w", 1, 2)),
        broker.append(run, [], producer=Producer("w", 1, 2)),
    )
    assert given[0] == given[1]
    assert [conflict(outcome) for outcome in given[2:]] == ["run.finished", "run.finished"]


async def test_a_refused_request_does_not_count(broker):
    run = await begun(broker)
    with pytest.raises(Conflict):
        await broker.append(run, [COMPLETED, says("a")], producer=Producer("w", 1, 1))
    assert (await broker.append(run, [says("a")], producer=Producer("w", 1, 1))).offset == 3
    with pytest.raises(NotFound):
        await broker.append("nope", [says("a")], producer=Producer("w", 1, 1))


async def test_a_fenced_producer_is_told_so_also_when_it_repeats(broker):
    run = await begun(broker)
    await broker.append(run, [says("a")], producer=Producer("w", 1, 1))
    await broker.append(run, [says("b")], producer=Producer("w", 2, 1))
    with pytest.raises(Conflict) as caught:
        await broker.append(run, [says("a")], producer=Producer("w", 1, 1))
    assert caught.value.code == "producer.fenced"
