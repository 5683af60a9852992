"""What the SQLite broker promises beside the contract: its file, and what happens when that fails."""

import asyncio
import os
import shutil
import sqlite3
import tracemalloc

import pytest

from gateway.broker import (
    Key,
    Page,
    Producer,
    Snapshot,
    SqliteBroker,
    Visible,
    sqlite_batch,
    sqlite_file,
    sqlite_journal,
)
from gateway.broker import sqlite_queries as queries
from gateway.errors import Conflict
from gateway.wire import json
from gateway.wire.status import Status
from tests.broker.doubles import (
    CANCELLING,
    COMPLETED,
    EVERYTHING,
    LOTS,
    Recording,
    begun,
    everything,
    finished,
    keep,
    new_run,
    queued,
    says,
    unavailable,
)


async def test_a_reopened_file_has_everything(opened):
    broker = await opened()
    done, running = await finished(broker), await begun(broker)
    keyed, _ = await broker.create(new_run(), [queued()], key=Key("k", b"d"))
    await broker.append(running, [says("ä\n")], producer=Producer("w", 3, 1))
    await broker.append(running, [CANCELLING])
    await broker.keep(done, Snapshot(3, b"{}", b'{"s":1}', b"p"), max_events=LOTS, max_bytes=LOTS)
    before = {run: (await broker.get(run), await everything(broker, run)) for run in (done, running, keyed.id)}
    await broker.close()
    broker = await opened()
    for run, (record, stored) in before.items():
        assert await broker.get(run) == record
        assert await everything(broker, run) == stored
    assert {run.id: run.status for run in await broker.unfinished()} == {running: "cancelling", keyed.id: "queued"}
    assert await broker.snapshot(done) == Snapshot(3, b"{}", b'{"s":1}')
    assert await broker.past(done) == b"p"
    assert (await broker.create(new_run(), [queued()], key=Key("k", b"d")))[0].id == keyed.id
    assert (await broker.append(running, [], producer=Producer("w", 3, 1))).offset == 3
    with pytest.raises(Conflict, match="fenced"):
        await broker.append(running, [says("x")], producer=Producer("w", 2, 1))
    assert (await broker.append(running, [says("x")], producer=Producer("w", 3, 2))).offset == 5
    assert [run.id for run in await broker.page(Page(EVERYTHING, status=Status.CANCELLING))] == [running]


async def test_a_run_goes_on_after_reopening_without_a_hole_and_under_the_same_epoch(opened):
    broker = await opened()
    run = await begun(broker)
    await broker.append(run, [says("a"), says("b")])
    await keep(broker, run, max_events=1)
    weight = broker.weigh(run)
    await broker.close()
    broker = await opened()
    sink = Recording()
    position = await broker.watch(run, sink)
    assert (position.floor, position.tail, position.status) == (3, 4, Status.RUNNING)
    assert broker.weigh(run) == weight
    cursor = await broker.append(run, [COMPLETED])
    assert (str(cursor), sink.offsets) == (f"{position.epoch}-5", [5])


async def test_the_total_is_right_for_a_run_that_forgot_and_ended_in_another_process(opened):
    broker = await opened()
    run = await begun(broker)
    await broker.append(run, [says("a" * 300) for _ in range(8)])
    await keep(broker, run, max_events=3)
    await broker.append(run, [says("b")])
    await broker.close()
    broker = await opened()
    await keep(broker, run, max_events=2)
    await broker.append(run, [says("c"), COMPLETED])
    held = await everything(broker, run)
    assert await broker.total_bytes() == sum(len(event.json) for event in held)


async def test_keeping_looks_at_what_goes_and_not_at_what_stays(opened):
    """A run at its caps forgets a little every second, and commits wait for that."""
    broker = await opened()
    run = await begun(broker)
    await broker.append(run, [says("a" * 200) for _ in range(20_000)])
    await keep(broker, run)
    write, rounds = broker._commits.check().write, []
    write.set_progress_handler(lambda: rounds.append(None), 1000)
    held = broker.weigh(run)[1]
    assert await keep(broker, run, max_events=20_000) == 2
    assert await keep(broker, run, max_bytes=held - 1000) > 2
    write.set_progress_handler(None, 0)
    assert len(rounds) < 5


async def test_a_run_of_many_requests_goes_in_pieces_too(opened, monkeypatch):
    monkeypatch.setattr(sqlite_batch, "ERASED_AT_ONCE", 5)
    broker = await opened()
    run = await begun(broker)
    for seq in range(1, 23):
        await broker.append(run, [says("a")], producer=Producer("w", 1, seq))
    await broker.append(run, [COMPLETED])
    write, pieces, left = broker._commits.check().write, [], True
    sqlite_journal.move(write)
    while left:
        before = write.total_changes
        left = sqlite_batch.erase_some(write, 1)
        pieces.append(write.total_changes - before)
    assert max(pieces) < 15
    assert write.execute("SELECT count(*) FROM requests").fetchone() == (0,)
    assert await broker.get(run) is None


async def test_a_file_belongs_to_one_broker_at_a_time(opened):
    broker = await opened()
    second = SqliteBroker(broker._path)
    assert "another gateway has it open" in await unavailable(second.open())
    await second.close()
    (broker._path.parent / "other.db").symlink_to(broker._path)
    third = SqliteBroker(broker._path.parent / "other.db")
    assert "another gateway has it open" in await unavailable(third.open())
    await third.close()
    await begun(broker)
    await broker.close()
    await (await opened()).unfinished()


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
async def test_a_file_that_is_no_database_is_refused_by_its_name_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "log.db"
    path.write_bytes(content)
    broker = SqliteBroker(path)
    assert str(path) in await unavailable(broker.open())
    assert path.read_bytes() == content
    await broker.close()


async def test_a_place_where_no_file_can_be_is_refused_by_its_name(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "log.db", tmp_path):
        broker = SqliteBroker(path)
        assert str(path) in await unavailable(broker.open())
        await broker.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
async def test_a_read_only_folder_is_refused_by_its_name(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    broker = SqliteBroker(folder / "log.db")
    assert str(folder) in await unavailable(broker.open())
    await broker.close()


async def test_a_schema_of_the_future_is_refused_and_left_as_it_is(opened, tmp_path):
    broker = await opened()
    run = await begun(broker)
    await broker.close()
    connection = sqlite3.connect(tmp_path / "log.db")
    connection.execute("PRAGMA user_version=999")
    connection.close()
    later = SqliteBroker(tmp_path / "log.db")
    assert "schema version 999" in await unavailable(later.open())
    await later.close()
    connection = sqlite3.connect(tmp_path / "log.db")
    assert connection.execute("SELECT id FROM runs").fetchone() == (run,)
    connection.close()


async def test_a_folder_that_is_missing_is_made(opened):
    await begun(await opened("deep/er/log.db"))


async def test_before_it_is_open_and_after_it_is_closed_nothing_is_promised(opened, tmp_path):
    await unavailable(SqliteBroker(tmp_path / "other.db").create(new_run(), [queued()]))
    broker = await opened()
    run = await begun(broker)
    await broker.close()
    for call in (
        broker.append(run, [says("a")]),
        broker.get(run),
        everything(broker, run),
        broker.page(Page(EVERYTHING)),
    ):
        await unavailable(call)


async def test_what_was_asked_before_closing_is_done(opened):
    broker = await opened()
    run = await begun(broker)
    appends = [asyncio.ensure_future(broker.append(run, [says(str(n))])) for n in range(10)]
    await asyncio.sleep(0)
    await broker.close()
    assert [(await append).offset for append in appends] == list(range(3, 13))
    assert len(await everything(await opened(), run)) == 12


async def crash(broker: SqliteBroker, folder) -> None:
    """A copy of the file as it is on the disk now: what a new process would find."""
    folder.mkdir()
    for part in broker._path.parent.glob("log.db*"):
        shutil.copy(part, folder / part.name)


@pytest.mark.parametrize(
    "durable, boot, changes", [(False, "two", True), (False, "one", False), (True, "two", False), (False, "", True)]
)
async def test_only_a_stop_that_may_have_lost_events_gives_unfinished_runs_a_new_epoch(
    opened, tmp_path, durable, boot, changes
):
    broker = await opened(boot="one", durable=durable)
    run, done = await begun(broker), await finished(broker)
    await broker.append(run, [says('"id":"x-1"')])
    epochs = [(await broker.get(each)).epoch for each in (run, done)]
    await crash(broker, tmp_path / "crashed")
    after = await opened("crashed/log.db", boot=boot, durable=False)
    assert ((await after.get(run)).epoch != epochs[0]) is changes
    assert (await after.get(done)).epoch == epochs[1]
    epoch = (await after.get(run)).epoch
    for event in await everything(after, run):
        assert json.loads(event.json)["id"] == event.id == f"{epoch}-{event.offset}"
    assert (await everything(after, run))[2].json.endswith(b'"block":"b","delta":"\\"id\\":\\"x-1\\""}')
    assert str(await after.append(run, [COMPLETED])) == f"{epoch}-4"


async def test_a_new_epoch_does_not_take_a_run_into_memory(opened, tmp_path):
    broker = await opened(boot="one")
    run = await begun(broker)
    await broker.append(run, [says("a" * 1000) for _ in range(10_000)])
    await crash(broker, tmp_path / "crashed")
    tracemalloc.start()
    try:
        after = await opened("crashed/log.db", boot="two")
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    last = (await after.read(run, after=10_001, upto=LOTS, limit=1, max_bytes=LOTS))[0]
    assert json.loads(last.json)["id"] == last.id == f"{(await after.get(run)).epoch}-10002"


async def test_a_clean_stop_keeps_every_epoch_whatever_the_boot(opened):
    broker = await opened(boot="one")
    run = await begun(broker)
    epoch = (await broker.get(run)).epoch
    await broker.close()
    assert (await (await opened(boot="two")).get(run)).epoch == epoch


async def test_what_is_listed_is_found_although_its_commit_is_not_settled_yet(opened):
    broker = await opened()
    in_turn, settling = broker._commits._in_turn, asyncio.Event()

    async def held(work):
        done = await in_turn(work)
        await settling.wait()
        return done

    broker._commits._in_turn = held
    making = asyncio.create_task(broker.create(new_run(), [queued()]))
    while not (listed := await broker.page(Page(EVERYTHING))):
        await asyncio.sleep(0)
    found = await broker.get(listed[0].id)
    settling.set()
    made, _ = await making
    assert found is not None
    assert found.id == made.id


async def test_that_a_file_is_open_is_on_the_disk_before_anything_is_said(opened, monkeypatch):
    """Else a loss of power takes that back with the first events, and they are missing under the old epoch."""
    synced = []
    look = sqlite_file._look_into_last_stop

    def noted(write, **more):
        synced.append(write.execute("PRAGMA synchronous").fetchone()[0])
        look(write, **more)

    monkeypatch.setattr(sqlite_file, "_look_into_last_stop", noted)
    for durable, afterwards in ((False, 1), (True, 2)):
        broker = await opened(f"{durable}.db", durable=durable)
        assert broker._commits.check().write.execute("PRAGMA synchronous").fetchone() == (afterwards,)
    assert synced == [2, 2]


async def test_the_total_is_read_from_an_index_and_a_run_takes_its_keys_along_by_one(opened):
    """Both are asked of every finished run, again and again, and beside the index lie the inputs."""
    write = (await opened())._commits.check().write
    asked = []
    write.set_trace_callback(asked.append)
    queries.finished_bytes(write)
    write.set_trace_callback(None)
    assert "COVERING INDEX" in plan(write, asked[0])
    assert "INDEX keys_by_run" in plan(write, "DELETE FROM keys WHERE run = 1")  # as the foreign key does


@pytest.mark.parametrize("filters", [{}, {"pipeline": "p"}, {"before": "0199"}, {"status": Status.QUEUED}])
async def test_a_page_of_ones_own_runs_does_not_look_at_those_of_others(opened, filters):
    broker = await opened()
    await begun(broker)
    read, asked = broker._commits.check().read, []
    read.set_trace_callback(asked.append)
    for visible in (Visible(False, "alice"), Visible(False, "alice", runs=frozenset({"0199"}))):
        await broker.page(Page(visible, **filters))
    read.set_trace_callback(None)
    for question in asked:
        found = plan(read, question)
        assert "runs_by_owner (owner=?" in found
        assert "runs_by_creator (creator=?" in found
        assert "(id<?)" not in found


async def test_a_page_of_unfinished_runs_does_not_look_at_the_finished_ones(opened):
    broker = await opened()
    read, asked = broker._commits.check().read, []
    read.set_trace_callback(asked.append)
    await broker.page(Page(EVERYTHING, status=Status.RUNNING))
    read.set_trace_callback(None)
    assert "runs_unfinished" in plan(read, asked[0])


def plan(read, question: str) -> str:
    return " ".join(row[3] for row in read.execute(f"EXPLAIN QUERY PLAN {question}"))
