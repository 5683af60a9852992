"""A run, end to end: started, streamed, cancelled, found again."""

import json

import httpx
import pytest
import websockets
from httpx_sse import aconnect_sse

from tests.e2e.process import bearer, token


async def start(client: httpx.AsyncClient, pipeline: str = "words", **input) -> str:
    answer = await client.post("/runs", json={"pipeline": pipeline, "input": input})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


@pytest.fixture
async def client(gateway):
    async with httpx.AsyncClient(base_url=gateway.url, headers=bearer(), timeout=20) as client:
        yield client


async def sse(client: httpx.AsyncClient, run: str, **params) -> list[dict]:
    async with aconnect_sse(client, "GET", f"/runs/{run}/events", params=params) as source:
        return [json.loads(event.data) async for event in source.aiter_sse()]


async def test_a_run_is_streamed_from_queued_to_completed(client):
    run = await start(client, count=5, gap_s=0.01)
    events = await sse(client, run, replay="full")
    assert events[0]["type"] == "hello"
    assert events[0]["resume"] == "start"
    types = [event["type"] for event in events[1:]]
    assert types == [
        "run.queued",
        "run.started",
        "stage.started",
        *["progress", "delta"] * 5,
        "stage.completed",
        "run.completed",
    ]
    offsets = [int(event["id"].split("-")[1]) for event in events[1:]]
    assert offsets == list(range(1, len(offsets) + 1))


async def test_a_websocket_sees_the_same_bytes_as_sse(client, gateway):
    run = await start(client, count=20)
    by_sse = (await sse(client, run, replay="full"))[1:]
    async with websockets.connect(gateway.ws, additional_headers=bearer(), subprotocols=["runcast.v1"]) as ws:
        assert ws.subprotocol == "runcast.v1"
        assert json.loads(await ws.recv())["type"] == "hello"
        await ws.send(json.dumps({"type": "subscribe", "ref": "s", "run": run, "replay": "full"}))
        assert json.loads(await ws.recv()) == {"type": "reply", "ref": "s", "ok": True, "resume": "start"}
        by_ws = [json.loads(await ws.recv()) for _ in by_sse]
    assert by_ws == by_sse


async def test_cancel_over_websocket_ends_the_run(client, gateway):
    async with websockets.connect(gateway.ws) as ws:
        assert json.loads(await ws.recv())["type"] == "hello"
        await ws.send(json.dumps({"type": "authenticate", "token": token()}))
        assert json.loads(await ws.recv())["ok"]
        await ws.send(json.dumps({"type": "start", "ref": "1", "pipeline": "forever", "input": {}}))
        reply = json.loads(await ws.recv())
        assert reply["ok"], reply
        await ws.send(json.dumps({"type": "cancel", "ref": "2", "run": reply["run"], "reason": "enough"}))
        frames = []
        while not frames or frames[-1]["type"] != "run.cancelled":
            frames.append(json.loads(await ws.recv()))
        replies = [frame for frame in frames if frame["type"] == "reply"]
        assert replies == [{"type": "reply", "ref": "2", "ok": True, "status": "cancelling"}]
        assert frames[-1]["by"] == "alice"
        assert frames[-1]["reason"] == "enough"
        assert frames[-1]["forced"] is False


async def test_a_stubborn_run_is_cut_off(client):
    run = await start(client, "stubborn")
    answer = await client.post(f"/runs/{run}/cancel", json={"reason": "now"})
    assert (answer.status_code, answer.json()) == (202, {"status": "cancelling"})
    events = await sse(client, run)
    assert events[-1]["type"] == "run.cancelled"
    assert events[-1]["forced"] is True
    again = await client.post(f"/runs/{run}/cancel")
    assert (again.status_code, again.json()) == (200, {"status": "finished", "final": "cancelled"})


async def test_a_failure_tells_nothing_but_an_incident(client, gateway):
    run = await start(client, "broken")
    events = await sse(client, run)
    assert events[-1]["type"] == "run.failed"
    assert "swordfish" not in json.dumps(events)
    assert events[-1]["error"]["incident"] in gateway.output


async def test_a_finished_run_answers_204_at_its_end(client):
    run = await start(client, count=1)
    events = await sse(client, run)
    answer = await client.get(
        f"/runs/{run}/events", headers={"Accept": "text/event-stream", "Last-Event-ID": events[-1]["id"]}
    )
    assert answer.status_code == 204


async def test_post_run_waits_for_the_result(client):
    answer = await client.post("/run", json={"pipeline": "words", "input": {"count": 2}})
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"] == {"words": 2}
    assert answer.json()["blocks"] == {"body": "word0 word1 "}


async def test_a_large_body_is_refused_and_the_refusal_arrives(client):
    answer = await client.post("/runs", content=b"x" * 10_000_000)
    assert answer.status_code == 413
    assert answer.json()["code"] == "body.too_large"
