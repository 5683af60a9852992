"""Pause, resume and the answer to a question, over HTTP and WebSocket."""

import asyncio
import json

import httpx
import pytest
import websockets

from tests.e2e.process import bearer


@pytest.fixture
async def client(gateway):
    async with httpx.AsyncClient(base_url=gateway.url, headers=bearer(), timeout=20) as client:
        yield client


async def start(client, pipeline, **input):
    return (await client.post("/runs", json={"pipeline": pipeline, "input": input})).json()["id"]


async def until(client, run, type):
    """Events of the run up to and with the first of this type."""
    cursor, seen = None, []
    async with asyncio.timeout(15):
        while not any(event["type"] == type for event in seen):
            params = {"wait": 5, "replay": "full"} | ({"after": cursor} if cursor else {})
            answer = (await client.get(f"/runs/{run}/events", params=params)).json()
            cursor, seen = answer["cursor"], seen + answer["events"]
    return seen


async def test_a_paused_run_says_nothing_until_it_is_resumed(client):
    run = await start(client, "steps", count=40, gap_s=0.02)
    await until(client, run, "delta")
    answer = await client.post(f"/runs/{run}/pause")
    assert answer.status_code == 202
    assert (await client.post(f"/runs/{run}/pause")).status_code == 202
    seen = await until(client, run, "run.paused")
    assert seen[-1]["type"] == "run.paused"
    assert seen[-1]["by"] == "alice"
    state = (await client.get(f"/runs/{run}")).json()
    assert state["status"] == "paused"
    later = (await client.get(f"/runs/{run}/events", params={"after": state["tail"], "wait": 0.3})).json()
    assert later["events"] == []
    assert (await client.post(f"/runs/{run}/resume")).status_code == 202
    types = [event["type"] for event in await until(client, run, "run.completed")]
    assert types.index("run.paused") + 1 == types.index("run.resumed")
    assert types.count("run.paused") == 1
    assert types.count("delta") == 40


async def test_a_paused_run_can_be_cancelled(client):
    run = await start(client, "steps", count=1000, gap_s=0.01)
    await client.post(f"/runs/{run}/pause")
    await until(client, run, "run.paused")
    await client.post(f"/runs/{run}/cancel")
    seen = await until(client, run, "run.cancelled")
    assert seen[-1]["forced"] is False


async def test_a_question_is_answered_once_and_as_it_asks(client):
    run = await start(client, "asking")
    question = (await until(client, run, "input.requested"))[-1]
    assert question["prompt"] == "How many?"
    assert question["schema"] == {"type": "integer"}
    path = f"/runs/{run}/input"
    wrong = await client.post(path, json={"input_id": question["input_id"], "value": "many"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "input.invalid")
    other = await client.post(path, json={"input_id": "nope", "value": 1})
    assert (other.status_code, other.json()["code"]) == (409, "input.closed")
    assert (await client.post(path, json={"input_id": question["input_id"], "value": 7})).status_code == 202
    seen = await until(client, run, "run.completed")
    assert seen[-1]["result"] == 7
    assert [event["by"] for event in seen if event["type"] == "input.received"] == ["alice"]
    late = await client.post(path, json={"input_id": question["input_id"], "value": 7})
    assert (late.status_code, late.json()["code"]) == (409, "run.finished")


async def test_the_same_over_websocket(client, gateway):
    run = await start(client, "asking")
    question = (await until(client, run, "input.requested"))[-1]
    async with websockets.connect(gateway.ws, additional_headers=bearer()) as socket:
        await socket.recv()
        for command in (
            {"type": "pause", "run": run, "ref": "p"},
            {"type": "resume", "run": run, "ref": "r"},
            {"type": "input", "run": run, "ref": "i", "input_id": question["input_id"], "value": 3},
        ):
            await socket.send(json.dumps(command))
            reply = json.loads(await socket.recv())
            assert (reply["ok"], reply["ref"]) == (True, command["ref"]), reply
    assert (await until(client, run, "run.completed"))[-1]["result"] == 3


async def test_an_external_run_is_paused_at_once(client):
    run = await start(client, "external")
    assert (await client.post(f"/runs/{run}/pause")).json() == {"status": "paused"}
    assert (await client.post(f"/runs/{run}/resume")).json() == {"status": "running"}


async def test_a_run_over_its_budget_ends_cancelled_with_what_it_used(client):
    run = await start(client, "spending")
    end = (await until(client, run, "run.cancelled"))[-1]
    assert (end["by"], end["reason"]) == ("gateway", "budget")
    assert end["usage"] == {"input_tokens": 20, "output_tokens": 10, "cost_usd": 0.5}
