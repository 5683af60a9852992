"""Heartbeats, and what happens above the limits: refusals that tell an EventSource to come back."""

import asyncio
import contextlib
import json
import socket
from itertools import pairwise

import pytest
import websockets

from tests.e2e.clients import (
    STREAM,
    asked,
    assert_problem,
    authorization,
    by_sse,
    caller,
    closed,
    eventually,
    exchange,
    finished,
    head,
    heard,
    opened,
    said,
    served,
    started,
)
from tests.e2e.process import bearer, token


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway with room for two connections of a subject and five in all."""
    limits = {"max_connections_per_subject": 2, "max_connections": 5, "heartbeat_s": 0.3}
    with served(tmp_path_factory.mktemp("gateway"), **limits) as running:
        yield running


@pytest.fixture
async def run(gateway):
    async with caller(gateway) as client:
        run = await started(client, "external")
        yield run
        await finished(client, run)


@pytest.fixture
async def free(gateway):
    """Nobody is connected any more."""

    async def is_free():
        with contextlib.suppress(websockets.ConnectionClosed, AssertionError):
            async with contextlib.AsyncExitStack() as stack:
                for number in range(5):
                    await stack.enter_async_context(opened(gateway, f"nobody-{number}"))
                return True

    yield
    await eventually(is_free, within_s=10)


async def test_silence_is_filled_with_heartbeats_and_a_busy_stream_has_none(gateway, run, free):
    async with (
        caller(gateway) as client,
        client.stream("GET", f"/runs/{run}/events", headers=STREAM) as answer,
        opened(gateway) as ws,
    ):
        await asked(ws, type="subscribe", run=run, replay="none")
        beats = [await heard(ws) for _ in range(3)]
        assert {beat["type"] for beat in beats} == {"heartbeat"}
        assert all(240 <= later["ts"] - earlier["ts"] < 2000 for earlier, later in pairwise(beats))
        lines = answer.aiter_lines()
        kinds = []
        while kinds.count("event: heartbeat") < 2:
            line = await asyncio.wait_for(anext(lines), 5)
            kinds += [line] if line.startswith(("event:", "id:")) else []
        assert kinds[0] == "event: hello"
        assert kinds[-1] == "event: heartbeat"
        busy = (await client.post("/runs", json={"pipeline": "words", "input": {"count": 20, "gap_s": 0.05}})).json()
        await said(ws, type="unsubscribe", run=run)
        await said(ws, type="subscribe", run=busy["id"])
        frames = [await heard(ws)]
        while frames[-1]["type"] != "run.completed":
            frames.append(await heard(ws))
        started_at = [frame["type"] for frame in frames].index("stage.started")
        # A machine may stand still for a moment, and then a heartbeat is right.
        silences = [
            later["ts"] - earlier["ts"]
            for earlier, later in pairwise(frames[started_at:])
            if later["type"] == "heartbeat"
        ]
        assert all(silence_ms >= 240 for silence_ms in silences)


async def test_too_many_of_one_subject_is_a_short_stream_or_a_problem_or_4103(gateway, run, free):
    async with caller(gateway) as client, opened(gateway), opened(gateway):
        async with client.stream("GET", f"/runs/{run}/events", headers=STREAM) as answer:
            text = (await answer.aread()).decode()
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        frames = [dict(line.split(": ", 1) for line in part.splitlines()) for part in text.split("\n\n") if part]
        assert [frame["event"] for frame in frames] == ["hello", "reconnect"]
        told = [json.loads(frame["data"]) for frame in frames]
        assert (told[1]["reason"], int(frames[1]["retry"])) == ("limit.connections", told[1]["after_ms"])
        assert told[1]["after_ms"] > 0
        problem = await client.get(f"/runs/{run}/events")
        assert_problem(problem, 429, "limit.connections")
        assert problem.json()["retryable"] is True
        assert int(problem.headers["retry-after"]) * 1000 >= problem.json()["retry_after_ms"] > 0
        async with websockets.connect(gateway.ws, additional_headers=bearer()) as ws:
            assert await closed(ws) == 4103
        async with opened(gateway, headers={}) as ws:
            reply = await asked(ws, type="authenticate", token=token())
            assert reply["error"]["code"] == "limit.connections"
            assert await closed(ws) == 4103
        before = len((await client.get("/runs")).json()["runs"])
        started_anyway = await client.post("/run/stream", json={"pipeline": "words", "input": {}}, headers=STREAM)
        assert "event: reconnect" in started_anyway.text
        assert len((await client.get("/runs")).json()["runs"]) == before
        async with opened(gateway, "bob") as ws:
            assert (await asked(ws, type="ping"))["ok"]


async def test_too_many_in_all_is_server_busy(gateway, run, free):
    async with caller(gateway) as client, contextlib.AsyncExitStack() as stack:
        for number in range(5):
            await stack.enter_async_context(opened(gateway, f"user-{number}"))
        problem = await client.get(f"/runs/{run}/events")
        assert_problem(problem, 503, "server.busy")
        assert problem.headers["retry-after"]
        frames = await by_sse(client, run)
        assert [(frame["type"], frame.get("reason")) for frame in frames] == [
            ("hello", None),
            ("reconnect", "server.busy"),
        ]
        async with websockets.connect(gateway.ws, additional_headers=bearer()) as ws:
            assert await closed(ws) == 4103
        assert (await client.get("/runs")).status_code == 200


@pytest.mark.parametrize("way", ["closes", "resets", "half-closes"])
async def test_a_client_that_goes_away_makes_room(gateway, run, free, way):
    request = head("GET", f"/runs/{run}/events", authorization(), "Accept: text/event-stream", "Connection: keep-alive")
    for _ in range(6):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as plain:
            plain.sendall(request)
            received = b""
            while b"event: " not in received:
                received += plain.recv(65536)
            if way == "resets":
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            elif way == "half-closes":
                plain.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.3)
    answer = exchange(gateway, request, until=b"event: run.started")
    assert b"event: run.started" in answer
