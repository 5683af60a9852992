"""The join door: streams and sockets straight from ASGI, for as long as they live.

Quart's request path costs a connection three tasks and its contexts, and a stream keeps them all its life. Here it
costs one task. What is answered comes from the same functions as on the Quart routes, which stand beside it and serve
every client and server that has no direct way.

Rule 1: this door opens and carries; it decides nothing. Checks, refusals and streams are those of `Endpoint`s.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

from quart import Response
from quart.utils import encode_headers
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


class JoinDoor:
    """ASGI middleware: takes what opens a stream on a direct connection, and leaves the rest to `app`."""

    def __init__(self, app: App, services: Services, endpoints: tuple[Endpoint, ...]) -> None:
        self._app = app
        self._services = services
        self._joins = [(_expression(endpoint.path), endpoint) for endpoint in endpoints if endpoint.joins]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and STATE_KEY in (scope.get("state") or {}):
            if scope["type"] == "websocket" and scope["path"] == "/ws":
                carrying = self._socket(scope, receive, send)
                del scope  # as in the gate
                await carrying
                return
            if scope["type"] == "http" and scope["http_version"] == "1.1" and _asks_for_stream(scope):
                for path, endpoint in self._joins:
                    if match := path.fullmatch(scope["path"]):
                        carrying = self._stream(endpoint, match.groupdict().get("id"), scope, send)
                        del scope, path, match
                        await carrying
                        return
        await self._app(scope, receive, send)

    async def _stream(self, endpoint: Endpoint, run: str | None, scope: Scope, send: Send) -> None:
        visit = visit_of(request := bodiless(scope))
        answering = respond(endpoint, self._services, request, run=run)
        del request, scope
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
    request = BoundedRequest(
        scope["method"],
        scope["scheme"],
        scope["path"],
        scope["query_string"],
        _headers(scope),
        scope.get("root_path", ""),
        scope["http_version"],
        max_content_length=0,
        scope=cast("Any", scope),
        send_push_promise=_push_nothing,
    )
    request.body.set_complete()
    return request


def _expression(path: str) -> re.Pattern[str]:
    """What an address with `{free}` parts looks like."""
    parts = re.split(r"({\w+})", path)
    return re.compile("".join(f"(?P<{p[1:-1]}>[^/]+)" if p.startswith("{") else re.escape(p) for p in parts))


def _asks_for_stream(scope: Scope) -> bool:
    """A plain GET that names the media type. One with a body takes the longer way, where it is bounded."""
    if scope["method"] != "GET":
        return False
    names = dict(scope["headers"])
    return b"text/event-stream" in names.get(b"accept", b"").lower() and BODY_HEADERS.isdisjoint(names)


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
    async with chunks as body:
        async for chunk in body:
            await send({"type": f"{prefix}.body", "body": chunk, "more_body": True})
    await send({"type": f"{prefix}.body", "body": b"", "more_body": False})
