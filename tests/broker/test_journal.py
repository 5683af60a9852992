"""The journal of the SQLite broker: where an event lies until it is moved to its run's others."""

import asyncio
import shutil
import sqlite3
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker import MemoryBroker, SqliteBroker, sqlite_commit, sqlite_file, sqlite_journal
from gateway.errors import Conflict
from tests.broker.doubles import COMPLETED, LOTS, Recording, begun, everything, finished, in_loop, keep, says
from tests.wire.doubles import FEW


def rows(broker: SqliteBroker, table: str) -> int:
    return broker._commits.check().write.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - two names of our own


@pytest.fixture
def small(monkeypatch):
    """A journal that is full at ten events."""
    monkeypatch.setattr(sqlite_journal, "MOVE_EVENTS", 10)


async def test_a_commit_writes_to_the_journal_and_a_full_one_is_moved(opened, small):
    broker = await opened()
    runs = [await begun(broker) for _ in range(3)]
    assert (rows(broker, "journal"), rows(broker, "events")) == (6, 0)
    for run in runs:
        await broker.append(run, [says("a"), says("b")])
    await broker._commits.change(lambda _write: None)  # a move is under way
    assert (rows(broker, "journal"), rows(broker, "events")) == (2, 10)
    for run in runs:
        assert [event.offset for event in await everything(broker, run)] == [1, 2, 3, 4]


@pytest.mark.parametrize("after", range(12))
@pytest.mark.parametrize("limit", [1, 3, LOTS])
async def test_a_page_is_the_same_wherever_its_events_lie(opened, small, after, limit):
    broker = await opened()
    run = await begun(broker)
    for number in range(10):
        await broker.append(run, [says(str(number))])
    page = await broker.read(run, after=after, upto=11, limit=limit, max_bytes=LOTS)
    offsets = [event.offset for event in page]
    assert offsets == list(range(after + 1, after + 1 + len(offsets)))
    assert len(offsets) <= limit
    assert offsets or after >= 11


async def test_nothing_is_lost_when_the_process_dies_before_a_move(opened, tmp_path):
    broker = await opened()
    open_run, done = await begun(broker), await finished(broker)
    await broker.append(open_run, [says("a")])
    assert rows(broker, "events") == 0
    for name in ("log.db", "log.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / name.replace("log", "left"))
    again = await opened("left.db")
    assert rows(again, "journal") == 0
    assert [event.offset for event in await everything(again, open_run)] == [1, 2, 3]
    assert [event.offset for event in await everything(again, done)] == [1, 2, 3]
    assert (await again.append(open_run, [says("b")])).offset == 4


async def test_a_file_that_was_closed_in_order_has_everything_at_its_place(opened, tmp_path):
    broker = await opened()
    await finished(broker)
    await broker.close()
    with sqlite3.connect(tmp_path / "log.db") as connection:
        assert connection.execute("SELECT count(*) FROM journal").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (3,)
    connection.close()


async def test_what_was_forgotten_or_erased_does_not_come_back(opened):
    broker = await opened()
    kept, erased = await begun(broker), await finished(broker)
    await broker.append(kept, [says(str(n)) for n in range(5)])
    assert await keep(broker, kept, max_events=2) == 5
    await broker.erase(erased)
    await broker.append(kept, [says("last")])
    await broker.close()
    again = await opened()
    assert [event.offset for event in await everything(again, kept)] == [6, 7, 8]
    assert await everything(again, erased) == []


async def test_a_file_of_the_first_version_is_taken_over(opened, tmp_path):
    schema = files("gateway.broker").joinpath("schema.sql").read_text()
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.executescript(f"{schema} PRAGMA user_version=1;")
    connection.close()
    broker = await opened()
    assert len(await everything(broker, await finished(broker))) == 3
    assert broker._commits.check().write.execute("PRAGMA user_version").fetchone() == (len(sqlite_file.SCRIPTS),)


async def test_what_is_appended_without_waiting_comes_in_order_and_together(opened):
    broker, sink = await opened(), Recording()
    run = await begun(broker)
    await broker.watch(run, sink)
    for number in range(20):
        broker.append_nowait(run, says(str(number)))
    assert sink.events == []
    await broker.durable()
    assert sink.batches == [list(range(3, 23))]
    broker.append_nowait(run, COMPLETED)
    with pytest.raises(Conflict, match="finished"):
        broker.append_nowait(run, says("too late"))
    await broker.durable()
    with pytest.raises(Conflict):
        broker.append_nowait(run, says("too late"))
    assert sink.offsets == list(range(3, 24))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 2), st.integers(1, 4)),
        st.tuples(st.just("nowait"), st.integers(0, 2), st.integers(1, 4)),
        st.tuples(st.just("keep"), st.integers(0, 2), st.integers(1, 6)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@FEW
@given(steps=STEPS, full=st.integers(1, 8))
def test_whatever_happens_in_between_it_holds_what_a_broker_in_memory_holds(steps, full):
    async def check() -> None:
        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite_journal, "MOVE_EVENTS", full)
            path = Path(folder, "log.db")
            broker, memory = SqliteBroker(path), MemoryBroker()
            await broker.open()
            runs = [await begun(broker) for _ in range(3)]
            models = [await begun(memory) for _ in range(3)]
            for step, which, size in steps:
                if step == "reopen":
                    await broker.close()
                    broker = SqliteBroker(path)
                    await broker.open()
                for each, run in ((broker, runs[which]), (memory, models[which])):
                    if step == "append":
                        await each.append(run, [says("x" * n) for n in range(size)])
                    elif step == "nowait":
                        for n in range(size):
                            each.append_nowait(run, says("x" * n))
                    elif step == "keep":
                        await each.durable()
                        await keep(each, run, max_events=size)
            await broker.durable()
            for run, model in zip(runs, models, strict=True):
                held, expected = await everything(broker, run), await everything(memory, model)
                assert [event.offset for event in held] == [event.offset for event in expected]
                assert broker.weigh(run)[0] == memory.weigh(model)[0]
            await broker.close()

    in_loop(check())


@pytest.fixture
async def chatter(opened, monkeypatch):
    """Three runs that never stop speaking, while nobody sees it, and that would gather for ever."""
    monkeypatch.setattr(sqlite_commit, "GATHER_UNSEEN_S", 1000)
    broker, keeper = await opened(), Recording()
    runs = [await begun(broker) for _ in range(3)]
    for run in runs:
        await broker.watch(run, keeper, patient=True)

    async def speak() -> None:
        while True:
            for run in runs:
                broker.append_nowait(run, says("x"))
            await asyncio.sleep(0.001)

    speaking = asyncio.ensure_future(speak())
    yield broker, runs, keeper
    speaking.cancel()


async def test_what_nobody_sees_gathers_until_a_viewer_comes(chatter):
    broker, runs, keeper = chatter
    await asyncio.sleep(0.2)
    assert (keeper.batches, broker.queue > 0) == ([], True)
    viewer = Recording()
    async with asyncio.timeout(100):
        position = await broker.watch(runs[0], viewer)
        while len(viewer.batches) < 3:
            await asyncio.sleep(0)
    assert viewer.offsets == list(range(position.tail + 1, position.tail + 1 + len(viewer.offsets)))
    broker.unwatch(runs[0], viewer)
    await broker.durable()
    await asyncio.sleep(0.1)  # what was under way when the viewer left
    told = len(keeper.batches)
    await asyncio.sleep(0.1)
    assert len(keeper.batches) == told


async def test_who_waits_is_not_kept_waiting_by_what_nobody_sees(chatter):
    broker, _runs, _keeper = chatter
    other = await begun(broker)
    for _ in range(5):
        async with asyncio.timeout(100):
            await broker.append(other, [says("y")])
            await broker.durable()


async def test_closing_keeps_what_nobody_has_seen(opened, monkeypatch):
    broker = await opened()
    runs = [await begun(broker) for _ in range(3)]
    for number in range(200):
        for run in runs:
            broker.append_nowait(run, says(str(number)))
        if number % 20 == 0:
            await asyncio.sleep(0)
    await broker.close()
    after = await opened()
    for run in runs:
        assert [event.offset for event in await everything(after, run)] == list(range(1, 203))


async def test_who_comes_to_wait_ends_the_gathering(opened, monkeypatch):
    monkeypatch.setattr(sqlite_commit, "GATHER_UNSEEN_S", 1000)
    broker = await opened()
    run = await begun(broker)
    for number in range(5):
        offset = broker.append_nowait(run, says(str(number)))
        await asyncio.sleep(0.02)
        assert (await broker.get(run)).tail < offset
        async with asyncio.timeout(100):
            await broker.durable()
        assert (await broker.get(run)).tail == offset


async def test_what_is_seen_is_not_kept_waiting_by_what_nobody_sees(chatter):
    broker, _runs, _keeper = chatter
    other, viewer = await begun(broker), Recording()
    await broker.watch(other, viewer)
    async with asyncio.timeout(100):
        for number in range(1, 6):
            await asyncio.sleep(0.02)  # by now only what nobody sees is gathering
            broker.append_nowait(other, says("z"))
            while len(viewer.events) < number:
                await asyncio.sleep(0.001)
