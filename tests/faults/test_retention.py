"""What is forgotten, in which order, and that nobody is left to believe that he has everything."""

import asyncio
import json
import random
import time

import httpx
import pytest

from gateway.app import Gateway
from gateway.settings import Settings
from pipeline import Registry
from tests.e2e.clients import caller, eventually, finished, published, served, started
from tests.e2e.process import SECRET, bearer
from tests.faults.check import log_of, seed_of
from tests.faults.follower import Follower
from tests.faults.links import WAYS, Join, Link
from tests.faults.proxy import Proxy

SETTINGS = {"pipelines": "tests.faults.pipelines", "heartbeat_s": 0.5}
PUBLISHED = 600


async def fill(client: httpx.AsyncClient, run: str, count: int = PUBLISHED) -> str:
    """Publish so many deltas; the text they make."""
    texts = [f"{number:05} " for number in range(count)]
    for first in range(0, count, 100):
        events = [{"type": "delta", "block": "body", "delta": text} for text in texts[first : first + 100]]
        assert (await published(client, run, *events)).status_code == 202
    return "".join(texts)


async def held(client: httpx.AsyncClient, run: str) -> list[int]:
    return [int(event["id"].partition("-")[2]) for event in await log_of(client, run)]


async def told(port: int, way: str, join: Join, *, upto: int) -> tuple[str, list[dict]]:
    """The verdict, and every frame up to an offset."""
    verdict, found = "", []
    async with Link(port) as link:
        async for frame in WAYS[way](link, join):
            if "resume" in frame:
                verdict = frame["resume"]
            elif frame["type"] not in ("hello", "heartbeat", "polled"):
                found.append(frame)
            if frame.get("id", "").endswith(f"-{upto}"):
                break
    return verdict, found


@pytest.mark.parametrize("limit", [{"max_events_per_run": 50}, {"max_bytes_per_run": 8192}], ids=["events", "bytes"])
async def test_an_unfinished_run_keeps_its_newest_events_and_old_cursors_get_a_gap(tmp_path, limit):
    with served(tmp_path, **SETTINGS, **limit) as gateway:
        async with caller(gateway) as client:
            run = await started(client, "external")
            (first, *_) = await log_of(client, run)
            epoch = first["id"].partition("-")[0]
            text = await fill(client, run)
            tail = PUBLISHED + 2
            await eventually(lambda: _floor_above(client, run, tail // 2))
            offsets = await held(client, run)
            assert offsets == list(range(offsets[0], tail + 1))
            assert len(offsets) <= 80
            assert (await client.get(f"/runs/{run}")).json()["blocks"] == {"body": text}
            for way in WAYS:
                for old in (f"{epoch}-5", f"{epoch}-{offsets[0] - 2}", f"{epoch}-{tail + 9}", "other-5", "nonsense"):
                    verdict, (gap, *rest) = await told(gateway.port, way, Join(run, old, "full"), upto=tail)
                    assert verdict == "gap", (way, old)
                    frame = {"type": "gap", "run": run, "after": old, "from": f"{epoch}-{offsets[0]}"}
                    assert gap == frame, (way, old)
                    assert [event["id"] for event in rest] == [f"{epoch}-{offset}" for offset in offsets], (way, old)
                # The last cursor before what is held misses nothing.
                edge = Join(run, f"{epoch}-{offsets[0] - 1}", "full")
                verdict, rest = await told(gateway.port, way, edge, upto=tail)
                assert (verdict, rest[0]["id"]) == ("resumed", f"{epoch}-{offsets[0]}")
            assert (await finished(client, run)).status_code == 200
            described = (await client.get(f"/runs/{run}")).json()
            assert (described["status"], described["blocks"]) == ("completed", {"body": text})
            assert described["tail"] == f"{epoch}-{tail + 1}"


async def _floor_above(client: httpx.AsyncClient, run: str, offset: int) -> bool:
    return (await held(client, run))[0] > offset


async def test_what_is_kept_survives_a_restart(tmp_path):
    with served(tmp_path, **SETTINGS, max_events_per_run=50, external_idle_s=300) as gateway:
        async with caller(gateway) as client:
            run = await started(client, "external")
            text = await fill(client, run)
            await eventually(lambda: _floor_above(client, run, PUBLISHED // 2))
            before = await log_of(client, run)
        assert gateway.stop() == 0
        gateway.start()
        async with caller(gateway) as client:
            assert await log_of(client, run) == before
            assert (await client.get(f"/runs/{run}")).json()["blocks"] == {"body": text}


async def test_finished_runs_go_first_and_whole_the_oldest_before_the_others(tmp_path):
    limit = 400_000
    with served(tmp_path, **SETTINGS, max_bytes=limit) as gateway:
        async with caller(gateway) as client:
            unfinished = await started(client, "external")
            text = await fill(client, unfinished, 300)
            runs = []
            for _ in range(8):
                run = await started(client, "external")
                await fill(client, run)
                await finished(client, run)
                runs.append(run)
            await eventually(lambda: _weigh_at_most(client, [unfinished, *runs], limit))
            there = await _there(client, runs)
            assert there == runs[-len(there) :]
            assert 0 < len(there) < len(runs)
            for run in there:
                assert await held(client, run) == list(range(1, PUBLISHED + 4))
            assert await held(client, unfinished) == list(range(1, 303))
            assert (await client.get(f"/runs/{unfinished}")).json()["blocks"] == {"body": text}


async def _weigh_at_most(client: httpx.AsyncClient, runs: list[str], limit: int) -> bool:
    """At most 1000 events of each run are counted; a run may go at any moment."""
    answers = [await client.get(f"/runs/{run}/events", params={"replay": "full"}) for run in runs]
    held = [event for answer in answers if answer.status_code == 200 for event in answer.json()["events"]]
    return sum(len(json.dumps(event, separators=(",", ":"))) for event in held) <= limit


async def _gone(client: httpx.AsyncClient, run: str) -> bool:
    return (await client.get(f"/runs/{run}")).status_code == 404


async def _there(client: httpx.AsyncClient, runs: list[str]) -> list[str]:
    return [run for run in runs if not await _gone(client, run)]


async def test_only_when_no_finished_run_is_left_unfinished_ones_lose_their_oldest_events(tmp_path):
    with served(tmp_path, **SETTINGS, max_bytes=60_000) as gateway:
        async with caller(gateway) as client:
            run = await started(client, "external")
            text = await fill(client, run)
            await eventually(lambda: _floor_above(client, run, 100))
            offsets = await held(client, run)
            assert offsets == list(range(offsets[0], PUBLISHED + 3))
            assert (await client.get(f"/runs/{run}")).json()["blocks"] == {"body": text}


async def test_a_finished_run_is_kept_for_its_time_and_then_gone(tmp_path):
    with served(tmp_path, **SETTINGS, retention_s=1.5) as gateway:
        async with caller(gateway) as client:
            unfinished = await started(client, "external")
            run = await started(client, "external")
            await fill(client, run, 10)
            await finished(client, run)
            began = time.monotonic()
            await eventually(lambda: _gone(client, run))
            assert time.monotonic() - began >= 1.4
            assert (await client.get(f"/runs/{run}/events")).status_code == 404
            assert await held(client, unfinished) == [1, 2]


async def test_a_long_poll_is_told_when_its_past_goes_while_it_is_read(tmp_path, monkeypatch):
    settings = Settings(broker=f"sqlite:///{tmp_path}/runcast.db", jwt_secret=SECRET)
    gateway = Gateway(settings, Registry())
    async with gateway.app.test_app() as app:
        client = app.test_client()
        made = await (await client.post("/runs", headers=bearer(), json={"pipeline": "external"})).get_json()
        path = f"/runs/{made['id']}/events"
        said = [{"type": "x.n", "n": number} for number in range(100)]
        await client.post(path, headers=bearer(), json={"events": said})
        read = gateway.broker.read

        async def late(*args, **kwargs):
            await gateway.runs._roster.get(made["id"]).forget(max_events=10, max_bytes=1 << 20)
            return await read(*args, **kwargs)

        monkeypatch.setattr(gateway.broker, "read", late)
        told = await (await client.get(f"{path}?replay=full", headers=bearer())).get_json()
        gap, *rest = told["events"]
        assert (gap["type"], gap["from"]) == ("gap", rest[0]["id"])
        assert [event["n"] for event in rest] == list(range(90, 100))


async def test_followers_are_told_of_every_hole_whatever_breaks_meanwhile(tmp_path):
    rng = random.Random(seed_of(88))
    with served(tmp_path, **{**SETTINGS, "heartbeat_s": 0.2}, max_events_per_run=20) as gateway:
        async with caller(gateway) as client, Proxy(gateway.port, rng, reach=4000, limit=10_000) as proxy:
            runs = [await started(client, "flood", seed=seed, steps=240, burst=6, gap_s=0.015) for seed in range(3)]
            followers = [
                Follower(proxy.port, run, random.Random(rng.random()), replay=replay, transports=[way], trimmed=True)
                for run in runs
                for replay in ("full", "folded")
                for way in WAYS
            ]
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                for each in followers:
                    group.create_task(each.follow())
            gaps = sum(len(each.gaps) for each in followers)
            print(f"{proxy.faults} faults, {gaps} gaps told")
            assert [wrong for each in followers for wrong in each.wrong] == []
            assert gaps > 0
            for each in followers:
                described = (await client.get(f"/runs/{each.run}")).json()
                epochs = {event["id"].partition("-")[0] for event in each.events}
                assert epochs == {described["tail"].partition("-")[0]}
                if not each.gaps and each.events[0]["id"].endswith("-1"):
                    assert {name: described[name] for name in each.state.fields} == each.state.fields
