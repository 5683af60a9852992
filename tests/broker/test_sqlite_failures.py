"""When the file fails under the broker: nothing is pretended, and what was durable is found again."""

import asyncio
import sqlite3

import pytest

from gateway.broker import Key, Page, Producer, SqliteBroker
from gateway.broker.sqlite_batch import Batch
from gateway.errors import Unavailable
from tests.broker.doubles import (
    COMPLETED,
    EVERYTHING,
    Recording,
    begun,
    everything,
    finished,
    keep,
    new_run,
    outcomes,
    queued,
    says,
    unavailable,
)


def failing(error: Exception):
    def commit(self, write):
        raise error

    return commit


def every_call(broker: SqliteBroker, run: str, done: str) -> list:
    return [
        broker.append(run, [says("a")]),
        broker.append(run, [COMPLETED], producer=Producer("w", 1, 1)),
        broker.append(done, [says("a")], producer=Producer("w", 1, 1)),
        broker.create(new_run(), [queued()]),
        broker.create(new_run(), [queued()], key=Key("k", b"d")),
        broker.get(run),
        broker.get(done),
        broker.page(Page(EVERYTHING)),
        everything(broker, run),
        keep(broker, done),
        broker.snapshot(done),
        keep(broker, run, max_events=1),
        broker.erase(done),
        broker.watch(done, Recording()),
        broker.total_bytes(),
        broker.oldest_finished(1),
    ]


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk is full"), OSError(28, "no space"), MemoryError()])
async def test_a_write_that_fails_is_the_end_of_every_promise(opened, monkeypatch, error):
    broker = await opened()
    run, done, sink = await begun(broker), await finished(broker), Recording()
    await broker.watch(run, sink)
    lost = asyncio.ensure_future(broker.lost())
    await asyncio.sleep(0)
    assert broker.available
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "commit", failing(error))
        pending = [
            broker.append(run, [says("a")]),
            broker.append(run, [COMPLETED]),
            broker.create(new_run(), [queued()]),
        ]
        assert {type(outcome) for outcome in await outcomes(*pending)} == {Unavailable}
    assert not broker.available
    await asyncio.wait_for(lost, 1)
    for outcome in await outcomes(*every_call(broker, run, done)):
        assert isinstance(outcome, Unavailable)
    assert sink.events == []
    await broker.close()
    again = await opened()
    assert [event.type for event in await everything(again, run)] == ["run.queued", "run.started"]
    assert [record.id for record in await again.unfinished()] == [run]
    assert len(await everything(again, done)) == 3


async def test_a_connection_that_breaks_under_way_is_such_a_failure(opened):
    broker = await opened()
    run = await begun(broker)
    before = [asyncio.ensure_future(broker.append(run, [says(str(n))])) for n in range(3)]
    await asyncio.gather(*before)
    broker._commits._opened.write.close()
    assert all(
        isinstance(outcome, Unavailable)
        for outcome in await outcomes(*(broker.append(run, [says("x")]) for _ in range(3)))
    )
    assert not broker.available
    await broker.close()
    assert len(await everything(await opened(), run)) == 5


async def test_a_forgetting_that_fails_is_such_a_failure_too(opened):
    broker = await opened()
    run = await begun(broker)
    broker._commits._opened.write.close()
    await unavailable(keep(broker, run, max_events=1))
    assert not broker.available


async def test_a_read_that_fails_is_refused_and_writing_goes_on(opened):
    broker = await opened()
    run = await begun(broker)
    await keep(broker, run)  # what has not been moved to its place yet is read from memory
    broker._commits._opened.read.close()
    await unavailable(everything(broker, run))
    assert broker.available
    assert (await broker.append(run, [says("a")])).offset == 3


async def test_a_transaction_that_fails_half_way_leaves_nothing_behind(opened):
    broker = await opened()
    run = await begun(broker)
    broker._commits.batch._statements.append(("INSERT INTO no_such_table VALUES (1)", ()))
    await unavailable(broker.append(run, [says("a")]))
    await broker.close()
    assert len(await everything(await opened(), run)) == 2


async def test_a_caller_that_goes_away_does_not_harm_the_others(opened):
    broker = await opened()
    run = await begun(broker)
    calls = [asyncio.ensure_future(broker.append(run, [says(str(n))])) for n in range(6)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    kept = await outcomes(*calls)
    assert [outcome.offset for outcome in kept[1::2]] == [4, 6, 8]
    stored = await everything(broker, run)
    assert [event.offset for event in stored] == list(range(1, len(stored) + 1))
    assert (await broker.append(run, [says("z")])).offset == len(stored) + 1
