"""When nothing more can be kept, nothing is pretended."""

import asyncio
import random
import time

import httpx
import pytest

from gateway.broker import NewRun, SqliteBroker
from gateway.wire import events
from tests.e2e.clients import assert_problem, caller, eventually, finished, published, started
from tests.e2e.process import GatewayProcess
from tests.faults.check import Tally, log_of, tally
from tests.faults.disk import FullDisk, damage, disk, mounted
from tests.faults.drain import Watching
from tests.faults.follower import Follower
from tests.faults.links import Link, frames, shake_hands

SETTINGS = {
    "pipelines": "tests.faults.pipelines",
    "heartbeat_s": 0.5,
    "retry_ms": 50,
    "drain_s": 3,
    "cancel_grace_s": 0.5,
}
FLOOD = {"steps": 300_000, "burst": 50, "size": 200, "gap_s": 0.01}
STREAM = {"Accept": "text/event-stream"}


@pytest.mark.parametrize("kind", ["full disk", "limited files"])
async def test_a_full_disk_ends_everything_in_order_and_the_restart_has_all_that_was_seen(tmp_path, kind):
    with disk(kind, tmp_path / "disk") as place:
        gateway = GatewayProcess(tmp_path, **SETTINGS, broker=f"sqlite:///{place.folder}/runcast.db")
        with gateway:
            beat = tmp_path / "beat"
            async with caller(gateway) as client, asyncio.timeout(60), asyncio.TaskGroup() as group:
                runs = [await started(client, "flood", seed=seed, **FLOOD) for seed in range(3)]
                external = await started(client, "external")
                await published(client, external, {"type": "delta", "block": "body", "delta": "before "})
                beating = await started(client, "beating", path=str(beat))
                watching = [Watching(run, kind) for run in [*runs, external, beating] for kind in ("sse", "websocket")]
                followers = [
                    Follower(gateway.port, run, random.Random(run), replay=replay)
                    for run in [*runs, external, beating]
                    for replay in ("full", "folded")
                ]
                for each in watching:
                    group.create_task(each.watch(gateway.port))
                for each in watching:
                    await each.ready.wait()
                for each in followers:
                    group.create_task(each.follow())
                place.squeeze(gateway)
                await eventually(lambda: _lost(client), within_s=20)
                await eventually(lambda: _ended(watching))
                for each in watching:
                    assert [frame["reason"] for frame in each.away] == ["broker.unavailable"]
                    assert each.ended == ("chunk" if each.kind == "sse" else 4100)
                await _refuses(gateway, client, runs[0])
                await eventually(lambda: _stopped(beat))
                assert await asyncio.to_thread(gateway.stop) == 0
                place.relieve(gateway)
                await asyncio.to_thread(gateway.start)
                await published(client, external, {"type": "delta", "block": "body", "delta": "after"})
                await finished(client, external)
            async with caller(gateway) as client:
                found = Tally()
                await tally(client, followers, found)
                print(found)
                assert found.wrong == []
                assert found.gaps == 0
                for run in [*runs, beating]:
                    ends = [e["error"]["code"] for e in await log_of(client, run) if e["type"] == "run.failed"]
                    assert ends == ["run.orphaned"]
                assert (await client.get(f"/runs/{external}")).json()["blocks"]["body"] == "before after"
            assert gateway.stop() == 0
            assert gateway.output.count("the log cannot be written any more") == 1
            assert not gateway.faults(), gateway.output


async def _lost(client: httpx.AsyncClient) -> bool:
    answer = await client.get("/readyz")
    if answer.status_code == 503:
        assert_problem(answer, 503, "broker.unavailable")
    return answer.status_code == 503


async def _ended(watching: list[Watching]) -> bool:
    return all(each.ended != "" for each in watching)


async def _stopped(beat) -> bool:
    return time.time() - beat.stat().st_mtime > 0.5


async def _refuses(gateway: GatewayProcess, client: httpx.AsyncClient, run: str) -> None:
    """Everything that needs the log is refused, each in its own way."""
    body = {"pipeline": "flood", "input": {}}
    for answer in (
        await client.post("/runs", json=body),
        await client.post("/run", json=body),
        await client.get("/runs"),
        await client.get(f"/runs/{run}"),
        await client.get(f"/runs/{run}/events"),
        await client.post(f"/runs/{run}/cancel"),
    ):
        assert_problem(answer, 503, "broker.unavailable")
    for answer in (
        await client.get(f"/runs/{run}/events", headers=STREAM),
        await client.post("/run/stream", json=body, headers=STREAM),
    ):
        assert answer.status_code == 200
        assert '"reason":"broker.unavailable"' in answer.text
    async with Link(gateway.port) as link:
        await shake_hands(link)
        assert [frame async for frame in frames(link)] == []
        assert link.ended == 4100
    assert (await client.get("/healthz")).status_code == 200


async def test_whoever_waits_for_a_result_is_told_when_the_log_is_lost(tmp_path):
    beat = tmp_path / "beat"
    with (
        disk("limited files", tmp_path / "disk") as place,
        GatewayProcess(tmp_path, **SETTINGS, broker=f"sqlite:///{place.folder}/runcast.db") as gateway,
    ):
        async with caller(gateway) as client:
            quiet = {"pipeline": "beating", "input": {"path": str(beat)}}
            waiting = asyncio.ensure_future(client.post("/run", json=quiet))
            run = await started(client, "external")
            polling = asyncio.ensure_future(
                client.get(f"/runs/{run}/events", params={"after": "0", "wait": 2, "replay": "none"})
            )
            await eventually(lambda: _beats(beat))
            place.squeeze(gateway)
            await started(client, "flood", **FLOOD)
            await eventually(lambda: _lost(client), within_s=20)
            async with asyncio.timeout(10):
                assert_problem(await waiting, 503, "broker.unavailable")
                assert (await polling).status_code in (200, 503)
        assert gateway.stop() == 0
        assert not gateway.faults(), gateway.output


async def _beats(beat) -> bool:
    return beat.exists()


async def test_a_file_that_is_damaged_while_it_is_in_use_is_not_served_from(tmp_path):
    with GatewayProcess(tmp_path, **SETTINGS) as gateway:
        async with caller(gateway) as client, asyncio.timeout(30):
            done = await started(client, "flood", steps=90, burst=50, size=200)
            await client.get(f"/runs/{done}/events", headers=STREAM, timeout=20)
            run = await started(client, "external")
            watching = Watching(run, "sse")
            watched = asyncio.ensure_future(watching.watch(gateway.port))
            await watching.ready.wait()
            for name in ("runcast.db", "runcast.db-wal"):
                damage(tmp_path / name)
            answer = await client.get(f"/runs/{done}/events", headers=STREAM)
            assert "id: " not in answer.text
            assert '"reason":"broker.unavailable"' in answer.text
            assert await _lost(client)
            assert_problem(await published(client, run, {"type": "x.lost"}), 503, "broker.unavailable")
            await watched
            assert [frame["reason"] for frame in watching.away] == ["broker.unavailable"]
        assert gateway.stop() == 0
        assert not gateway.faults(), gateway.output
        _does_not_start(gateway)


@pytest.mark.parametrize("how", ["garbage", "a page", "truncated", "a folder"])
async def test_a_damaged_file_is_one_clear_line_at_the_start(tmp_path, how):
    with GatewayProcess(tmp_path, **SETTINGS) as gateway:
        async with caller(gateway) as client:
            run = await started(client, "flood", steps=90, burst=50)
            await client.get(f"/runs/{run}/events", headers=STREAM, timeout=20)
        assert gateway.stop() == 0
        path = tmp_path / "runcast.db"
        match how:
            case "garbage":
                damage(path)
            case "a page":
                damage(path, after=4096)
            case "truncated":
                path.write_bytes(path.read_bytes()[:20_000])
            case "a folder":
                path.unlink()
                path.mkdir()
        _does_not_start(gateway)


async def test_a_file_that_cannot_be_written_is_one_clear_line_at_the_start(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder), GatewayProcess(tmp_path, **SETTINGS, broker=f"sqlite:///{folder}/runcast.db") as gateway:
        assert gateway.stop() == 0
        FullDisk(folder).remount("ro")
        _does_not_start(gateway)


def _does_not_start(gateway: GatewayProcess) -> None:
    before = len(gateway.output)
    with pytest.raises(AssertionError, match="did not start"):
        gateway.start()
    said = gateway.output[before:]
    assert gateway.process.returncode == 1
    assert [line for line in said.splitlines() if line.startswith("error: ")], said
    assert "runcast.db" in said
    assert "Traceback" not in said


async def test_synchronous_full_is_served(tmp_path):
    with GatewayProcess(tmp_path, **SETTINGS, sqlite_sync="full") as gateway:
        async with caller(gateway) as client:
            answer = await client.post("/run", json={"pipeline": "flood", "input": {"steps": 3}})
            assert answer.json()["status"] == "completed"
        assert gateway.stop() == 0
        assert not gateway.faults(), gateway.output


@pytest.mark.parametrize(
    ("durable", "clean", "boot", "same"),
    [
        (False, False, "two", False),
        (False, False, "one", True),
        (False, True, "two", True),
        (True, False, "two", True),
    ],
    ids=["lost power", "killed", "stopped in order", "lost power, synced"],
)
async def test_an_unclean_stop_in_another_boot_is_a_new_epoch_for_unfinished_runs(tmp_path, durable, clean, boot, same):
    path = tmp_path / "runcast.db"
    run = NewRun("run", "external", "alice", "alice", b"{}", b"{}")
    first = SqliteBroker(path, durable=durable, boot="one")
    await first.open()
    made, _ = await first.create(run, [events.lifecycle("run.queued", pipeline="external", owner="alice")])
    ended, _ = await first.create(
        NewRun("ended", "external", "alice", "alice", b"{}", b"{}"),
        [events.lifecycle("run.queued", pipeline="external", owner="alice")],
    )
    failure = {"code": "pipeline.error", "message": "no", "retryable": False}
    await first.append("ended", [events.lifecycle("run.failed", error=failure, duration_ms=1)])
    if clean:
        await first.close()
    else:
        _drop(first)
    second = SqliteBroker(path, durable=durable, boot=boot)
    await second.open()
    try:
        again = await second.get("run")
        assert (again.epoch == made.epoch) is same
        (event,) = await second.read("run", after=0, upto=1, limit=10, max_bytes=10_000)
        assert event.id == f"{again.epoch}-1"
        assert f'"id":"{again.epoch}-1"'.encode() in event.json
        assert (await second.get("ended")).epoch == ended.epoch
    finally:
        await second.close()


def _drop(broker: SqliteBroker) -> None:
    """Let go of the file as a process does that ends at once."""
    opened = broker._commits._opened
    broker._commits._opened = None
    for connection in (opened.read, opened.write):
        connection.close()
    opened.lock.close()
    broker._commits._reader.shutdown()
    broker._commits._writer.shutdown()
