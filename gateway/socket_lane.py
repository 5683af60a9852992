"""The short way of a WebSocket: from the socket to the app and back, past the server's protocol machinery.

Most of what comes in on a WebSocket is the answer to a ping. Here it is read where it arrives, and wakes nobody.

Rule 1: an ASGI server for exactly this case (ASGI WebSocket spec 2.3 and its denial response; RFC 6455): the app cannot
tell it from the other way.
Rule 2: in doubt a handshake is not taken, as in `lane`.
Rule 3: what a client says is done in its order, its close too. What it says faster than the app takes it, or while it
takes no pongs, stays in its own socket.
"""

import asyncio
import contextlib
import math
import re
from base64 import b64encode
from collections.abc import Callable
from enum import Enum, auto
from hashlib import sha1
from typing import Any, NamedTuple

from gateway.lane import App, Head, Headers, Lane, parsed, response_head
from gateway.transports.direct import MAX_UNSENT
from gateway.wire import websocket
from gateway.wire.frames import Closing, FrameReader, Passed, Ping

MAX_MESSAGES = 10  # that wait for the app
MAX_AT_ONCE = 500  # frames of one client before others have a turn
LINGER_S = 1
ABNORMAL, NO_CODE, INTERNAL_ERROR = 1006, 1005, 1011

_OPENS = b"GET /ws ", b"GET /ws?"
_ONCE = (b"host", b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version")
_NOT_HERE = frozenset({b"content-length", b"transfer-encoding", b"expect", b"te"})
_CONNECTIONS = frozenset({frozenset({b"upgrade"}), frozenset({b"upgrade", b"keep-alive"})})
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_EXTENSIONS, _PROTOCOL = b"sec-websocket-extensions", b"sec-websocket-protocol"


class Opening(NamedTuple):
    """A handshake: its head, the subprotocols it offers, and what the client sent behind it."""

    head: Head
    key: bytes
    subprotocols: list[str]
    behind: bytes


def opening_of(data: bytes) -> Opening | None:
    """The handshake, if these bytes begin with the head of a plain one, the whole of it (RFC 6455, section 4.2.1)."""
    if not data.startswith(_OPENS):
        return None
    head = parsed(data)
    if head is None or not _opens(head):
        return None
    # None is ever agreed on, and the app need not know.
    head.headers = [(name, value) for name, value in head.headers if name != _EXTENSIONS]
    named = dict(head.headers)
    offered = [token.decode() for token in _tokens(named.get(_PROTOCOL, b""))]
    return Opening(head, named[b"sec-websocket-key"], offered, data[head.size :])


def _opens(head: Head) -> bool:
    named, names = dict(head.headers), [name for name, _ in head.headers]
    return (
        all(names.count(name) == 1 for name in _ONCE)
        and names.count(_PROTOCOL) <= 1
        and _NOT_HERE.isdisjoint(names)
        and named[b"upgrade"].lower() == b"websocket"
        and frozenset(_tokens(named[b"connection"].lower())) in _CONNECTIONS
        and named[b"sec-websocket-version"] == b"13"
        and _KEY.fullmatch(named[b"sec-websocket-key"]) is not None
        and named.get(_PROTOCOL, b"").isascii()
    )


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.split(b",")] if value else []


class Stage(Enum):
    ASKED = auto()
    REFUSED = auto()  # by an HTTP response
    OPEN = auto()
    CLOSED = auto()  # a close frame of ours went out


class SocketLane(Lane):
    """A connection that is a WebSocket from its first bytes on; implements Wire."""

    __slots__ = ("_accept", "_broken", "_code", "_frames", "_messages", "_paused", "_stage")

    def __init__(
        self, transport: asyncio.Transport, gone: Callable[[asyncio.Transport], None], *, max_message_bytes: int
    ) -> None:
        super().__init__(transport, gone)
        self._stage = Stage.ASKED
        self._accept = b""
        self._frames = FrameReader(max_message_bytes)
        self._messages: list[dict[str, Any] | Closing] = [{"type": "websocket.connect"}]
        self._paused = False
        self._broken = False
        self._code = ABNORMAL

    @property
    def reusable(self) -> bool:
        return False

    async def serve(self, app: App, opening: Opening, state: dict[str, Any]) -> None:
        """Serve the socket to its end. What `app` raises is for the caller."""
        self._accept = b64encode(sha1(opening.key + _GUID, usedforsecurity=False).digest())
        if opening.behind:
            self._frames.feed(opening.behind)
            self._take()
        scope = {
            "type": "websocket",
            "asgi": {"spec_version": "2.3", "version": "3.0"},
            "scheme": "ws",
            "subprotocols": opening.subprotocols,
            "extensions": {"websocket.http.response": {}},
            **self._asked(opening.head, state),
        }
        serving = app(scope, self._next, self._send)
        del opening, scope  # as in a stream's lane
        try:
            await serving
        finally:
            await self._end()

    async def _end(self) -> None:
        """The app has said what it had to say."""
        if self._stage is Stage.ASKED:
            await self._refuse(500)
        else:
            self._close(INTERNAL_ERROR)
        if self._broken and not self.transport.is_closing():
            # What the client still sends would be answered by a reset, which may overtake the close frame.
            self.transport.write_eof()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await self._woken()

    async def _next(self) -> dict[str, Any]:
        """What the app hears of."""
        while not self._messages and not self._at_end:
            await self._woken()
        if self._messages:
            full = len(self._messages) == MAX_MESSAGES
            message = self._messages.pop(0)
            if full:
                self._take()
            if not isinstance(message, Closing):
                return message
            self._part(message)
        return {"type": "websocket.disconnect", "code": self._code}

    async def _woken(self) -> None:
        self._closed = self._loop.create_future()
        try:
            await self._closed
        finally:
            self._closed = None

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind.startswith("websocket.http.response"):
            self._stage = Stage.REFUSED
            await super()._send({**message, "type": kind.removeprefix("websocket.")})
        elif kind == "websocket.accept":
            self._open(message.get("subprotocol"), message.get("headers", ()))
        elif kind == "websocket.close" and self._stage is Stage.ASKED:
            await self._refuse(403)
        elif kind == "websocket.close":
            self._close(message.get("code", 1000), message.get("reason") or "")
        elif self._stage is Stage.OPEN and not self._at_end:
            text = message.get("text")
            frame = (websocket.BINARY, message["bytes"]) if text is None else (websocket.TEXT, text.encode())
            if self._write(websocket.frame(*frame)):
                await self.drain()

    async def _refuse(self, status: int) -> None:
        self._stage = Stage.REFUSED
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await super()._send({"type": "http.response.start", "status": status, "headers": headers})
        await super()._send({"type": "http.response.body"})

    def _open(self, subprotocol: str | None, headers: Headers) -> None:
        taken = [(_PROTOCOL, subprotocol.encode())] if subprotocol is not None else []
        switched = [
            (b"upgrade", b"WebSocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", self._accept),
        ]
        self._write(response_head(101, [*taken, *switched, *headers]))
        self._stage = Stage.OPEN
        self._accept = b""
        self._take()

    def _close(self, code: int, reason: str = "") -> None:
        # A client that went without a close may still read what it is sent, and take the code for a verdict.
        if self._stage is Stage.OPEN and not self._at_end:
            self._stage = Stage.CLOSED
            self._write(websocket.close(code, reason))

    def _part(self, closing: Closing) -> None:
        """The client's close, or that what it sends is none, in its order: the app has taken all that came before."""
        self._code = NO_CODE if closing.code is None else closing.code
        self._broken = closing.broken
        self._lost()  # before: behind a close frame there comes nothing
        if self._stage is Stage.OPEN:
            self._stage = Stage.CLOSED
            self._write(websocket.frame(websocket.CLOSE, closing.answer))

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        self._frames.feed(data)
        self._take()

    def _take(self) -> None:
        """Deal with what has come, as far as the app and the client keep up; read on when nothing is left of it."""
        if self._stage is Stage.ASKED:
            self._pause()
            return
        pongs: list[bytes] = []
        count = 0
        while count < MAX_AT_ONCE and len(self._messages) < MAX_MESSAGES and not self._choked:
            item = self._frames.next()
            if item is None:
                self._read_on()
                break
            count += 1
            if isinstance(item, Ping):
                pongs.append(websocket.frame(websocket.PONG, item.payload))
            elif not isinstance(item, Passed):
                self._messages.append(item if isinstance(item, Closing) else _received(item))
        else:
            self._pause()
            if count == MAX_AT_ONCE:
                self._loop.call_soon(self._take)
        if pongs and self._stage is Stage.OPEN:
            self._write(b"".join(pongs))
        if self._messages:
            self._wake()

    @property
    def _choked(self) -> bool:
        """Whether the client takes nothing of what it is sent, pongs for one; it goes on when there is room again."""
        return self._resumed is not None and self.transport.get_write_buffer_size() >= MAX_UNSENT

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._paused:
            self._take()

    def _pause(self) -> None:
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()
            self.heard_at = math.inf  # the silence is ours

    def _read_on(self) -> None:
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()
            self.heard_at = self._loop.time()


def _received(message: str | bytes) -> dict[str, Any]:
    text, data = (message, None) if isinstance(message, str) else (None, message)
    return {"type": "websocket.receive", "text": text, "bytes": data}
