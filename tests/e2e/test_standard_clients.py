"""Clients that were not written for Runcast: each sees events as they happen, comes back with its cursor, and ends."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import Awaitable, Callable

import aiohttp
import httpx
import pytest
import websockets
from httpx_sse import aconnect_sse

from tests.e2e.clients import PATIENCE_S, STREAM, caller, eventually, finished, log_of, published, served, started
from tests.e2e.process import ROOT, bearer, token
from tests.e2e.relay import Relay

RETRY_MS = 50
NODE = ["node", str(ROOT / "tests" / "js" / "standard_clients.js")]
Say = Callable[[dict], None]


def saw(text: str) -> dict:
    event = json.loads(text)
    return {"id": event.get("id", ""), "event": event}


async def by_node(name: str, base: str, run: str, say: Say, *, credential: str | None = None) -> None:
    """One of tests/js/standard_clients.js, until it ends by itself."""
    command = [*NODE, name, base, credential or token(), run]
    running = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async for line in running.stdout:
            say(json.loads(line))
        assert await running.wait() == 0
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def with_httpx_sse(base: str, run: str, say: Say) -> None:
    after: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=base, headers=bearer(), timeout=PATIENCE_S) as client:
        while True:
            path = f"/runs/{run}/events"
            try:
                async with aconnect_sse(client, "GET", path, params={"replay": "full"}, headers=after) as source:
                    if source.response.status_code == 204:
                        return
                    async for event in source.aiter_sse():
                        if event.event not in ("hello", "heartbeat"):
                            after = {"Last-Event-ID": event.id}
                            assert saw(event.data)["id"] == event.id
                            say(saw(event.data))
            except httpx.TransportError:
                await asyncio.sleep(RETRY_MS / 1000)


async def with_aiohttp(base: str, run: str, say: Say) -> None:
    after: dict[str, str] = {}
    async with aiohttp.ClientSession(base, headers={**bearer(), **STREAM}) as session:
        while True:
            try:
                async with session.get(f"/runs/{run}/events", params={"replay": "full"}, headers=after) as answer:
                    if answer.status == 204:
                        return
                    async for line in answer.content:
                        if line.startswith(b"id: "):
                            after = {"Last-Event-ID": line[4:].decode().strip()}
                        elif line.startswith(b"data: ") and "id" in json.loads(line[6:]):
                            say(saw(line[6:].decode()))
            except aiohttp.ClientError:
                await asyncio.sleep(RETRY_MS / 1000)


async def with_aiohttp_socket(base: str, run: str, say: Say) -> None:
    """With its own pings, and with the compression that it offers by default."""
    after: dict[str, str] = {}
    async with aiohttp.ClientSession(base, headers=bearer()) as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.ws_connect("/ws", heartbeat=0.2, compress=15) as ws:
                    await ws.send_json({"type": "subscribe", "run": run, "replay": "full", **after})
                    async for message in ws:
                        frame = message.json()
                        if "id" in frame:
                            after = {"after": frame["id"]}
                            say(saw(message.data))
                        if frame["type"] == "run.completed":
                            return
            await asyncio.sleep(RETRY_MS / 1000)


async def with_websockets(base: str, run: str, say: Say) -> None:
    """By its own loop of reconnects."""
    after: dict[str, str] = {}
    async for ws in websockets.connect(base.replace("http", "ws") + "/ws", additional_headers=bearer()):
        with contextlib.suppress(websockets.ConnectionClosed):
            await ws.send(json.dumps({"type": "subscribe", "run": run, "replay": "full", **after}))
            async for text in ws:
                frame = json.loads(text)
                if "id" in frame:
                    after = {"after": frame["id"]}
                    say(saw(text))
                if frame["type"] == "run.completed":
                    return


async def with_curl(base: str, run: str, say: Say, *options: str) -> None:
    """Started again whenever it fails, as a shell's loop does. It says by its exit status how a stream ended."""
    after: list[str] = []
    while True:
        url = f"{base}/runs/{run}/events?replay=full"
        headers = ["-H", "Accept: text/event-stream", "-H", f"Authorization: Bearer {token()}", *after]
        running = await asyncio.create_subprocess_exec(
            *["curl", "--no-buffer", "--silent", *options, *headers, url], stdout=asyncio.subprocess.PIPE, limit=1 << 20
        )
        try:
            async for line in running.stdout:
                if line.startswith(b"id: "):
                    after = ["-H", f"Last-Event-ID: {line[4:].decode().strip()}"]
                elif line.startswith(b"data: ") and "id" in json.loads(line[6:]):
                    say(saw(line[6:].decode()))
            if await running.wait() == 0:
                return
        finally:
            if running.returncode is None:
                running.kill()
                await running.wait()
        await asyncio.sleep(RETRY_MS / 1000)


def node(name: str):
    return lambda base, run, say: by_node(name, base, run, say)


def curl(*options: str):
    return lambda base, run, say: with_curl(base, run, say, *options)


SSE: dict[str, Callable[[str, str, Say], Awaitable[None]]] = {
    "eventsource": node("eventsource"),
    "eventsource-parser": node("parser"),
    "fetch-event-source": node("fetch_event_source"),
    "httpx-sse": with_httpx_sse,
    "aiohttp": with_aiohttp,
    "curl": curl(),
    "curl--http2": curl("--http2"),
}
SOCKET: dict[str, Callable[[str, str, Say], Awaitable[None]]] = {
    "ws": node("ws"),
    "aiohttp-socket": with_aiohttp_socket,
    "websockets": with_websockets,
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("gateway"), retry_ms=RETRY_MS) as running:
        yield running


@pytest.fixture
async def relay(gateway):
    async with Relay(gateway.port) as relay:
        yield relay


@pytest.mark.parametrize("name", [*SSE, *SOCKET])
async def test_it_is_live_comes_back_with_its_cursor_and_ends_with_the_run(client, relay, name):
    run = await started(client, "external")
    seen: list[dict] = []
    follow = {**SSE, **SOCKET}[name]
    async with asyncio.timeout(2 * PATIENCE_S), asyncio.TaskGroup() as following:
        following.create_task(follow(relay.url, run, seen.append))
        await _until(seen, lambda event: event["type"] == "run.started")
        for number in range(2):
            await published(client, run, {"type": "x.go", "number": number})
            await _until(seen, lambda event, number=number: event.get("number") == number)
        last = seen[-1]["id"]
        relay.cut()
        await published(client, run, {"type": "x.go", "number": 2})
        await _until(seen, lambda event: event.get("number") == 2)
        await published(client, run, {"type": "x.go", "number": 3})
        await _until(seen, lambda event: event.get("number") == 3)
        await finished(client, run)
    whole = await log_of(client, run)
    events = [each for each in seen if "event" in each]
    assert [each["event"] for each in events] == whole
    assert all(each["id"] == each["event"]["id"] for each in events)
    if name in SSE:
        assert f"\r\nlast-event-id: {last}\r\n" in relay.requests[1].lower()


async def test_an_eventsource_stops_at_the_end_by_204(client, relay):
    run = await started(client, "external")
    await finished(client, run)
    seen: list[dict] = []
    async with asyncio.timeout(PATIENCE_S):
        await by_node("eventsource", relay.url, run, seen.append)
    assert [each.get("error") for each in seen if "error" in each] == [None, 204]
    assert seen[-1]["closed"] is True
    assert len(relay.requests) == 2


@pytest.mark.parametrize("name", ["eventsource", "parser", "fetch_event_source"])
async def test_what_is_refused_for_good_is_not_asked_for_again(client, relay, name):
    run = await started(client, "external")
    for asked, credential, status in ((run, "no-token", 401), ("nothing", token(), 404), (run, token(scope=""), 403)):
        seen: list[dict] = []
        async with asyncio.timeout(PATIENCE_S):
            await by_node(name, relay.url, asked, seen.append, credential=credential)
        assert seen == [{"error": status, "closed": True}]
    assert len(relay.requests) == 3
    await finished(client, run)


async def test_a_refused_socket_shows_its_code(relay):
    seen: list[dict] = []
    async with asyncio.timeout(PATIENCE_S):
        await by_node("ws", relay.url, "any", seen.append, credential="no-token")
    assert seen == [{"error": 4001, "closed": True}]
    async with aiohttp.ClientSession(relay.url, headers={"Authorization": "Bearer x"}) as session:
        async with session.ws_connect("/ws") as ws:
            assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == 4001


@pytest.mark.parametrize("name", ["eventsource", "parser"])
async def test_what_is_refused_for_now_is_asked_for_again_until_there_is_room(tmp_path, name):
    """An EventSource would give up for ever at a status of 429."""
    with served(tmp_path, retry_ms=RETRY_MS, max_connections_per_subject=1) as gateway:
        async with caller(gateway) as client, Relay(gateway.port) as relay, asyncio.timeout(2 * PATIENCE_S):
            run = await started(client, "external")
            seen: list[dict] = []
            async with aconnect_sse(client, "GET", f"/runs/{run}/events") as occupant:
                lines = occupant.response.aiter_lines()
                await anext(lines)
                following = asyncio.create_task(by_node(name, relay.url, run, seen.append))
                await eventually(_asked(relay, 3), within_s=PATIENCE_S)
                assert not [each for each in seen if "event" in each]
                await lines.aclose()
            await _until(seen, lambda event: event["type"] == "run.started")
            await finished(client, run)
            await following


async def test_curl_with_http2_by_prior_knowledge_is_refused_at_once(gateway):
    curl = shutil.which("curl")
    command = [curl, "--silent", "--max-time", "10", "--http2-prior-knowledge", f"{gateway.url}/healthz"]
    running = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    await running.communicate()
    assert running.returncode not in (0, 28)  # 28: it waited in vain


def _asked(relay: Relay, times: int):
    async def ask() -> bool:
        return len(relay.requests) >= times

    return ask


async def _until(seen: list[dict], found: Callable[[dict], bool]) -> None:
    async def ask() -> bool:
        return any(found(each["event"]) for each in seen if "event" in each)

    await eventually(ask, within_s=PATIENCE_S)
