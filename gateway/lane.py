"""The short way of a plain request: from the socket to the app and back, past the server's protocol machinery.

Most requests are a GET, or a POST with a small body, and their head comes in one piece. Such a one is parsed and
answered here, by one task; whatever else comes on a connection goes to the server, untouched.

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
MAX_BODY = 64 * 1024
MAX_EARLY = 64 * 1024
_END = b"\r\n\r\n"
# What changes how a request or its connection is to be read.
_NOT_HERE = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"te", b"connection", b"trailer"})


class Head:
    """The request line and the headers (names in lower case), as the parser finds them.

    `size`: how many bytes it has; `length`: how many the body behind it has.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.length = 0
        self.method = ""
        self.target = b""
        self.headers: Headers = []
        self.complete = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        # The parser leaves the blanks behind a value, which are no part of it (RFC 9112, section 5.1).
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True

    @property
    def plain(self) -> bool:
        """Whether nothing in it asks for more than an answer."""
        names = [name for name, value in self.headers if (name, value.lower()) != (b"connection", b"keep-alive")]
        return names.count(b"host") == 1 and _NOT_HERE.isdisjoint(names)


def head_of(data: bytes) -> Head | None:
    """The head of a plain request, if these bytes begin with the whole of one."""
    head = parsed(data) if data.startswith((b"GET /", b"POST /")) else None
    return head if head is not None and head.plain and _measured(head) else None


def parsed(data: bytes) -> Head | None:
    """The whole head of HTTP/1.1 that these bytes begin with, if nothing in it is odd."""
    size = data.find(_END, 0, MAX_HEAD) + len(_END)
    written = data[:size]
    # Lines that are folded or end oddly are for the server to judge.
    if (
        size < len(_END)
        or b"\r\n " in written
        or b"\r\n\t" in written
        or written.count(b"\n") != written.count(b"\r\n")
    ):
        return None
    head = Head(size)
    parser = HttpRequestParser(head)
    try:
        parser.feed_data(written)
    except HttpParserUpgrade:
        pass  # what it asks for is among the headers
    except HttpParserError:
        return None
    method = parser.get_method()
    head.method = method.decode("ascii")
    # The parser takes more blanks than there may be, and what other protocols call themselves.
    first = b"%b %b HTTP/1.1\r\n" % (method, head.target)
    return head if head.complete and written.startswith(first) else None


def _measured(head: Head) -> bool:
    """Find out how long the body is; False if that is not for here to say."""
    lengths = [value for name, value in head.headers if name == b"content-length"]
    if lengths:
        text = lengths[0]
        if len(lengths) > 1 or head.method == "GET" or not text.isdigit() or len(text) > len(str(MAX_BODY)):
            return False
        head.length = int(text)
    return head.length <= MAX_BODY


class Lane(asyncio.Protocol):
    """A connection while a request is answered here; implements Wire.

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

    async def answer(self, app: App, head: Head, body: bytes, state: dict[str, Any]) -> None:
        """Serve one request. What `app` raises is for the caller."""
        scope = {
            "type": "http",
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "method": head.method,
            "scheme": "http",
            "extensions": {},
            **self._asked(head, state),
        }
        answering = app(scope, self._receive([body]), self._send)
        del head, body, scope  # a stream lives long: what only its beginning needs is let go of
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

    def at_end(self) -> bool:
        return self._at_end

    async def drain(self) -> None:
        """Return when little enough is unsent. Raises ConnectionResetError when the client is gone."""
        if self._resumed is not None:
            await self._resumed
        if self.transport.is_closing():
            raise ConnectionResetError

    def _receive(self, body: list[bytes]) -> Callable[[], Awaitable[dict[str, Any]]]:
        async def receive() -> dict[str, Any]:
            if body:
                return {"type": "http.request", "body": body.pop(), "more_body": False}
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
        if (head or data) and self._write(head + data):
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
        if self.one_way:
            self.transport.abort()  # a stream's client has nothing more to say
        elif len(self.early) > MAX_EARLY:
            self.transport.pause_reading()  # whoever sends on and on waits for the answer first

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
