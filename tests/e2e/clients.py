"""The ways to follow a run and to speak past a client library, for the tests.

Every follower gives dicts as they came: control frames among them, `own` leaves the run's events.
"""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import websockets
from httpx_sse import aconnect_sse

from tests.e2e.process import GatewayProcess, bearer

TERMINAL = ("run.completed", "run.failed", "run.cancelled")
STREAM = {"Accept": "text/event-stream"}
# What opens a WebSocket, beside the request line.
UPGRADE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
PATIENCE_S = 15


@contextmanager
def served(folder: Path, *arguments: str, **settings) -> Iterator[GatewayProcess]:
    """A gateway with settings of its own; it must end in order and without a traceback."""
    running = GatewayProcess(folder, *arguments, **{"cancel_grace_s": 0.5, "drain_s": 5, **settings})
    with running:
        yield running
        assert running.stop() == 0
    assert not running.faults(), running.output


def caller(gateway: GatewayProcess, *who, **more) -> httpx.AsyncClient:
    """An HTTP client with a token of `bearer(*who, **more)`."""
    return httpx.AsyncClient(base_url=gateway.url, headers=bearer(*who, **more), timeout=PATIENCE_S)


async def started(client: httpx.AsyncClient, pipeline: str = "words", /, **input) -> str:
    answer = await client.post("/runs", json={"pipeline": pipeline, "input": input})
    assert answer.status_code == 201, answer.text
    run = answer.json()["id"]

    async def going():
        return (await client.get(f"/runs/{run}")).json()["status"] == "running"

    if pipeline == "external":
        await eventually(going)
    return run


async def published(client: httpx.AsyncClient, run: str, *events: dict, **headers) -> httpx.Response:
    return await client.post(f"/runs/{run}/events", json={"events": list(events)}, headers=headers)


async def finished(client: httpx.AsyncClient, run: str, **body) -> httpx.Response:
    return await client.post(f"/runs/{run}/finish", json={"status": "completed", "result": None, **body})


async def log_of(client: httpx.AsyncClient, run: str) -> list[dict]:
    """All of a run's events that one answer holds."""
    return (await client.get(f"/runs/{run}/events", params={"replay": "full"})).json()["events"]


async def ticket(client: httpx.AsyncClient, **body) -> str:
    answer = await client.post("/tickets", json=body)
    assert (answer.status_code, answer.json()["expires_in"]) == (201, 30)
    return answer.json()["ticket"]


def own(frames: list[dict]) -> list[dict]:
    """The run's events among the frames."""
    return [frame for frame in frames if "id" in frame]


def terminals(frames: list[dict]) -> list[dict]:
    return [frame for frame in frames if frame["type"] in TERMINAL]


async def by_sse(
    client: httpx.AsyncClient, run: str, *, headers: dict | None = None, patience_s: float = PATIENCE_S, **params
) -> list[dict]:
    async with (
        asyncio.timeout(patience_s),
        aconnect_sse(client, "GET", f"/runs/{run}/events", params=params, headers=headers or {}) as source,
    ):
        if source.response.status_code == 204:
            return []
        return [json.loads(event.data) async for event in source.aiter_sse()]


async def by_poll(client: httpx.AsyncClient, run: str, *, limit: int = 1000, **params) -> list[dict]:
    """Every answer's events, until the run is done."""
    found: list[dict] = []
    while True:
        answer = await client.get(f"/runs/{run}/events", params={"wait": 5, "limit": limit, **params})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        found += told["events"]
        params["after"] = told["cursor"]
        if told["done"]:
            return found


async def by_socket(gateway: GatewayProcess, run: str, **join) -> list[dict]:
    async with opened(gateway) as ws:
        await said(ws, type="subscribe", run=run, **join)
        assert (await heard(ws))["ok"]
        return await until_end(ws)


@asynccontextmanager
async def opened(gateway: GatewayProcess, *who, headers: dict | None = None, **more) -> AsyncIterator:
    """A WebSocket whose `hello` has come."""
    async with websockets.connect(
        gateway.ws, additional_headers=bearer(*who) if headers is None else headers, open_timeout=PATIENCE_S, **more
    ) as ws:
        assert (await heard(ws))["type"] == "hello"
        yield ws


async def said(ws, **command) -> None:
    await ws.send(json.dumps(command))


async def heard(ws) -> dict:
    return json.loads(await asyncio.wait_for(ws.recv(), PATIENCE_S))


async def asked(ws, **command) -> dict:
    """The reply to a command; what else comes before it is dropped."""
    await said(ws, **command)
    while (frame := await heard(ws))["type"] != "reply":
        pass
    return frame


async def until_end(ws) -> list[dict]:
    frames = [await heard(ws)]
    while frames[-1]["type"] not in TERMINAL:
        frames.append(await heard(ws))
    return frames


async def closed(ws) -> int:
    """The close code, once the server has closed."""
    try:
        while True:
            await asyncio.wait_for(ws.recv(), PATIENCE_S)
    except websockets.ConnectionClosed:
        return ws.close_code


async def eventually(ask, *, within_s: float = 5):
    """What `ask` gives once it is true."""
    async with asyncio.timeout(within_s):
        while not (found := await ask()):
            await asyncio.sleep(0.05)
    return found


@asynccontextmanager
async def answering(text: str) -> AsyncIterator[int]:
    """The port of a server that answers this to everything, as a page."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        kind = f"Content-Type: text/html\r\nContent-Length: {len(text)}\r\nConnection: close"
        writer.write(f"HTTP/1.1 200 OK\r\n{kind}\r\n\r\n{text}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def exchange(gateway: GatewayProcess, request: bytes, *, until: bytes | None = None) -> bytes:
    """Bytes there and back over a bare socket; up to its end, or until some bytes have come."""
    received = b""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE_S) as plain:
        plain.sendall(request)
        while until is None or until not in received:
            part = plain.recv(65536)
            if not part:
                break
            received += part
    return received


def head(method: str, target: str, *lines: str, version: str = "1.1") -> bytes:
    """A request's head, `Connection: close` in it unless the lines say otherwise."""
    close = () if any(line.startswith("Connection:") for line in lines) else ("Connection: close",)
    return "\r\n".join((f"{method} {target} HTTP/{version}", "Host: 127.0.0.1", *close, *lines, "", "")).encode(
        "latin-1"
    )


def authorization(*who, **more) -> str:
    return f"Authorization: {bearer(*who, **more)['Authorization']}"


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    """A problem document, complete, with this status and code, that tells nothing of the inside."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert {"type", "title", "status", "code", "retryable"} <= problem.keys()
    assert (problem["status"], problem["code"]) == (status, code), problem
    assert not re.search(r"Traceback|File \"|\.py\b", answer.text)
