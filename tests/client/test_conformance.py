"""The cases that hold every client, from `clients/conformance`: the parser, one connection, a followed run.

This client gives each run a connection of its own; cases of several runs on one are for clients that share them.
(The policy's cases are run in `test_policy.py`.)
"""

import asyncio
import json
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import websockets

from runcast import Client, Gap, NotFound, RunState
from runcast.policy import Answered, Closed, Hello, Polled, Reconnect
from runcast.sse import SseParser
from runcast.transports import OPEN, Target

FOLDER = Path(__file__).parents[2] / "clients/conformance"
HELLO = {"type": "hello", "connection": "c", "version": 1, "heartbeat_ms": 60_000, "retry_ms": 1, "resume": "start"}
NAMES = {Hello: "hello", Polled: "polled", Reconnect: "reconnect", Answered: "status", Closed: "closed"}


def cases(name: str):
    found = json.loads((FOLDER / f"{name}.json").read_text())
    alone = [case for case in found if len(case.get("joins", case.get("runs", "r"))) == 1]
    return pytest.mark.parametrize("case", alone, ids=lambda case: case["name"])


def test_every_file_is_run_by_some_test():
    assert {path.stem for path in FOLDER.glob("*.json")} == {"parser", "policy", "wire", "resume"}


@cases("parser")
def test_the_parser_gives_the_same_however_the_bytes_are_cut(case):
    data = bytes.fromhex(case["hex"]) if "hex" in case else case["input"].encode()
    for size in range(1, len(data) + 1):
        parser = SseParser()
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert [message._asdict() for piece in pieces for message in parser.feed(piece)] == case["messages"]
        assert parser.retry == case.get("retry")


def spelled(outcome) -> dict:
    if isinstance(outcome, str):
        return {"type": str(outcome)}
    fields = {name: getattr(outcome, name) for name in outcome.__dataclass_fields__}
    return {"type": NAMES[type(outcome)], **{name: value for name, value in fields.items() if value is not None}}


@cases("wire")
async def test_one_connection_comes_to_what_the_case_says(case):
    (join,) = case["joins"]
    taken: list[str] = []

    async def deliver(frame) -> None:
        taken.append(frame["type"])

    served = _socket if case["transport"] == "websocket" else _answers
    async with served(case) as (url, check), httpx.AsyncClient() as http, asyncio.timeout(10):
        target = Target(
            url=url,
            run=join["run"],
            after=join["cursor"],
            replay="folded",
            types=None,
            token=case["token"],
            wait_s=0,
            http=http,
            deliver=deliver,
            alive=lambda: None,
            commands=lambda command: None,
        )
        outcome = await OPEN[case["transport"]](target)
    assert spelled(outcome) == case["outcome"]
    assert taken == case["takes"]
    check()


@asynccontextmanager
async def _answers(case):
    """A server that answers the case's requests in their order."""
    asked = []

    async def answer(method: str, target: str, headers: dict) -> tuple[int, dict, str]:
        asked.append((method, urlsplit(target).path, sorted(parse_qsl(urlsplit(target).query)), headers))
        told = case["requests"][len(asked) - 1]["answer"]
        return told["status"], told.get("headers", {}), told.get("body", "")

    def check() -> None:
        assert len(asked) == len(case["requests"])
        for (method, path, query, headers), request in zip(asked, case["requests"], strict=True):
            asks = request["asks"]
            assert (method, path, query) == (asks["method"], asks["path"], sorted(map(tuple, asks["query"])))
            assert asks["headers"].items() <= headers.items()

    async with _http(answer) as url:
        yield url, check


@asynccontextmanager
async def _http(answer):
    """The smallest server: one request a connection, answered by `answer(method, target, headers)`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        status, told, body = await answer(method, target, headers)
        told = {**told, "Connection": "close", **({"Content-Length": len(body.encode())} if status != 204 else {})}
        head = [f"HTTP/1.1 {status} Told", *(f"{name}: {value}" for name, value in told.items()), "", ""]
        writer.write("\r\n".join(head).encode() + body.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def _socket(case):
    """A WebSocket server that plays the case once the client has said its commands."""
    said = []

    async def play(socket) -> None:
        said.extend([json.loads(await socket.recv()) for _ in case["says"]])
        for frame in case["frames"]:
            await socket.send(frame if isinstance(frame, str) else json.dumps(_referring(frame, said)))
        if case["close"] == 1006:
            socket.transport.abort()
        else:
            await socket.close(case["close"])

    def refuse(connection, request):
        return None if case.get("opens", True) else connection.respond(403, "no")

    def check() -> None:
        assert [{name: value for name, value in one.items() if name != "ref"} for one in said] == case["says"]

    async with websockets.serve(play, "127.0.0.1", 0, process_request=refuse, close_timeout=1) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", check


def _referring(frame: dict, said: list[dict]) -> dict:
    return {**frame, "ref": said[frame["ref"]]["ref"]} if frame["type"] == "reply" else frame


@cases("resume")
async def test_a_followed_run_is_seen_as_the_case_says(case):
    came: list[str | None] = []

    async def answer(method: str, target: str, headers: dict) -> tuple[int, dict, str]:
        split = urlsplit(target)
        state = case.get("states", {}).get(split.path.removeprefix("/runs/"))
        if state is not None:
            return 200, {}, json.dumps(state)
        came.append(dict(parse_qsl(split.query)).get("after"))
        told = case["connections"][len(came) - 1]
        if "frames" in told:
            stream = "".join(f"data: {json.dumps(frame)}\n\n" for frame in [HELLO, *told["frames"]])
            return 200, {"Content-Type": "text/event-stream"}, stream
        return told["status"], {"Content-Type": "application/problem+json"}, json.dumps(told.get("body", {}))

    seen: list = []
    reasons: list = []
    state = RunState()
    async with _http(answer) as url, asyncio.timeout(10), Client(url, token="t", transports=["sse"]) as client:
        run = client.run("r")
        events = run.events(on_connection=lambda connection: reasons.append(connection.reason))
        with suppress(NotFound):
            async with aclosing(events):
                async for event in events:
                    seen.append({"gap": event.from_} if isinstance(event, Gap) else event.id)
                    state.apply(event)
                    if isinstance(event, Gap) and not event.anew:
                        state = await run.state()
    assert seen == case["sees"]
    assert state.status == case["status"]
    assert reasons[-1] == case["reason"]
    assert came == [connection["after"] for connection in case["connections"]]
    if "blocks" in case:
        assert state.blocks == case["blocks"]
