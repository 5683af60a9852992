"""Addresses beside the runs: tickets, pipelines, health, schemas, documentation, the console."""

import mimetypes
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import Field, RootModel
from quart import Response

from gateway import __version__
from gateway.auth import Scope
from gateway.auth.tokens import MAX_TOKEN_BYTES
from gateway.errors import NotFound, Unauthorized, Unavailable
from gateway.routes import answers, openapi
from gateway.routes.endpoint import Body, Call, Endpoints, presented, reply
from gateway.wire import json
from gateway.wire.schema import schema

meta = Endpoints()

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# What proxies write into requests; a browser on this machine writes none of it.
_FORWARDED = (
    "forwarded", "x-forwarded", "x-real-", "x-client-", "x-original-", "x-envoy-", "x-amzn-", "via", "cf-",
    "true-client-",
)  # fmt: skip


class TicketBody(Body):
    runs: list[Annotated[str, Field(max_length=64)]] | None = Field(None, max_length=100)


@meta.add(
    "POST",
    "/tickets",
    "A ticket for opening a stream where no header can be set.",
    body=TicketBody,
    answer=answers.TicketMade,
    status=201,
    action="ticket",
)
async def ticket(call: Call) -> Response:
    body = await call.body(TicketBody)
    runs = frozenset(body.runs) if body.runs is not None else None
    issued, life_s = call.services.tickets.issue(call.bearer, runs)
    return reply({"ticket": issued, "expires_in": life_s}, 201)


class OneToken(Body):
    jti: str = Field(min_length=1, max_length=MAX_TOKEN_BYTES)


class AllTokens(Body):
    sub: str = Field(min_length=1, max_length=255)


class RevocationBody(RootModel[OneToken | AllTokens]):
    """Either one token, or all of a subject's."""


@meta.add(
    "POST", "/revocations", "Take back a token, or all of a subject's that were issued up to now.",
    scopes=(Scope.ADMIN,), body=RevocationBody, status=204, action="revoke", problems=("broker.unavailable",),
)  # fmt: skip
async def revoke(call: Call) -> Response:
    body = (await call.body(RevocationBody)).root
    try:
        if isinstance(body, OneToken):
            await call.services.revocations.revoke(token_id=body.jti)
        else:
            await call.services.revocations.revoke(subject=body.sub)
    finally:
        # It counts now, whether or not it could be kept.
        await call.services.hub.review()
    return Response(b"", 204)


@meta.add("GET", "/pipelines", "What can be started, with input and result schemas.", answer=answers.PipelineList)
async def pipelines(call: Call) -> Response:
    return reply(
        {
            "pipelines": [
                {
                    "name": pipeline.name,
                    "description": pipeline.description,
                    "input_schema": pipeline.input_schema(),
                    "result_schema": pipeline.result_schema(),
                }
                for pipeline in call.services.pipelines
            ]
            + [EXTERNAL_PIPELINE]
        }
    )


EXTERNAL_PIPELINE = {
    "name": "external",
    "description": "A run without code here: its events come by POST /runs/{id}/events.",
    "input_schema": {},
    "result_schema": {},
}


@meta.add("GET", "/healthz", "Whether the process lives.", answer=answers.Health, public=True)
async def healthz(call: Call) -> Response:
    return reply({"status": "ok", "version": __version__})


@meta.add(
    "GET", "/readyz", "Whether new work is welcome.", answer=answers.Readiness, public=True,
    problems=("server.draining",),
)  # fmt: skip
async def readyz(call: Call) -> Response:
    if call.services.hub.draining:
        raise Unavailable("server.draining")
    if not call.services.broker.available:
        raise Unavailable("broker.unavailable")
    return reply({"status": "ready"})


@meta.add(
    "GET", "/metrics", "Counts and measures, as Prometheus reads them.", public=True, media="text/plain",
    problems=("not_found", "auth.missing", "auth.forbidden"),
)  # fmt: skip
async def metrics(call: Call) -> Response:
    services, shown_to = call.services, call.services.metrics_for
    if shown_to == "off":
        raise NotFound("not_found")
    if not (shown_to == "open" or (shown_to == "local" and _from_this_machine(call))):
        principal = await services.authenticator.identify(presented(call.request, services, joins=False))
        if principal is None:
            raise Unauthorized("auth.missing")
        principal.require(Scope.ADMIN)
    return Response(await services.metrics(), 200, {"Cache-Control": "no-store"}, content_type=METRICS_TYPE)


@cache
def _event_schema() -> bytes:
    return json.dumps(schema())


@meta.add("GET", "/schema/events.json", "JSON Schema of every event.", answer=answers.Document, public=True)
async def event_schema(call: Call) -> Response:
    return reply(_event_schema())


@meta.add("GET", "/openapi.json", "This API as OpenAPI 3.1.", answer=answers.Document, public=True)
async def openapi_document(call: Call) -> Response:
    return reply(openapi.document(call.services.endpoints))


@meta.add("GET", "/docs", "This API to read.", public=True, media="text/html")
async def docs(call: Call) -> Response:
    return Response(openapi.page(call.services.endpoints), 200, PAGE_HEADERS, content_type="text/html; charset=utf-8")


@meta.add("GET", "/", "The console.", public=True, media="text/html")
async def console(call: Call) -> Response:
    return _file(call.services.console, "index.html")


@meta.add(
    "GET", "/console/token", "A token for the console, in development only.", answer=answers.TokenMade, public=True,
    problems=("not_found",),
)  # fmt: skip
async def console_token(call: Call) -> Response:
    make = call.services.console_token
    if make is None or not _from_this_page(call):
        raise NotFound("not_found")
    token, life_s = make()
    return reply({"token": token, "expires_in": life_s})


@meta.add(
    "GET", "/console/{file}", "The console's parts.", public=True, media="text/html",
    also=((200, "text/css"), (200, "text/javascript"), (200, "image/svg+xml")), problems=("not_found",),
)  # fmt: skip
async def console_file(call: Call) -> Response:
    return _file(call.services.console, call.file)


@meta.add("GET", "/js/{file}", "The JavaScript client.", public=True, media="text/javascript", problems=("not_found",))
async def js_file(call: Call) -> Response:
    return _file(call.services.js, call.file)


@meta.add(
    "GET", "/js/elements/{file}", "Web components on top of it.", public=True, media="text/javascript",
    problems=("not_found",),
)  # fmt: skip
async def elements_file(call: Call) -> Response:
    return _file(call.services.js / "elements", call.file)


@meta.add(
    "GET", "/js/elements/pictures/{file}", "Pictures of runs.", public=True, media="text/javascript",
    problems=("not_found",),
)  # fmt: skip
async def pictures_file(call: Call) -> Response:
    return _file(call.services.js / "elements" / "pictures", call.file)


def _file(folder: Path, name: str) -> Response:
    # One plain name, so nothing outside the folder can be meant.
    path = folder / name
    if "/" in name or "\\" in name or name.startswith(".") or len(name) > 100 or not path.is_file():
        raise NotFound("not_found")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return Response(path.read_bytes(), 200, PAGE_HEADERS, content_type=kind)


def _from_this_page(call: Call) -> bool:
    """Whether the console itself asks, on this machine, with nobody in between (PROTOCOL section 7)."""
    headers = call.request.headers
    return (
        _from_this_machine(call)
        and headers.get("Sec-Fetch-Site") == "same-origin"
        # Every browser says so to whoever it is connected to; a proxy that hides itself does not pass it on.
        and "keep-alive" in headers.get("Connection", "").lower()
    )


def _from_this_machine(call: Call) -> bool:
    """Whether peer and `Host` are loopback, and nothing was forwarded.

    A proxy on this machine that hides itself would pass; HTTP/1.0, which no browser speaks, gives away the commonest.
    """
    headers = call.request.headers
    client = call.request.scope.get("client")
    host = headers.get("Host", "").lower().rsplit(":", 1)[0].strip("[]")
    return (
        client is not None
        and ip_address(client[0]).is_loopback
        and call.request.http_version != "1.0"
        and (host == "localhost" or _is_loopback(host))
        and not any(name.lower().startswith(_FORWARDED) for name, _ in headers)
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
