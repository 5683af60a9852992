"""Streams on odd ways: changing the transport, HTTP/1.0, long-polls, a start and its stream in one."""

import asyncio
import json

import httpx
import pytest

from tests.e2e.clients import (
    STREAM,
    assert_problem,
    authorization,
    by_sse,
    exchange,
    finished,
    head,
    heard,
    opened,
    own,
    published,
    said,
    started,
    terminals,
)
from tests.e2e.process import bearer


@pytest.fixture
async def past(client):
    """A finished run and all of its events."""
    run = await started(client, count=8)
    return run, own(await by_sse(client, run, replay="full"))


async def test_changing_the_transport_in_between_loses_and_repeats_nothing(client, gateway):
    run = await started(client, count=60, gap_s=0.02)
    seen: list[dict] = []
    turn = 0
    while not terminals(seen):
        after = {"after": seen[-1]["id"]} if seen else {}
        turn += 1
        if turn % 3 == 0:
            polled = await client.get(f"/runs/{run}/events", params={"wait": 1, "limit": 3, "replay": "full", **after})
            seen += polled.json()["events"]
            continue
        try:
            async with asyncio.timeout(0.15):
                if turn % 3 == 1:
                    async with client.stream(
                        "GET", f"/runs/{run}/events", params={"replay": "full", **after}, headers=STREAM
                    ) as answer:
                        async for line in answer.aiter_lines():
                            if line.startswith("data: ") and "id" in (event := json.loads(line[6:])):
                                seen.append(event)
                else:
                    seen += await _a_few_by_socket(gateway, run, after)
        except TimeoutError:
            pass
    assert [int(event["id"].split("-")[1]) for event in seen] == list(range(1, len(seen) + 1))
    assert seen == own(await by_sse(client, run, replay="full"))


async def _a_few_by_socket(gateway, run: str, after: dict) -> list[dict]:
    async with opened(gateway) as ws:
        await said(ws, type="subscribe", run=run, replay="full", **after)
        assert (await heard(ws))["ok"]
        got = [await heard(ws)]
        while len(got) < 3 and not terminals(got):
            got.append(await heard(ws))
        return got


async def test_an_http_1_0_client_gets_the_stream_unchunked(client, gateway, past):
    run, events = past
    answer = exchange(
        gateway,
        head("GET", f"/runs/{run}/events?replay=full", authorization(), "Accept: text/event-stream", version="1.0"),
    )
    headers, _, body = answer.partition(b"\r\n\r\n")
    assert b"200" in headers.splitlines()[0]
    assert b"transfer-encoding" not in headers.lower()
    assert body.startswith(b"retry: ")
    got = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]
    assert got[1:] == events


async def test_post_run_stream_names_the_run_and_streams_it(client):
    body = {"pipeline": "words", "input": {"count": 3}}
    async with client.stream("POST", "/run/stream", json=body, params={"replay": "full"}) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        run = answer.headers["x-run-id"]
        assert answer.headers["location"] == f"/runs/{run}"
        text = (await answer.aread()).decode()
    got = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert got[0]["resume"] == "start"
    assert got[1:] == own(await by_sse(client, run, replay="full"))


async def test_a_long_poll_returns_when_something_happens_and_when_its_time_is_up(client):
    loop = asyncio.get_running_loop()
    run = await started(client, "external")
    first = (await client.get(f"/runs/{run}/events")).json()
    began = loop.time()
    empty = (await client.get(f"/runs/{run}/events", params={"after": first["cursor"], "wait": 0.4})).json()
    assert (empty["events"], empty["done"], empty["cursor"]) == ([], False, first["cursor"])
    assert 0.3 < loop.time() - began < 3
    waiting = asyncio.create_task(client.get(f"/runs/{run}/events", params={"after": first["cursor"], "wait": 10}))
    await asyncio.sleep(0.2)
    await published(client, run, {"type": "x.a"})
    assert [event["type"] for event in (await waiting).json()["events"]] == ["x.a"]
    await finished(client, run)


async def test_a_stream_of_no_run_is_a_problem_and_no_stream(gateway):
    async with httpx.AsyncClient(base_url=gateway.url, headers={**bearer(), **STREAM}) as client:
        assert_problem(await client.get("/runs/nothing/events"), 404, "run.not_found")
