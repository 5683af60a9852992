"""SIGTERM: everyone is told when to come back, everything ends in order."""

import asyncio
import random
import time

import httpx

from tests.e2e.clients import assert_problem, caller, finished, published, started
from tests.e2e.process import GatewayProcess
from tests.faults.check import log_of
from tests.faults.drain import drain, endless
from tests.faults.follower import Follower
from tests.faults.links import Join, Link, by_sse, frames, shake_hands

STREAMS, RUNS = 60, 10
SETTLING_S = 1.5  # for the process itself, beyond the drain
STREAM = {"Accept": "text/event-stream"}


def draining(folder, **settings) -> GatewayProcess:
    return GatewayProcess(folder, cancel_grace_s=0.5, **settings)


async def test_at_the_end_of_the_drain_runs_fail_and_streams_end_in_order(tmp_path):
    with draining(tmp_path, drain_s=4) as gateway:
        found = await drain(gateway, await endless(gateway, RUNS), streams=STREAMS)
        print(found)
        assert found.faults() == []
        assert found.exit_code == 0
        assert found.unready_after_s < 0.5
        assert 2 < found.took_s < 4 + SETTLING_S
        assert not gateway.faults(), gateway.output
        gateway.start()
        async with caller(gateway) as client:
            for run in {each.run for each in found.streams}:
                assert await _ends(client, run) == [("server.draining", True)]
        assert gateway.stop() == 0


async def test_runs_can_be_ended_at_once(tmp_path):
    with draining(tmp_path, drain_s=8, drain_runs="end") as gateway:
        found = await drain(gateway, await endless(gateway, RUNS), streams=STREAMS)
        print(found)
        assert found.exit_code == 0
        assert found.took_s < 4
        assert found.faults() == []
        errors = [(error["code"], error["retryable"]) for each in found.streams for error in each.errors]
        assert set(errors) == {("server.draining", True)}
        assert not gateway.faults(), gateway.output


async def test_runs_that_end_in_the_drain_complete(tmp_path):
    with draining(tmp_path, drain_s=8) as gateway:
        async with caller(gateway) as client:
            runs = [await started(client, "words", count=20, gap_s=0.05) for _ in range(RUNS)]
        found = await drain(gateway, runs, streams=STREAMS)
        print(found)
        assert found.exit_code == 0
        assert not gateway.faults(), gateway.output
        assert found.faults() == []
        gateway.start()
        async with caller(gateway) as client:
            for run in runs:
                assert (await client.get(f"/runs/{run}")).json()["status"] == "completed"
        assert gateway.stop() == 0


async def test_while_it_drains_everything_new_is_refused_in_its_own_way(tmp_path):
    with draining(tmp_path, drain_s=3) as gateway:
        runs = await endless(gateway, 2)

        async def refused(client: httpx.AsyncClient) -> None:
            assert_problem(await client.get("/readyz"), 503, "server.draining")
            body = {"pipeline": "forever", "input": {}}
            assert_problem(await client.post("/runs", json=body), 503, "server.draining")
            assert_problem(await client.post("/run", json=body), 503, "server.draining")
            answer = await client.get(f"/runs/{runs[0]}/events")
            assert_problem(answer, 503, "server.draining")
            assert int(answer.headers["Retry-After"]) >= 1
            await _short_stream(await client.get(f"/runs/{runs[0]}/events", headers=STREAM))
            await _short_stream(await client.get("/events", params={"run": runs}, headers=STREAM))
            await _short_stream(await client.post("/run/stream", json=body, headers=STREAM))
            async with Link(gateway.port) as link:
                await shake_hands(link)
                assert [frame async for frame in frames(link)] == []
                assert link.ended == 4100
            # What is there can still be asked for.
            assert (await client.get(f"/runs/{runs[0]}")).json()["status"] == "running"
            assert (await client.get("/healthz")).status_code == 200

        found = await drain(gateway, runs, streams=4, while_draining=refused)
        assert found.exit_code == 0
        assert found.faults() == []
        assert not gateway.faults(), gateway.output


async def _short_stream(answer: httpx.Response) -> None:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "retry: " in answer.text
    events = [line for line in answer.text.splitlines() if line.startswith("event: ")]
    assert events == ["event: hello", "event: reconnect"]
    assert '"reason":"server.draining"' in answer.text


async def test_an_external_run_goes_on_after_the_restart(tmp_path):
    with draining(tmp_path, drain_s=3) as gateway:
        async with caller(gateway) as client:
            run = await started(client, "external")
            await published(client, run, {"type": "delta", "block": "body", "delta": "before "})
        found = await drain(gateway, [run], streams=4)
        assert found.exit_code == 0
        assert found.took_s < 3 + SETTLING_S
        assert found.faults() == []
        assert not any("run.failed" in each.types for each in found.streams)
        gateway.start()
        async with caller(gateway) as client:
            await published(client, run, {"type": "delta", "block": "body", "delta": "after"})
            await finished(client, run)
            described = (await client.get(f"/runs/{run}")).json()
        assert (described["status"], described["blocks"]) == ("completed", {"body": "before after"})
        assert gateway.stop() == 0
        assert not gateway.faults(), gateway.output


async def test_a_follower_comes_through_a_drain_and_a_restart_with_every_event(tmp_path):
    with draining(tmp_path, drain_s=1) as gateway:
        async with caller(gateway) as client:
            runs = [await started(client, "words", count=1000, gap_s=0.01) for _ in range(4)]
        followers = [Follower(gateway.port, run, random.Random(run)) for run in runs]
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for each in followers:
                group.create_task(each.follow())
            while not all(each.events for each in followers):
                await asyncio.sleep(0.01)
            assert await asyncio.to_thread(gateway.stop) == 0
            await asyncio.to_thread(gateway.start)
        async with caller(gateway) as client:
            for each in followers:
                assert each.wrong == []
                assert each.events == await log_of(client, each.run)
                assert each.events[-1]["error"]["code"] == "server.draining"
        assert gateway.stop() == 0
        assert not gateway.faults(), gateway.output


async def test_a_waiting_long_poll_is_answered_before_the_end(tmp_path):
    with draining(tmp_path, drain_s=3) as gateway:
        async with caller(gateway) as client:
            run = await started(client, "external")
            tail = (await client.get(f"/runs/{run}/events")).json()["cursor"]
            waiting = asyncio.ensure_future(client.get(f"/runs/{run}/events", params={"after": tail, "wait": 25}))
            async with Link(gateway.port) as link:  # so that the poll is there for sure
                assert (await anext(by_sse(link, Join(run))))["type"] == "hello"
            began = time.monotonic()
            stopping = asyncio.ensure_future(asyncio.to_thread(gateway.stop))
            answer = await waiting
            assert answer.status_code in (200, 503)
            assert await stopping == 0
            assert time.monotonic() - began < 3 + SETTLING_S
        assert not gateway.faults(), gateway.output


async def _ends(client: httpx.AsyncClient, run: str) -> list[tuple[str, bool]]:
    events = await log_of(client, run)
    return [(e["error"]["code"], e["error"]["retryable"]) for e in events if e["type"] == "run.failed"]
