"""The three ways to one run's frames: server-sent events, WebSocket, long-poll (PROTOCOL sections 4 to 6).

Rule 1: a transport opens one connection, delivers its frames in order, each after the one before it was taken, and
returns what it saw as an Outcome of the policy. It never decides, waits or comes back, and raises only what `deliver`
raises.
Rule 2: no timers here: the caller cancels a connection that it takes for dead.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from runcast.api import problem
from runcast.errors import Refused, RuncastError, refused
from runcast.policy import Answered, Closed, Outcome, Polled, Seen, Transport, passing
from runcast.sse import SseParser

Frame = dict[str, Any]
Command = Callable[[dict[str, Any]], Awaitable[Frame | None]]

SUBPROTOCOL = Subprotocol("runcast.v1")
_FINAL = (400, 403, 404, 422)
MAX_FRAME_BYTES = 8 << 20  # an event has at most 1 MiB (PROTOCOL section 2)


class Broken(Exception):
    """What came is not what the protocol says: the connection is worth no more."""


@dataclass(slots=True, kw_only=True)
class Target:
    """What to join and how. `wait_s`: how long a long-poll may wait.

    Beside the gateway's frames `deliver` is given `cursor`: so far, and if it is `done`, the end. `alive` is told of
    every piece of what is delivered only when all of it is there.
    `commands` is told of a way to send commands, and of its end (None). `problem`: why the gateway refused.
    """

    url: str
    run: str
    after: str | None
    replay: str
    types: tuple[str, ...] | None
    token: str | None
    wait_s: float
    http: httpx.AsyncClient
    deliver: Callable[[Frame], Awaitable[None]]
    alive: Callable[[], None]
    commands: Callable[[Command | None], None]
    problem: RuncastError | None = None

    @property
    def address(self) -> str:
        return f"{self.url}/runs/{quote(self.run, safe='')}/events"

    def request(self, accept: str, **query: str) -> httpx.Request:
        query = {"replay": self.replay, **query}
        if self.after is not None:
            query["after"] = self.after
        if self.types is not None:
            query["types"] = ",".join(self.types)
        headers = {"Accept": accept, "Cache-Control": "no-store"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        return self.http.build_request("GET", self.address, params=query, headers=headers, timeout=None)


async def over_sse(target: Target) -> Outcome:
    try:
        response = await target.http.send(target.request("text/event-stream"), stream=True)
    except httpx.RequestError:
        return Seen.UNREACHABLE
    try:
        if response.status_code != 200:
            return await _answered(target, response)
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            return Seen.REFUSED
        parser = SseParser()
        async for piece in response.aiter_bytes():
            for message in parser.feed(piece):
                await target.deliver(frame_of(message.data))
            if parser.pending > MAX_FRAME_BYTES:
                break
    except (httpx.RequestError, httpx.StreamError, Broken):
        pass
    finally:
        await response.aclose()
    return Seen.LOST


async def over_poll(target: Target) -> Outcome:
    now = asyncio.get_running_loop().time
    began = now()
    try:
        response = await target.http.send(target.request("application/json", wait=str(target.wait_s)), stream=True)
    except httpx.RequestError:
        return Seen.UNREACHABLE
    try:
        if response.status_code != 200:
            return await _answered(target, response)
        content = bytearray()
        async for piece in response.aiter_bytes():
            target.alive()
            content += piece
    except (httpx.RequestError, httpx.StreamError):
        return Seen.UNREACHABLE
    finally:
        await response.aclose()
    try:
        page = _json(bytes(content))
        events = [checked(event) for event in page["events"]]
        told = Polled(
            retry_ms=page["retry_ms"],
            heartbeat_ms=page["heartbeat_ms"],
            early=not events and target.wait_s > 0 and now() - began < target.wait_s / 2,
        )
        cursor, done = page["cursor"], page["done"]
    except (Broken, KeyError, TypeError):
        return Seen.REFUSED
    if page.get("resume") == "gap" and not (events and events[0]["type"] == "gap"):
        first = events[0].get("id", cursor) if events else cursor
        await target.deliver({"type": "gap", "run": target.run, "after": target.after, "from": first})
    for event in events:
        await target.deliver(event)
    # A page may end in events that were left out; the next one starts after them.
    await target.deliver({"type": "cursor", "cursor": cursor, "done": done})
    return told


async def _answered(target: Target, response: httpx.Response) -> Outcome:
    try:
        await response.aread()
    except (httpx.RequestError, httpx.StreamError):
        return Answered(response.status_code)
    told, status = problem(response), response.status_code
    if status in _FINAL and not (isinstance(told, Refused) and told.own):
        return Seen.REFUSED  # what stands between says so; it speaks of this way, not of the run
    target.problem = told
    return Answered(status, told.retry_after_ms)


async def over_websocket(target: Target) -> Outcome:
    try:
        socket = await connect(
            _socket_address(target.url),
            subprotocols=[SUBPROTOCOL],
            compression=None,
            max_size=MAX_FRAME_BYTES,
            open_timeout=None,
            ping_interval=None,  # the gateway's heartbeats tell a dead connection
            close_timeout=1,
        )
    except InvalidStatus as refusal:
        status = refusal.response.status_code
        # Whatever else stands before a gateway says that this way is not open.
        return Answered(status) if passing(status) else Seen.REFUSED
    except (InvalidHandshake, websockets.InvalidURI, ValueError):
        return Seen.REFUSED
    except (OSError, EOFError, ConnectionClosed):
        return Seen.UNREACHABLE
    conversation = _Conversation(socket, target)
    try:
        return await conversation.held()
    finally:
        conversation.over()
        try:
            await socket.close()
        finally:
            # Before Python 3.11.4 the time limit of that close ends a task that is being cancelled, and not the socket.
            socket.transport.abort()


def _socket_address(url: str) -> str:
    return f"ws{url.removeprefix('http')}/ws"


@dataclass(slots=True)
class _Conversation:
    socket: ClientConnection
    target: Target
    waiting: dict[str, asyncio.Future[Frame | None]] = field(default_factory=dict)
    sent: int = 0

    async def held(self) -> Outcome:
        target = self.target
        given = (("after", target.after), ("types", target.types))
        joined = {name: value for name, value in given if value is not None}
        try:
            # Sent in one go, without waiting for the answers: they come in order.
            if target.token is not None:
                await self._say({"type": "authenticate", "token": target.token}, ref="authenticate")
            await self._say(
                {"type": "subscribe", "run": target.run, "replay": target.replay, **joined}, ref="subscribe"
            )
            target.commands(self.command)
            while True:
                frame = frame_of(await self.socket.recv(decode=False))
                await target.deliver(frame)
                if frame["type"] == "reply" and (verdict := await self._replied(frame)) is not None:
                    return verdict
        except ConnectionClosed:
            return Closed(self.socket.close_code or 1006)
        except Broken:
            return Seen.LOST

    async def command(self, command: dict[str, Any]) -> Frame | None:
        """Send a command; its reply, or None when the connection ended first."""
        self.sent += 1
        ref = f"c{self.sent}"
        reply: asyncio.Future[Frame | None] = asyncio.get_running_loop().create_future()
        self.waiting[ref] = reply
        try:
            await self._say(command, ref=ref)
            return await reply
        except ConnectionClosed:
            return None
        finally:
            self.waiting.pop(ref, None)

    async def _say(self, command: dict[str, Any], *, ref: str) -> None:
        await self.socket.send(orjson.dumps({**command, "ref": ref}).decode())

    async def _replied(self, frame: Frame) -> Outcome | None:
        """What ends the connection, if this reply does."""
        ref = frame.get("ref")
        if ref in ("authenticate", "subscribe"):
            if not frame.get("ok"):
                error = frame.get("error") or {}
                status = _status_of(error)
                self.target.problem = refused(error, status=status)
                return Answered(status, error.get("retry_after_ms")) if status else Seen.REFUSED
            if frame.get("done"):
                await self.target.deliver({"type": "cursor", "cursor": self.target.after, "done": True})
            return None
        reply = self.waiting.get(str(ref))
        if reply is not None and not reply.done():
            reply.set_result(frame)
        return None

    def over(self) -> None:
        self.target.commands(None)
        for reply in self.waiting.values():
            if not reply.done():
                reply.set_result(None)


def _status_of(error: dict[str, Any]) -> int:
    """The HTTP status that a refused `authenticate` or `subscribe` would have had; 0: none that tells anything."""
    code = str(error.get("code"))
    if code == "auth.forbidden":
        return 403
    if code.startswith("auth."):
        return 401
    if code == "run.not_found":
        return 404
    if code == "input.invalid":
        return 422
    return 503 if error.get("retryable") else 0


def frame_of(text: str | bytes) -> Frame:
    return checked(_json(text))


def checked(found: Any) -> Frame:
    """Raises Broken for what is no object with a type."""
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise Broken
    return found


def _json(text: str | bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        raise Broken from None


OPEN: dict[Transport, Callable[[Target], Awaitable[Outcome]]] = {
    "sse": over_sse,
    "websocket": over_websocket,
    "poll": over_poll,
}
