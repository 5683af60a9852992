"""The short way of a stream's request: from the socket to the app and back, past the server's protocol machinery.

Most connections are made for one GET that asks for a stream, and its head comes in one piece. Such a one is parsed and
answered here, by one task; whatever else comes first on a connection goes to the server, untouched.

Rule 1: an ASGI server for exactly this case (ASGI HTTP spec 2.1, RFC 9112), and no more: the app cannot tell it from
the other way.
Rule 2: in doubt a request is not taken, so the oddities of HTTP have one place where they are dealt with, elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Any
from urllib.parse import unquote
from wsgiref.handlers import format_date_time

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from gateway.transports.direct import STATE_KEY, Owner

Headers = list[tuple[bytes, bytes]]
App = Callable[[Any, Any, Any], Awaitable[None]]

MAX_HEAD = 16 * 1024  # as the server has it
MAX_EARLY = 64 * 1024
_STREAM = b"text/event-stream"
# What changes how a request or its connection is to be read.
_NOT_HERE = frozenset({b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"te", b"connection"})


class Head:
    """The request line and the headers (names in lower case), as the parser finds them."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: Headers = []
        self.complete = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        # The parser leaves the blanks behind a value, which are no part of it (RFC 9112, section 5.1).
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_message_complete(self) -> None:
        self.complete = True

    @property
    def plain(self) -> bool:
        """Whether nothing in it asks for more than an answer."""
        names = [name for name, value in self.headers if (name, value.lower()) != (b"connection", b"keep-alive")]
        return self.complete and names.count(b"host") == 1 and _NOT_HERE.isdisjoint(names)


def head_of(data: bytes) -> Head | None:
    """The request, if these bytes are the head of a plain GET for a stream, the whole of it and nothing else."""
    # Only here is the case of the media type looked at.
    if not data.startswith(b"GET /") or _STREAM not in data:
        return None
    head = parsed(data)
    return head if head is not None and head.plain else None


def parsed(data: bytes) -> Head | None:
    """What these bytes say, if they are a whole head of HTTP/1.1 in which nothing is odd, and nothing else."""
    if not (data.find(b"\r\n\r\n") == len(data) - 4 and len(data) <= MAX_HEAD):
        return None
    # Lines that are folded or end oddly are for the server to judge.
    if b"\r\n " in data or b"\r\n\t" in data or data.count(b"\n") != data.count(b"\r\n"):
        return None
    head = Head()
    parser = HttpRequestParser(head)
    try:
        parser.feed_data(data)
    except HttpParserUpgrade:
        pass  # what it asks for is among the headers
    except HttpParserError:
        return None
    return head if parser.get_http_version() == "1.1" else None


class Lane(asyncio.Protocol):
    """A connection while its first request is answered here; implements Wire.

    `early`: what the client sent behind the request. `gone` is called when the connection is lost.
    """

    __slots__ = (
        "_at_end", "_chunked", "_closed", "_ended", "_gone", "_head", "_loop", "_resumed", "early", "heard_at",
        "one_way", "owner", "transport",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, gone: Callable[[asyncio.Transport], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.transport = transport
        self.heard_at = self._loop.time()
        self.owner: Owner | None = None
        self.one_way = False
        self.early = b""
        self._gone = gone
        self._closed: asyncio.Future[None] | None = None
        self._resumed: asyncio.Future[None] | None = None
        self._head: bytes | None = None
        self._chunked = False
        self._ended = False
        self._at_end = False
        transport.set_protocol(self)

    @property
    def reusable(self) -> bool:
        """Whether the connection is as good as new: the answer is complete and the client still there."""
        return self._ended and not self._at_end and not self.transport.is_closing()

    async def answer(self, app: App, head: Head, state: dict[str, Any]) -> None:
        """Serve one request. What `app` raises is for the caller."""
        scope = {
            "type": "http",
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "method": "GET",
            "scheme": "http",
            "extensions": {},
            **self._asked(head, state),
        }
        answering = app(scope, self._receive(), self._send)
        del head, scope  # a stream lives long: what only its beginning needs is let go of
        await answering

    def _asked(self, head: Head, state: dict[str, Any]) -> dict[str, Any]:
        """What a scope says of the request and the connection."""
        path, _, query = head.target.partition(b"?")
        peer, own = self.transport.get_extra_info("peername"), self.transport.get_extra_info("sockname")
        return {
            "http_version": "1.1",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": head.headers,
            "client": peer and peer[:2],
            "server": own and own[:2],
            "state": {**state, STATE_KEY: self},
        }

    def pipelined(self) -> bool:
        return bool(self.early)

    async def drain(self) -> None:
        """Return when little enough is unsent. Raises ConnectionResetError when the client is gone."""
        if self._resumed is not None:
            await self._resumed
        if self.transport.is_closing():
            raise ConnectionResetError

    def _receive(self) -> Callable[[], Awaitable[dict[str, Any]]]:
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if not self._at_end:
                self._closed = self._closed or self._loop.create_future()
                await asyncio.shield(self._closed)
            return {"type": "http.disconnect"}

        return receive

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._begin(message["status"], message["headers"])
            return
        data, more = message.get("body", b""), message.get("more_body", False)
        if self._chunked:
            data = (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + (b"" if more else b"0\r\n\r\n")
        # The head leaves together with what comes first.
        head, self._head = self._head or b"", b""
        self._ended = not more
        if self._write(head + data):
            await self.drain()

    def _write(self, data: bytes) -> bool:
        """Whether somebody is there to read it."""
        if self.transport.is_closing():
            return False
        if self.owner is not None:
            self.owner.preceded()
        self.transport.write(data)
        return True

    def _begin(self, status: int, headers: Headers) -> None:
        names = {name.lower() for name, _ in headers}
        self._chunked = status >= HTTPStatus.OK and status not in (204, 304) and b"content-length" not in names
        framing = [(b"transfer-encoding", b"chunked")] if self._chunked else []
        self._head = response_head(status, [*headers, *framing])

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        self.early += data
        # A stream's client has nothing more to say, and nobody reads on and on for one that is not served yet.
        if self.one_way or len(self.early) > MAX_EARLY:
            self.transport.abort()

    def eof_received(self) -> bool:
        self._lost()
        return True  # what is being answered may still be read

    def connection_lost(self, _exc: Exception | None) -> None:
        self._lost()
        self.resume_writing()
        self._gone(self.transport)

    def _lost(self) -> None:
        self._at_end = True
        if self.owner is not None:
            self.owner.lost()
        self._wake()

    def _wake(self) -> None:
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._resumed = self._loop.create_future()

    def resume_writing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.done():
            resumed.set_result(None)


def response_head(status: int, headers: Headers) -> bytes:
    """Raises ValueError for a header that would be two."""
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode()), _date(int(time()))]
    lines += [b"%b: %b" % header for header in headers]
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
        raise ValueError("a header with a line break")
    return head


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return b"date: " + format_date_time(second).encode()
