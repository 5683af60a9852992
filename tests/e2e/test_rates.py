"""Who asks too often or from too many places is refused with its code, and nobody else notices."""

import asyncio
import contextlib
import json
import socket

import httpx
import pytest
import websockets

from tests.e2e.clients import (
    STREAM,
    UPGRADE,
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
from tests.e2e.process import bearer
from tests.faults import crowd

# So slow that no test is quick enough to see a place come back.
BURST = 12
LIMITS = {
    "rate_limit": f"{BURST}/h",
    "command_rate": "60/h",
    "max_connections_per_address": 3,
    "max_subscriptions": 32,
    "trusted_proxies": "127.0.0.1",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway that takes this machine for a proxy, so that every test may come from an address of its own."""
    with served(tmp_path_factory.mktemp("gateway"), **LIMITS) as running:
        yield running


@pytest.fixture
async def client(gateway):
    async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
        yield client


def of(subject: str, address: str) -> dict[str, str]:
    return {**bearer(subject), "X-Forwarded-For": address}


async def refused_at(client, asks: int, headers, path="/pipelines") -> list[int]:
    """Which of so many requests were answered 429."""
    return [number for number in range(asks) if (await client.get(path, headers=headers(number))).status_code == 429]


async def test_a_subject_has_one_rate_whatever_its_address(client):
    assert await refused_at(client, BURST + 2, lambda n: of("hasty", f"198.51.100.{n}")) == [BURST, BURST + 1]
    answer = await client.get("/pipelines", headers=of("hasty", "198.51.100.99"))
    assert_problem(answer, 429, "rate.limited")
    assert answer.json()["retryable"] is True
    assert int(answer.headers["retry-after"]) * 1000 >= answer.json()["retry_after_ms"] > 0
    assert (await client.get("/pipelines", headers=of("calm", "198.51.100.99"))).status_code == 200


async def test_an_address_has_one_rate_whoever_asks_and_the_probes_stay_open(client):
    assert await refused_at(client, BURST + 2, lambda n: of(f"one-{n}", "203.0.113.1")) == [BURST, BURST + 1]
    for headers in ({"X-Forwarded-For": "203.0.113.1"}, of("another", "203.0.113.1")):
        assert_problem(await client.get("/pipelines", headers=headers), 429, "rate.limited")
        assert (await client.get("/healthz", headers=headers)).status_code == 200
        assert (await client.get("/readyz", headers=headers)).status_code == 200
    assert (await client.get("/pipelines", headers=of("another", "203.0.113.2"))).status_code == 200


async def test_addresses_of_one_ipv6_network_are_one_and_what_a_client_claims_is_none(client):
    assert await refused_at(client, BURST + 1, lambda n: of(f"six-{n}", f"2001:db8:1:1::{n + 1:x}")) == [BURST]
    assert (await client.get("/pipelines", headers=of("six", "2001:db8:1:2::1"))).status_code == 200
    claims = await refused_at(client, BURST + 1, lambda n: of(f"liar-{n}", f"192.0.2.{n}, 203.0.113.3"))
    assert claims == [BURST]


async def test_a_refused_post_is_answered_once_its_body_is_in(gateway, client):
    await refused_at(client, BURST, lambda n: of("poster", "203.0.113.4"))
    body = json.dumps({"pipeline": "words", "input": {"text": "x" * 300_000}})
    for path in ("/runs", "/run", "/tickets", "/nothing", "/healthz/x"):
        answer = await client.post(path, content=body, headers=of("poster", "203.0.113.4"))
        assert_problem(answer, 429, "rate.limited")


async def test_an_event_stream_is_told_to_come_back_by_a_short_stream(client):
    await refused_at(client, BURST, lambda n: of("viewer", "203.0.113.5"))
    for path in ("/runs/none/events", "/events?run=a", "/runs/none/events?dialect=plain"):
        answer = await client.get(path, headers={**of("viewer", "203.0.113.5"), **STREAM})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert ("reason" in answer.text, "rate.limited" in answer.text) == (True, True)
        assert "retry: " in answer.text


async def test_a_flood_of_handshakes_is_refused_by_http(gateway, client):
    await refused_at(client, BURST, lambda n: of("socket", "203.0.113.6"))
    forwarded = "X-Forwarded-For: 203.0.113.6"
    answer = exchange(gateway, head("GET", "/ws", authorization(), forwarded, *UPGRADE), until=b"}")
    assert answer.startswith(b"HTTP/1.1 429")
    assert b"retry-after: " in answer.lower()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "rate.limited"
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(gateway.ws, additional_headers=of("socket", "203.0.113.6"))
    assert caught.value.response.status_code == 429


async def test_commands_above_the_rate_are_refused_and_ten_of_them_close_4108(gateway):
    # A subject's commands count as its requests do, so the socket is refused for its subject first.
    async with opened(gateway, headers=of("talker", "203.0.113.7")) as ws:
        for _ in range(BURST):
            assert (await asked(ws, type="ping"))["ok"]
        for number in range(10):
            reply = await asked(ws, type="ping", ref=str(number))
            assert (reply["ref"], reply["error"]["code"]) == (str(number), "rate.limited")
            assert reply["error"]["retry_after_ms"] > 0
        assert await closed(ws) == 4108


async def test_frames_that_are_no_commands_put_off_no_4108(gateway):
    async with opened(gateway, headers=of("mumbler", "203.0.113.70")) as ws:
        for _ in range(BURST):
            await asked(ws, type="ping")
        for _ in range(10):
            await ws.send("junk")
            assert (await heard(ws))["error"]["code"] == "frame.invalid"
            assert (await asked(ws, type="ping"))["error"]["code"] == "rate.limited"
        assert await closed(ws) == 4108


async def test_a_socket_has_a_rate_of_its_own(tmp_path):
    with served(tmp_path, command_rate="5/h") as gateway:
        async with opened(gateway) as first, opened(gateway) as second:
            for ws in (first, second):
                for _ in range(5):
                    assert (await asked(ws, type="ping"))["ok"]
                assert (await asked(ws, type="ping"))["error"]["code"] == "rate.limited"


async def test_connections_of_one_address_are_bounded_whoever_they_are_of(gateway, client):
    async with caller(gateway, "keeper") as keeper:
        keeper.headers["X-Forwarded-For"] = "203.0.113.8"
        run = await started(keeper, "words")
        async with contextlib.AsyncExitStack() as stack:
            for number in range(3):
                await stack.enter_async_context(opened(gateway, headers=of(f"member-{number}", "203.0.113.8")))
            answer = await keeper.get(f"/runs/{run}/events")
            assert_problem(answer, 429, "limit.connections")
            assert "address" in answer.json()["detail"]
            frames = await by_sse(keeper, run)
            assert [(frame["type"], frame.get("reason")) for frame in frames] == [
                ("hello", None),
                ("reconnect", "limit.connections"),
            ]
            async with websockets.connect(gateway.ws, additional_headers=of("late", "203.0.113.8")) as ws:
                assert await closed(ws) == 4103
            async with opened(gateway, headers=of("elsewhere", "203.0.113.9")) as ws:
                assert (await asked(ws, type="ping"))["ok"]

        async def room():
            return (await keeper.get(f"/runs/{run}/events")).status_code == 200

        await eventually(room)


async def test_a_socket_watches_only_so_many_runs_and_starts_none_beyond(tmp_path):
    with served(tmp_path, max_subscriptions=32) as gateway:
        async with caller(gateway) as client, opened(gateway, max_queue=None) as ws:
            runs = await asyncio.gather(*(started(client, "external") for _ in range(33)))
            for run in runs[:32]:
                await said(ws, type="subscribe", run=run, replay="none")
            replies = [await heard(ws) for _ in range(32)]
            assert all(reply["ok"] for reply in replies)
            before = len((await client.get("/runs")).json()["runs"])
            for command in ({"type": "subscribe", "run": runs[32]}, {"type": "start", "pipeline": "words"}):
                reply = await asked(ws, **command)
                assert (reply["ok"], reply["error"]["code"]) == (False, "limit.connections")
            assert len((await client.get("/runs")).json()["runs"]) == before
            assert (await asked(ws, type="subscribe", run=runs[0]))["ok"], "again is not one more"
            assert (await asked(ws, type="unsubscribe", run=runs[0]))["ok"]
            assert (await asked(ws, type="subscribe", run=runs[32]))["ok"]
            await asyncio.gather(*(finished(client, run) for run in runs))


@pytest.mark.parametrize("frames", [30, 3000], ids=["some", "no-end-of-it"])
async def test_a_client_that_was_told_to_go_and_talks_on_is_let_go_of(gateway, frames):
    before = crowd.sockets(gateway)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as plain:
        plain.sendall(head("GET", "/ws", authorization("junk"), "X-Forwarded-For: 203.0.113.11", *UPGRADE))
        while b"retry_ms" not in plain.recv(65536):
            pass
        plain.sendall(crowd.masked(1, b"junk") * frames)

        async def gone():
            return crowd.sockets(gateway) <= before

        await eventually(gone, within_s=15)


async def test_more_sockets_than_there_are_places_are_refused_at_once(tmp_path):
    with served(tmp_path, max_connections=2, max_connections_per_address=1, request_timeout_s=60) as gateway:
        bare = [socket.create_connection(("127.0.0.1", gateway.port), timeout=5) for _ in range(110)]
        try:
            bare[-1].settimeout(5)
            told = b""
            while part := bare[-1].recv(4096):
                told += part
            assert told.startswith(b"HTTP/1.1 503")
            assert b"Retry-After: " in told
            assert json.loads(told.partition(b"\r\n\r\n")[2])["code"] == "server.busy"
        finally:
            for each in bare:
                each.close()

        async def well():
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{gateway.url}/healthz").status_code == 200

        await eventually(well)


@pytest.mark.parametrize(("limit", "second"), [("max_runs_per_subject", 201), ("max_runs", 429)])
async def test_unfinished_runs_are_bounded_in_all_and_by_subject(tmp_path, limit, second):
    with served(tmp_path, broker="memory:", **{limit: 2}) as gateway:
        async with caller(gateway, "alice") as alice, caller(gateway, "bob") as bob, opened(gateway, "alice") as ws:
            runs = [await started(alice, "external") for _ in range(2)]
            for path in ("/runs", "/run"):
                answer = await alice.post(path, json={"pipeline": "words"})
                assert_problem(answer, 429, "limit.runs")
                assert int(answer.headers["retry-after"]) * 1000 >= answer.json()["retry_after_ms"] > 0
            answer = await alice.post("/run/stream", json={"pipeline": "words"}, headers=STREAM)
            assert (answer.status_code, '"reason":"limit.runs"' in answer.text) == (200, True)
            reply = await asked(ws, type="start", pipeline="words")
            assert (reply["ok"], reply["error"]["code"]) == (False, "limit.runs")
            answer = await bob.post("/runs", json={"pipeline": "words", "input": {"count": 0}})
            assert answer.status_code == second
            for run in runs:
                await finished(alice, run)
            assert (await alice.post("/run", json={"pipeline": "words"})).status_code == 200


async def test_a_head_has_its_size_and_a_request_its_runs(tmp_path):
    with served(tmp_path, broker="memory:") as gateway:
        assert exchange(gateway, head("GET", "/healthz", f"X-Large: {'x' * 14_000}")).startswith(b"HTTP/1.1 200")
        assert exchange(gateway, head("GET", "/healthz", f"X-Large: {'x' * 70_000}")).startswith(b"HTTP/1.1 431")
        async with caller(gateway) as client:
            runs = await asyncio.gather(*(started(client, "words", count=0) for _ in range(33)))
            several = [("run", run) for run in runs]
            assert_problem(await client.get("/events", params=several), 422, "input.invalid")
            answer = await client.get("/events", params=several[:32], headers=STREAM)
            assert answer.text.count("event: run.completed") == 32


async def test_a_proxy_that_nobody_named_is_told_of_once(tmp_path):
    with served(tmp_path, broker="memory:") as gateway:
        for _ in range(3):
            assert httpx.get(f"{gateway.url}/healthz", headers={"X-Forwarded-For": "203.0.113.1"}).status_code == 200
        assert gateway.output.count("RUNCAST_TRUSTED_PROXIES") == 1
