"""The audit tells who did what to which run and who was refused, and nothing of what anybody said."""

import json

import httpx
import pytest

from tests.e2e.clients import (
    STREAM,
    asked,
    by_sse,
    caller,
    closed,
    eventually,
    finished,
    opened,
    published,
    served,
    started,
)
from tests.e2e.process import bearer

SECRETS = ("swordfish", "eyJ")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("gateway"), max_connections_per_subject=2) as running:
        yield running


@pytest.fixture
def told(gateway):
    """The audit's lines since the test began."""

    def lines() -> list[dict]:
        logged = [json.loads(line) for line in gateway.output.splitlines() if line.startswith("{")]
        return [line for line in logged if line["event"] == "audit"][before:]

    before = 0
    before = len(lines())
    return lines


def brief(lines: list[dict]) -> list[tuple]:
    return [(line["action"], line["outcome"], line.get("subject"), line.get("run")) for line in lines]


async def test_every_way_to_act_on_a_run_stands_there_once(gateway, told):
    async with caller(gateway, "alice") as client:
        body = {"pipeline": "words", "input": {"text": "swordfish"}}
        one = (await client.post("/runs", json=body)).json()["id"]
        two = (await client.post("/run", json=body)).json()["id"]
        three = (await client.post("/run/stream", json=body)).headers["x-run-id"]
        four = (await client.post(f"/runs/{one}/retry")).json()["id"]
        await by_sse(client, one)
        await client.get(f"/runs/{two}/events")
        assert (await client.delete(f"/runs/{two}")).status_code == 204
        five = await started(client, "external")
        said = len(told())
        await published(client, five, {"type": "delta", "block": "b", "delta": "swordfish"})
        await client.post(f"/runs/{five}/pause")
        await client.post(f"/runs/{five}/resume")
        await client.post(f"/runs/{five}/cancel", json={"reason": "swordfish"})
        await finished(client, five)
        await client.post("/tickets", json={})
        await client.get("/runs")
        await client.get(f"/runs/{five}")
    assert brief(told()) == [
        ("start", "ok", "alice", one),
        ("start", "ok", "alice", two),
        ("start", "ok", "alice", three),
        ("watch", "ok", "alice", three),
        ("start", "ok", "alice", four),
        ("watch", "ok", "alice", one),
        ("watch", "ok", "alice", two),
        ("delete", "ok", "alice", two),
        ("start", "ok", "alice", five),
        ("publish", "ok", "alice", five),
        ("pause", "ok", "alice", five),
        ("resume", "ok", "alice", five),
        ("cancel", "ok", "alice", five),
        ("finish", "ok", "alice", five),
        ("ticket", "ok", "alice", None),
    ]
    assert said == 9
    assert not any(secret in gateway.output for secret in SECRETS)


async def test_a_line_names_its_request_and_its_connection(gateway, told):
    async with caller(gateway) as client:
        answer = await client.post("/runs", json={"pipeline": "words"}, headers={"X-Request-Id": "mine-1"})
        run = answer.json()["id"]
        frames = await by_sse(client, run, headers={"X-Request-Id": "mine-2"})
        assert [line["request"] for line in told()] == ["mine-1", "mine-2"]
        assert told()[1]["connection"] == frames[0]["connection"]
        async with opened(gateway, headers={**bearer(), "X-Request-Id": "mine-3"}) as ws:
            assert (await asked(ws, type="subscribe", run=run))["ok"]
        line = told()[2]
        assert (line["action"], line["request"], len(line["connection"])) == ("watch", "mine-3", 16)


async def test_commands_of_a_socket_are_told_like_requests(gateway, told):
    async with opened(gateway, "bob") as ws:
        run = (await asked(ws, type="start", pipeline="asking", input={"text": "swordfish"}))["run"]
        await asked(ws, type="pause", run=run)
        await asked(ws, type="resume", run=run)
        await asked(ws, type="ping")
        assert not (await asked(ws, type="input", run=run, input_id="swordfish", value=1))["ok"]
        await asked(ws, type="subscribe", run="nothing")
        await asked(ws, type="cancel", run=run, reason="swordfish")
    assert brief(told()) == [
        ("start", "ok", "bob", run),
        ("pause", "ok", "bob", run),
        ("resume", "ok", "bob", run),
        ("answer", "input.closed", "bob", run),
        ("watch", "run.not_found", "bob", None),
        ("cancel", "ok", "bob", run),
    ]
    assert not any(secret in gateway.output for secret in SECRETS)


async def test_who_was_refused_stands_there_with_code_and_address(gateway, told):
    run = "0" * 36
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        await client.get(f"/runs/{run}")
        await client.post(f"/runs/{run}/cancel", headers={"Authorization": "Bearer swordfish"})
        await client.get(f"/runs/{run}/events?ticket=swordfish", headers=STREAM)
        await client.post("/runs", headers=bearer("carol", "runs:read"), json={"pipeline": "words"})
        await client.post(f"/runs/{run}/pause", headers=bearer("carol"))
        await client.post("/runs", headers=bearer("carol"), json={"pipeline": "swordfish"})
        await client.get("/swordfish", headers=bearer("carol"))
    for _ in range(2):
        async with opened(gateway, headers={}) as ws:
            await asked(ws, type="authenticate", token="swordfish")
            assert await closed(ws) == 4001
    assert brief(told()) == [
        ("request", "auth.missing", None, run),
        ("cancel", "auth.invalid", None, run),
        ("watch", "auth.invalid", None, run),
        ("start", "auth.forbidden", "carol", None),
        ("pause", "run.not_found", "carol", run),
        ("start", "pipeline.unknown", "carol", None),
        ("request", "not_found", None, None),
        ("authenticate", "auth.invalid", None, None),
        ("authenticate", "auth.invalid", None, None),
    ]
    assert {line["address"] for line in told()} == {"127.0.0.1"}
    assert not any(secret in gateway.output for secret in SECRETS)


async def test_a_refused_stream_is_no_watching(gateway, told):
    async with caller(gateway) as client, opened(gateway), opened(gateway):
        run = await started(client)
        before = len(told())
        await client.get(f"/runs/{run}/events", headers=STREAM)
        assert brief(told()[before:]) == [("watch", "limit.connections", "alice", run)]


async def test_a_start_whose_caller_does_not_wait_is_told_all_the_same(gateway, told):
    async with caller(gateway) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/run", json={"pipeline": "forever"}, timeout=0.5)

        async def is_told():
            return told()

        lines = await eventually(is_told)
        assert [line["action"] for line in lines] == ["start"]
        await client.post(f"/runs/{lines[0]['run']}/cancel")
