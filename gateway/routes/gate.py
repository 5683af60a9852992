"""What every request passes before anything looks at it, and every response on its way out.

Rule 1: it stands at the ASGI level, in front of Quart and of the join door, so no answer goes by it: whatever refuses,
the same headers go out and the same words stand in the audit.
Rule 2: refusing is cheaper than serving. An address that asks too often is refused before its request is read.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from quart import Response

from gateway.errors import Forbidden, Problem
from gateway.routes.audit import VISIT, Audit, Visit, request_id
from gateway.routes.door import BODY_HEADERS, App, Receive, Scope, Send, bodiless, expression, send_response
from gateway.routes.endpoint import refuse
from gateway.routes.services import Services
from gateway.routes.streams import refuse_call

Headers = list[tuple[bytes, bytes]]

# A probe that is refused would take a healthy gateway out of service.
UNCOUNTED = frozenset({"/healthz", "/readyz", "/metrics"})
NOWHERE = "/*"  # where nothing is, nor can be
_POLICY = b"content-security-policy"
# Pages bring a policy of their own; nothing else is a page.
NO_PAGE = (_POLICY, b"default-src 'none'; frame-ancestors 'none'")
ALWAYS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"vary", b"Origin"),
]
EXPOSED = b"Location, X-Run-Id, Retry-After, X-Request-Id"
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Producer,"
    " X-Request-Id",
    "Access-Control-Max-Age": "600",
}
# As a client writes to a proxy, and may write to any server; a user's name is part of no such address.
_ABSOLUTE = re.compile(rb"https?://([^/@]+)(/.*)?", re.IGNORECASE)
_STARTS = frozenset({"http.response.start", "websocket.http.response.start"})


class Gate:
    """ASGI middleware. `app` is everything that answers."""

    def __init__(self, app: App, services: Services) -> None:
        self._app = app
        self._services = services
        self._dialects = [(expression(each.path), each.dialect) for each in services.endpoints if each.dialect]
        self._credentials: Headers = [(b"access-control-allow-credentials", b"true")] if services.cookie else []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if not scope["path"].startswith("/"):
            scope = _origin_form(scope)
        if scope["path"].startswith("//"):
            scope = {**scope, "path": NOWHERE}  # werkzeug would take it for the address with one
        headers = dict(scope["headers"])
        client = scope.get("client")
        visit = scope[VISIT] = Visit(
            request=request_id(headers.get(b"x-request-id")),
            address=self._services.addresses.of(client[0] if client else None, scope["headers"]),
            method=scope.get("method", "GET"),
            path=scope["path"],
        )
        out = Outgoing(visit, send, self._services.audit, self._shared(headers.get(b"origin")))
        try:
            answer = await self._admit(scope, headers, visit)
            if answer is None:
                answering = self._app(scope, receive, out.send)
            else:
                kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
                answering = send_response(answer, out.send, prefix=kind)
            del scope, headers, answer  # a stream lives long: what only its beginning needs is let go of
            await answering
        finally:
            self._services.audit.write(visit)  # also of one whose client did not wait

    async def _admit(self, scope: Scope, headers: dict[bytes, bytes], visit: Visit) -> Response | None:
        """The answer, where none is needed from anything behind."""
        try:
            if scope["path"] not in UNCOUNTED:
                self._services.rates.address(visit.address)
            if scope.get("method") == "OPTIONS" and b"access-control-request-method" in headers:
                return self._preflight(headers.get(b"origin", b""))
        except Problem as problem:
            visit.code = problem.code
            if scope["type"] == "websocket" or BODY_HEADERS.isdisjoint(headers):
                return await self._refusal(scope, problem)
            visit.refusal = problem  # told once its body has come in
        return None

    def _shared(self, origin: bytes | None) -> Headers:
        """What lets a page of another origin read the answer (the Fetch standard, CORS protocol)."""
        if origin is None or not self._services.authenticator.allows(origin.decode("latin1")):
            return []
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
            *self._credentials,
        ]

    def _preflight(self, origin: bytes) -> Response:
        """A browser asks on behalf of a page. Raises Forbidden for a page of an origin that is not allowed."""
        if not self._services.authenticator.allows(origin.decode("latin1")):
            raise Forbidden(detail="pages of this origin may not call")
        return Response(b"", 204, PREFLIGHT)

    async def _refusal(self, scope: Scope, problem: Problem) -> Response:
        """Without reading anything: a problem document, or a short stream for who would give up at one."""
        if scope["type"] == "websocket":
            return await refuse(problem, None)
        dialect = next((dialect for path, dialect in self._dialects if path.fullmatch(scope["path"])), None)
        return await refuse_call(problem, self._services, bodiless(scope), dialect=dialect)


def _origin_form(scope: Scope) -> Scope:
    """A request for a whole address as one for its path; its host is the request's (RFC 9112, section 3.2.2)."""
    absolute = _ABSOLUTE.fullmatch(scope.get("raw_path") or b"")
    if absolute is None:
        return {**scope, "path": NOWHERE}  # no address at all
    host, path = absolute[1], absolute[2] or b"/"
    others = [header for header in scope["headers"] if header[0] != b"host"]
    return {**scope, "path": unquote(path.decode("ascii")), "raw_path": path, "headers": [(b"host", host), *others]}


class Outgoing:
    """A response on its way out: gets the headers that all have, and is told in the audit as it begins."""

    __slots__ = ("_audit", "_send", "_shared", "visit")

    def __init__(self, visit: Visit, send: Send, audit: Audit, shared: Headers) -> None:
        self.visit = visit
        self._send = send
        self._audit = audit
        self._shared = shared

    async def send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind in _STARTS:
            self._audit.answers[message["status"]] += 1
            message = {**message, "headers": self._complete(message["status"], message["headers"])}
        elif kind == "websocket.accept":
            message = {**message, "headers": [*message.get("headers", ()), self._named()]}
        elif self.visit.action or self.visit.code:
            self._audit.write(self.visit)
        await self._send(message)

    def _complete(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> Headers:
        # What cannot have a body has no length of one (RFC 9110, section 8.6).
        told = [header for header in headers if status != HTTPStatus.NO_CONTENT or header[0] != b"content-length"]
        whole = [*told, *ALWAYS, *self._shared, self._named()]
        if not any(name == _POLICY for name, _ in headers):
            whole.append(NO_PAGE)
        return whole

    def _named(self) -> tuple[bytes, bytes]:
        return b"x-request-id", self.visit.request.encode()
