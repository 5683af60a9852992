"""The short door: streams, sockets and what publishers say, straight from ASGI.

Quart's request path costs a connection three tasks and its contexts, and a stream keeps them all its life; for a
publisher it is most of what an event costs. Here it costs one task. What is answered comes from the same functions as
on the Quart routes, which stand beside it and serve every client and server that has no direct way.

Rule 1: this door opens and carries; it decides nothing. Checks, refusals and streams are those of `Endpoint`s.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from quart import Response
from quart.utils import encode_headers
from quart.wrappers.response import DataBody
from werkzeug.datastructures import Headers
from werkzeug.sansio.request import Request

from gateway.routes.audit import visit_of
from gateway.routes.endpoint import Endpoint, incident
from gateway.routes.request import BoundedRequest
from gateway.routes.respond import respond
from gateway.routes.services import Services
from gateway.routes.socket import Socket
from gateway.transports.direct import STATE_KEY

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})


class Door:
    """ASGI middleware: takes streams and what is asked often on a direct connection; leaves the rest to `app`."""

    def __init__(self, app: App, services: Services, endpoints: tuple[Endpoint, ...]) -> None:
        self._app = app
        self._services = services
        direct = [(expression(endpoint.path), endpoint) for endpoint in endpoints if endpoint.joins or endpoint.busy]
        self._gets = [(path, endpoint) for path, endpoint in direct if endpoint.method == "GET"]
        self._posts = [(path, endpoint) for path, endpoint in direct if endpoint.method == "POST"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and STATE_KEY in (scope.get("state") or {}):
            if scope["type"] == "websocket" and scope["path"] == "/ws":
                carrying = self._socket(scope, receive, send)
                del scope  # as in the gate
                await carrying
                return
            for path, endpoint in self._served(scope):
                if match := path.fullmatch(scope["path"]):
                    carrying = self._answer(endpoint, match.groupdict().get("id"), scope, receive, send)
                    del scope, path, match
                    await carrying
                    return
        await self._app(scope, receive, send)

    def _served(self, scope: Scope) -> Sequence[tuple[re.Pattern[str], Endpoint]]:
        if scope["type"] != "http" or scope["http_version"] != "1.1":
            return ()
        names = dict(scope["headers"])
        if scope["method"] == "GET":
            return self._gets if _asks_for_stream(names) else ()
        if scope["method"] == "POST":
            return self._posts if _announces(names, at_most=self._services.max_body_bytes) else ()
        return ()

    async def _answer(self, endpoint: Endpoint, run: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        posted = endpoint.method == "POST"
        request = await received(scope, receive, at_most=self._services.max_body_bytes) if posted else bodiless(scope)
        if request is None:
            return
        visit = visit_of(request)
        answering = respond(endpoint, self._services, request, run=run)
        del request, scope, receive  # a stream lives long: what only its beginning needs is let go of
        try:
            await send_response(await answering, send, prefix="http.response")
        except OSError:
            pass  # the client went away
        except Exception as error:  # noqa: BLE001 - the head is out: all that can be done is to say it in the log
            incident(error, visit)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        handshake = Handshake(scope)
        serving = Socket(self._services, PlainSocket(receive, send), visit_of(handshake)).serve(handshake)
        del handshake, scope
        refusal = await serving
        if refusal is not None:
            await send_response(refusal, send, prefix="websocket.http.response")


class Handshake(Request):
    """What a WebSocket was asked for with, by the names of Quart's that `Socket` uses."""

    def __init__(self, scope: Scope) -> None:
        super().__init__("GET", scope["scheme"], None, "", scope["path"], scope["query_string"], _headers(scope), None)
        self.scope = scope
        self.http_version: str = scope["http_version"]
        self.requested_subprotocols: list[str] = scope.get("subprotocols", [])


class PlainSocket:
    """A WebSocket's frames, with the methods of Quart's that `Socket` uses."""

    __slots__ = ("_gone", "_receive", "_send")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._gone = False

    async def accept(self, *, subprotocol: str | None = None) -> None:
        await self._receive()  # websocket.connect
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})

    async def receive(self) -> str | bytes:
        """The next frame. Raises ConnectionResetError when the client is gone."""
        # The server says once that a client is gone; whoever asks again would wait for ever.
        message = {"type": "websocket.disconnect"} if self._gone else await self._receive()
        if message["type"] != "websocket.receive":
            self._gone = True
            raise ConnectionResetError
        data: str | bytes = message["text"] if message.get("text") is not None else message["bytes"]
        return data

    async def send(self, data: str) -> None:
        await self._send({"type": "websocket.send", "text": data, "bytes": None})

    async def close(self, code: int, reason: str = "") -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})


def bodiless(scope: Scope) -> BoundedRequest:
    """A request without a body, as Quart would make it."""
    request = _request(scope, max_body_bytes=0)
    request.body.set_complete()
    return request


async def received(scope: Scope, receive: Receive, *, at_most: int) -> BoundedRequest | None:
    """A request with the whole of its body, as Quart would make it; None when the client left before the end."""
    request = _request(scope, max_body_bytes=at_most)
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        request.body.append(message["body"])
        more = message["more_body"]
    request.body.set_complete()
    return request


def _request(scope: Scope, *, max_body_bytes: int) -> BoundedRequest:
    return BoundedRequest(
        scope["method"],
        scope["scheme"],
        scope["path"],
        scope["query_string"],
        _headers(scope),
        scope.get("root_path", ""),
        scope["http_version"],
        max_content_length=max_body_bytes,
        scope=cast("Any", scope),
        send_push_promise=_push_nothing,
    )


def expression(path: str) -> re.Pattern[str]:
    """What an address with `{free}` parts looks like."""
    parts = re.split(r"({\w+})", path)
    return re.compile("".join(f"(?P<{p[1:-1]}>[^/]+)" if p.startswith("{") else re.escape(p) for p in parts))


def _asks_for_stream(headers: Mapping[bytes, bytes]) -> bool:
    """A plain GET that names the media type. One with a body takes the longer way, where it is bounded."""
    return b"text/event-stream" in headers.get(b"accept", b"").lower() and BODY_HEADERS.isdisjoint(headers)


def _announces(headers: Mapping[bytes, bytes], *, at_most: int) -> bool:
    """Whether a body says how long it is. One that is too long takes the longer way, where its end is waited for."""
    length = headers.get(b"content-length", b"")
    return b"transfer-encoding" not in headers and 0 < len(length) < 16 and length.isdigit() and int(length) <= at_most


def _headers(scope: Scope) -> Headers:
    return Headers([(name.decode("latin1").title(), value.decode("latin1")) for name, value in scope["headers"]])


async def _push_nothing(path: str, headers: Headers) -> None:
    """HTTP/2 push is not offered."""


async def send_response(response: Response, send: Send, *, prefix: str) -> None:
    start = {"type": f"{prefix}.start", "status": response.status_code, "headers": encode_headers(response.headers)}
    chunks = response.response
    del response
    await send(start)
    del start
    if isinstance(chunks, DataBody):
        await send({"type": f"{prefix}.body", "body": chunks.data, "more_body": False})
        return
    async with chunks as body:
        async for chunk in body:
            await send({"type": f"{prefix}.body", "body": chunk, "more_body": True})
    await send({"type": f"{prefix}.body", "body": b"", "more_body": False})
