"""Runs that are to end when nobody watches (option `on_disconnect: cancel`)."""

import asyncio
import contextlib
import time

import httpx
import pytest

from tests.e2e.clients import caller, eventually, served
from tests.e2e.process import GatewayProcess
from tests.faults.check import log_of
from tests.faults.links import WAYS, Join, Link

GRACE_S = 0.8
MARGIN_S = 0.7
OPTIONS = {"on_disconnect": "cancel", "disconnect_grace_s": GRACE_S}


@pytest.fixture
def client(gateway: GatewayProcess):
    return caller(gateway)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("viewers"), heartbeat_s=0.3) as running:
        yield running


async def unwatched(client: httpx.AsyncClient, pipeline: str = "forever", **options) -> str:
    body = {"pipeline": pipeline, "input": {"gap_s": 0.05}, "options": {**OPTIONS, **options}}
    answer = await client.post("/runs", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


@contextlib.asynccontextmanager
async def watching(gateway: GatewayProcess, run: str, way: str):
    """Watch a run for as long as the block lasts."""
    if way == "poll":
        async with caller(gateway) as client:
            task = asyncio.ensure_future(_polls(client, run))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])
        return
    async with Link(gateway.port) as link:
        link.patience_s = 5
        frames = WAYS[way](link, Join(run))
        task = asyncio.ensure_future(_listen(frames))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _polls(client: httpx.AsyncClient, run: str) -> None:
    after = "0"
    while True:
        query = {"after": after, "wait": 5, "types": "warning"}
        after = (await client.get(f"/runs/{run}/events", params=query)).json()["cursor"]


async def _listen(frames) -> None:
    async for _ in frames:
        pass


async def status(client: httpx.AsyncClient, run: str) -> str:
    return (await client.get(f"/runs/{run}")).json()["status"]


async def cancelled_after(client: httpx.AsyncClient, run: str) -> float:
    """Seconds until the run is cancelled for want of viewers."""
    began = time.monotonic()
    await eventually(lambda: _is(client, run, "cancelling", "cancelled"), within_s=GRACE_S * 2 + 3)
    took_s = time.monotonic() - began
    await eventually(lambda: _is(client, run, "cancelled"))
    log = await log_of(client, run)
    # What it said when the cancel came stands in between.
    (cancelling,), end = [event for event in log if event["type"] == "run.cancelling"], log[-1]
    assert cancelling["reason"] == "no viewers"
    assert (end["type"], end["reason"]) == ("run.cancelled", "no viewers")
    return took_s


async def _is(client: httpx.AsyncClient, run: str, *wanted: str) -> bool:
    return await status(client, run) in wanted


async def test_a_run_that_nobody_ever_watches_is_cancelled_after_the_grace(client):
    async with client:
        took_s = await cancelled_after(client, await unwatched(client))
    assert GRACE_S * 0.9 <= took_s < GRACE_S + MARGIN_S


async def test_a_run_that_goes_on_when_nobody_watches_is_let_be(client):
    async with client:
        run = await unwatched(client, on_disconnect="continue", disconnect_grace_s=0.1)
        await cancelled_after(client, await unwatched(client))
        assert await status(client, run) == "running"
        await client.post(f"/runs/{run}/cancel")


@pytest.mark.parametrize("way", WAYS)
async def test_whoever_watches_keeps_it_going_and_the_last_to_leave_starts_the_clock(gateway, client, way):
    async with client:
        run = await unwatched(client)
        async with watching(gateway, run, way):
            await asyncio.sleep(GRACE_S * 1.6)
            assert await status(client, run) == "running"
        took_s = await cancelled_after(client, run)
    assert GRACE_S * 0.5 <= took_s < GRACE_S + MARGIN_S


async def test_waiting_for_the_result_counts_as_watching(gateway, client):
    async with client:
        body = {"pipeline": "forever", "input": {"gap_s": 0.05}, "options": OPTIONS}
        waiting = asyncio.ensure_future(client.post("/run", json=body))
        run = await eventually(lambda: _newest(client))
        await asyncio.sleep(GRACE_S * 1.6)
        assert await status(client, run) == "running"
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await cancelled_after(client, run) < GRACE_S + MARGIN_S


async def _newest(client: httpx.AsyncClient) -> str | None:
    runs = (await client.get("/runs", params={"status": "running", "limit": 1})).json()["runs"]
    return runs[0]["id"] if runs else None


async def test_a_reload_within_the_grace_does_not_count(gateway, client):
    async with client:
        run = await unwatched(client)
        end = time.monotonic() + GRACE_S * 3
        for way in ("sse", "websocket", "poll") * 10:
            async with watching(gateway, run, way):
                await asyncio.sleep(0.05)
            await asyncio.sleep(GRACE_S * 0.2)
            if time.monotonic() > end:
                break
        assert await status(client, run) == "running"
        await cancelled_after(client, run)


async def test_one_of_two_viewers_is_enough(gateway, client):
    async with client:
        run = await unwatched(client)
        async with watching(gateway, run, "sse"):
            async with watching(gateway, run, "websocket"):
                pass
            await asyncio.sleep(GRACE_S * 1.5)
            assert await status(client, run) == "running"
        await cancelled_after(client, run)


async def test_a_drain_is_no_reason_and_an_external_run_gets_the_grace_after_the_restart(tmp_path):
    with GatewayProcess(tmp_path, drain_s=2, heartbeat_s=0.3, cancel_grace_s=0.3) as gateway:
        async with caller(gateway) as client:
            external = await unwatched(client, "external")
            inside = await unwatched(client)
            async with watching(gateway, external, "sse"), watching(gateway, inside, "sse"):
                await asyncio.sleep(GRACE_S * 1.5)
                assert await asyncio.to_thread(gateway.stop) == 0
        gateway.start()
        began = time.monotonic()
        async with caller(gateway) as client:
            assert await status(client, external) == "running"
            events = await log_of(client, inside)
            assert events[-1]["error"]["code"] == "server.draining"
            assert not any(event["type"] == "run.cancelling" for event in events)
            async with watching(gateway, external, "websocket"):
                await asyncio.sleep(GRACE_S * 1.5)
                assert await status(client, external) == "running"
            await cancelled_after(client, external)
            assert time.monotonic() - began >= GRACE_S
        assert gateway.stop() == 0
        assert not gateway.faults(), gateway.output


async def test_an_external_run_that_nobody_comes_back_to_is_cancelled_after_the_restart(tmp_path):
    with GatewayProcess(tmp_path, drain_s=2, cancel_grace_s=0.3) as gateway:
        async with caller(gateway) as client:
            run = await unwatched(client, "external")
        gateway.stop(9)
        began = time.monotonic()
        gateway.start()
        async with caller(gateway) as client:
            assert await cancelled_after(client, run) < GRACE_S * 2 + MARGIN_S
        assert time.monotonic() - began >= GRACE_S
        assert gateway.stop() == 0
        assert not gateway.faults(), gateway.output
