"""The contract of the brokers: making runs, appending to them, the one end, reading."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker import MemoryBroker, SqliteBroker
from gateway.errors import Conflict, NotFound
from gateway.wire import json
from gateway.wire.cursor import Cursor
from gateway.wire.status import Status
from tests.broker.doubles import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    EVERYTHING,
    FAILED,
    LOTS,
    STARTED,
    Recording,
    begun,
    everything,
    finished,
    in_loop,
    new_run,
    outcomes,
    queued,
    says,
)
from tests.wire.doubles import FEW


async def test_a_made_run_is_new_and_its_stream_begins_with_its_drafts(broker, clock):
    asked = new_run("bob", creator="alice")
    record, created = await broker.create(asked, [queued(), says("a")])
    assert created
    assert (record.id, record.owner, record.creator, record.input) == (asked.id, "bob", "alice", b'{"a":1}')
    assert (record.status, record.tail, record.floor) == (Status.QUEUED, 2, 0)
    assert record.created_at == int(clock.now * 1000)
    assert [event.type for event in await everything(broker, asked.id)] == ["run.queued", "delta"]


async def test_a_record_follows_its_run(broker, clock):
    run = await begun(broker)
    clock.now += 5
    under_way = await broker.get(run)
    assert (under_way.status, under_way.tail, under_way.finished_at) == (Status.RUNNING, 2, None)
    assert under_way.started_at == int((clock.now - 5) * 1000)
    await broker.append(run, [says("a"), COMPLETED])
    ended = await broker.get(run)
    assert (ended.status, ended.tail, ended.finished_at) == (Status.COMPLETED, 4, int(clock.now * 1000))
    assert (ended.started_at, ended.created_at, ended.epoch) == (
        under_way.started_at,
        under_way.created_at,
        under_way.epoch,
    )


async def test_a_run_that_is_not_there_is_not_there_for_anyone(broker):
    assert await broker.get("nope") is None
    assert await broker.snapshot("nope") is None
    assert await everything(broker, "nope") == []
    assert await broker.watch("nope", Recording()) is None
    assert broker.weigh("nope") == (0, 0)
    broker.unwatch("nope", Recording())
    for refused in (broker.append("nope", [says("a")]), broker.erase("nope")):
        with pytest.raises(NotFound):
            await refused


async def test_append_gives_the_cursor_of_the_last_event_and_the_stored_bytes_are_complete(broker):
    run = await begun(broker)
    cursor = await broker.append(run, [says("a"), says("b")])
    record = await broker.get(run)
    assert cursor == Cursor(record.epoch, 4)
    stored = await everything(broker, run)
    for event in stored:
        said = json.loads(event.json)
        assert (said["type"], said["run"], said["id"]) == (event.type, run, f"{record.epoch}-{event.offset}")
        assert (event.id, event.run) == (said["id"], run)


async def test_epochs_have_the_form_of_the_protocol_and_differ_between_runs(broker):
    epochs = {(await broker.create(new_run(), [queued()]))[0].epoch for _ in range(5)}
    assert len(epochs) == 5
    assert all((1 <= len(epoch) <= 13 and epoch.isascii() and epoch.isalnum() and epoch.islower()) or epoch.isdigit()
               for epoch in epochs)  # fmt: skip


@pytest.mark.parametrize("made", ["memory", "sqlite"])
def test_offsets_have_no_holes_whoever_appends_how_much_and_when(made, tmp_path_factory):
    """Any number of concurrent appenders; each sees its own events in one piece and in its own order."""

    async def case(said: list[tuple[int, int]]) -> None:
        path = tmp_path_factory.mktemp("log") / "log.db"
        broker = MemoryBroker() if made == "memory" else SqliteBroker(path)
        await broker.open()
        run, sink = await begun(broker), Recording()
        position = await broker.watch(run, sink)
        cursors = {}

        async def appender(number: int) -> None:
            for place, (who, count) in enumerate(said):
                if who == number:
                    texts = [f"{number}:{place}:{part}" for part in range(count)]
                    cursors[place] = await broker.append(run, [says(text) for text in texts])

        await asyncio.gather(*(appender(number) for number in range(4)))
        stored = await everything(broker, run)
        assert [event.offset for event in stored] == list(range(1, len(stored) + 1))
        assert sink.events == stored[position.tail :]
        texts = [json.loads(event.json)["delta"] for event in stored[2:]]
        for place, (who, count) in enumerate(said):
            last = cursors[place].offset
            assert texts[last - 2 - count : last - 2] == [f"{who}:{place}:{part}" for part in range(count)]
        for number in range(4):
            own = [int(text.split(":")[1]) for text in texts if text.startswith(f"{number}:")]
            assert own == sorted(own)
        await broker.close()

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=15))
    @FEW
    def check(said: list[tuple[int, int]]) -> None:
        in_loop(case(said))

    check()


async def test_appends_take_effect_in_the_order_of_the_calls(broker):
    run = await begun(broker)
    cursors = await asyncio.gather(*(broker.append(run, [says(str(n))]) for n in range(50)))
    assert [cursor.offset for cursor in cursors] == list(range(3, 53))
    assert [json.loads(event.json)["delta"] for event in (await everything(broker, run))[2:]] == [
        str(n) for n in range(50)
    ]


async def test_an_append_of_which_one_event_cannot_follow_appends_nothing(broker):
    run = await begun(broker)
    with pytest.raises(Conflict) as caught:
        await broker.append(run, [says("a"), COMPLETED, says("b")])
    assert caught.value.code == "run.finished"
    assert (await broker.get(run)).tail == 2
    assert (await broker.append(run, [says("c")])).offset == 3


async def test_nothing_follows_a_terminal_event(broker):
    run = await finished(broker)
    for drafts in ([says("a")], [CANCELLING], [FAILED], [STARTED], []):
        with pytest.raises(Conflict) as caught:
            await broker.append(run, drafts)
        assert caught.value.code == "run.finished"
    assert (await broker.get(run)).tail == 3


@pytest.mark.parametrize("drafts", [[COMPLETED, FAILED, CANCELLED], [CANCELLING, COMPLETED, CANCELLED, FAILED]])
async def test_a_stream_takes_exactly_one_terminal_event_whoever_races(broker, drafts):
    run, sink = await begun(broker), Recording()
    await broker.watch(run, sink)
    given = await outcomes(*(broker.append(run, [draft]) for draft in [*drafts, says("late"), *drafts]))
    refusals = [outcome for outcome in given if isinstance(outcome, Exception)]
    assert all(isinstance(refusal, Conflict) and refusal.code == "run.finished" for refusal in refusals)
    stored = await everything(broker, run)
    assert sum(event.type in ("run.completed", "run.failed", "run.cancelled") for event in stored) == 1
    assert (await broker.get(run)).status.terminal
    assert sink.events == stored[2:]
    assert len(stored) == 2 + len(given) - len(refusals)


async def test_nothing_at_all_is_refused_too_while_the_end_is_on_its_way(broker):
    run = await begun(broker)
    given = await outcomes(broker.append(run, [COMPLETED]), broker.append(run, []))
    assert isinstance(given[1], Conflict)


async def test_unfinished_runs_are_those_without_a_terminal_event(broker):
    first, second = await begun(broker), await begun(broker)
    third, _ = await broker.create(new_run(), [queued()])
    await broker.append(first, [COMPLETED])
    assert {run.id for run in await broker.unfinished()} == {second, third.id}
    assert {run.status for run in await broker.unfinished()} == {Status.RUNNING, Status.QUEUED}


async def test_a_read_gives_the_span_that_was_asked_for(broker):
    run = await begun(broker)
    await broker.append(run, [says(str(n)) for n in range(8)])

    async def offsets(after, upto, limit=LOTS, max_bytes=LOTS):
        return [e.offset for e in await broker.read(run, after=after, upto=upto, limit=limit, max_bytes=max_bytes)]

    assert await offsets(0, LOTS) == list(range(1, 11))
    assert await offsets(3, 5) == [4, 5]
    assert await offsets(5, 5) == []
    assert await offsets(7, 3) == []
    assert await offsets(10, LOTS) == []
    assert await offsets(2, LOTS, limit=3) == [3, 4, 5]
    assert await offsets(2, LOTS, max_bytes=0) == [3]


async def test_a_read_takes_no_further_event_once_it_is_past_its_bytes(broker):
    run = await begun(broker)
    await broker.append(run, [says("a" * 500) for _ in range(5)])
    size = len((await everything(broker, run))[2].json)
    for max_bytes, count in [(1, 1), (size - 1, 1), (size, 2), (size + 1, 2), (3 * size, 4), (LOTS, 5)]:
        page = await broker.read(run, after=2, upto=LOTS, limit=LOTS, max_bytes=max_bytes)
        assert len(page) == count, max_bytes


async def test_a_finished_run_is_erased_with_all_that_belongs_to_it(broker):
    run, kept = await finished(broker), await finished(broker)
    await broker.erase(run)
    assert await broker.get(run) is None
    assert await everything(broker, run) == []
    assert await broker.watch(run, Recording()) is None
    assert [found.id for found in await broker.page(_page())] == [kept]
    with pytest.raises(NotFound):
        await broker.erase(run)
    assert len(await everything(broker, kept)) == 3


async def test_an_unfinished_run_cannot_be_erased(broker):
    run = await begun(broker)
    with pytest.raises(Conflict) as caught:
        await broker.erase(run)
    assert caught.value.code == "run.active"
    assert len(await everything(broker, run)) == 2


async def test_closing_twice_is_closing_once(broker):
    assert broker.available
    await broker.close()
    await broker.close()


async def test_what_does_not_fail_is_never_lost(broker):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(broker.lost(), 0.01)


def _page():
    from gateway.broker import Page

    return Page(EVERYTHING)
