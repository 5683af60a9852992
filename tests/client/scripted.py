"""A server that says what a test tells it to: answers, streams of events and WebSockets, on the loopback.

What a gateway would never say, or only on a bad day, is said here on purpose.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

PATIENCE_S = 10
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


class Told(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    head: bytes

    @property
    def what(self) -> str:
        """What is asked of the run."""
        return self.path.rpartition("/")[2]

    @property
    def streams(self) -> bool:
        return self.headers["accept"] == "text/event-stream"

    @property
    def number(self) -> int:
        """Its place in a publisher's sequence."""
        return int(self.headers["producer"].rpartition("=")[2])

    def json(self):
        return json.loads(self.body)


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._streaming = False

    async def stream(self, *frames: dict) -> None:
        """Frames of a stream of events, its head before the first."""
        head = b"" if self._streaming else _STREAM
        self._streaming = True
        await self.write(head + b"".join(b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in frames))

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Until the client has closed it; what it says is dropped."""
        while await self.reader.read(65536):
            pass

    def cut(self) -> None:
        self.writer.transport.abort()


class Socket:
    """The gateway's side of a WebSocket. It answers a close only while it listens."""

    def __init__(self, request: Request, connection: Connection) -> None:
        self.connection = connection
        self._protocol = ServerProtocol(subprotocols=["runcast.v1"])
        self._protocol.receive_data(request.head)
        (asked,) = self._protocol.events_received()
        self._protocol.send_response(self._protocol.accept(asked))
        self._heard: deque[dict] = deque()

    async def say(self, *frames: dict) -> None:
        for frame in frames:
            self._protocol.send_text(json.dumps(frame).encode())
        await self._flush()

    async def heard(self) -> dict | None:
        """The next command, None once the client has gone."""
        while not self._heard:
            data = await self.connection.reader.read(65536)
            if not data:
                return None
            self._protocol.receive_data(data)
            await self._flush()
            for event in self._protocol.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    self._heard.append(json.loads(bytes(event.data)))
        return self._heard.popleft()

    async def joined(self, *frames: dict) -> dict:
        """Greet, take the client's commands up to its `subscribe`, say the frames; that command."""
        await self.say(hello())
        while True:
            command = await self.heard()
            await self.say({"type": "reply", "ref": command["ref"], "ok": True, "resume": "start"})
            if command["type"] == "subscribe":
                await self.say(*frames)
                return command

    async def _flush(self) -> None:
        await self.connection.write(b"".join(self._protocol.data_to_send()))


Answer = Callable[[Request, Connection], Awaitable[Told | None]]


class Server:
    """Answers each request by `answer`; where that gives None it has answered itself, and the connection ends.

    `requests` are those that came, `open` the connections that there are.
    """

    def __init__(self, answer: Answer) -> None:
        self.requests: list[Request] = []
        self.open = 0
        self._answer = answer
        self._tasks: set[asyncio.Task] = set()
        self._faults: list[Exception] = []
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if kind is None and self._faults:
            raise self._faults[0]

    def asked(self, method: str, what: str = "events") -> list[Request]:
        """The requests of a kind that came."""
        return [request for request in self.requests if (request.method, request.what) == (method, what)]

    async def until(self, ready: Callable[[], object]) -> None:
        """Until it is so; looked at when a request comes and when a connection ends."""
        async with asyncio.timeout(PATIENCE_S):
            while not ready():
                self._changed.clear()
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self.open += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while await self._answered(Connection(reader, writer)):
                    pass
        except Exception as error:
            self._faults.append(error)
        finally:
            self._tasks.discard(asyncio.current_task())
            self.open -= 1
            self._changed.set()
            writer.close()

    async def _answered(self, connection: Connection) -> bool:
        """Whether the connection goes on after one request."""
        request = await _read(connection.reader)
        self.requests.append(request)
        self._changed.set()
        told = await self._answer(request, connection)
        if told is None:
            return False
        headers = {"Content-Length": len(told.body), **told.headers}
        lines = [f"HTTP/1.1 {told.status} Told", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        await connection.write("\r\n".join(lines).encode() + told.body)
        return True


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    split = urlsplit(target)
    query = dict(parse_qsl(split.query, keep_blank_values=True))
    return Request(method, split.path, query, headers, body, head)


def told(body, status: int = 200, **headers: str) -> Told:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Told(status, json.dumps(body).encode(), {"Content-Type": "application/json", **named})


def problem(status: int, code: str) -> Told:
    body = {"type": "about:blank", "title": code, "status": status, "code": code, "retryable": False}
    return told(body, status)


def page(*events: dict, cursor: str, done: bool = False) -> Told:
    """The answer to a long-poll."""
    body = {"events": list(events), "cursor": cursor, "done": done}
    return told({**body, "resume": "resumed", "retry_ms": 10, "heartbeat_ms": 15_000})


def hello(**more) -> dict:
    greeting = {"type": "hello", "connection": "c", "version": 1, "heartbeat_ms": 15_000, "retry_ms": 10}
    return {**greeting, "resume": "start", **more}


def event(number: int, type: str = "x.a", **fields) -> dict:
    return {"type": type, "run": "r", "id": f"a-{number}", "ts": 1, **fields}


def completed(number: int) -> dict:
    return event(number, "run.completed", result=1, duration_ms=1)


def issuing(*tokens: str | Exception) -> Callable[[], str]:
    """A source of these tokens, one after the other."""
    left = iter(tokens)

    def issue() -> str:
        token = next(left)
        if isinstance(token, Exception):
            raise token
        return token

    return issue
