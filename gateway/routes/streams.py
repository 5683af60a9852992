"""A run's stream over HTTP: server-sent events and long-polls (PROTOCOL sections 4 and 5)."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field
from quart import Response, Websocket

from gateway.auth import Principal, Scope
from gateway.broker import Run
from gateway.errors import Invalid, Problem
from gateway.hub import Connection, Join
from gateway.routes.endpoint import Call, Endpoints, Query, refuse
from gateway.routes.polling import MAX_POLLED, poll
from gateway.routes.request import BoundedRequest
from gateway.routes.runs import STARTING, idempotency_key
from gateway.routes.services import Services
from gateway.transports import AsgiTransport, DirectTransport, Transport
from gateway.transports.direct import STATE_KEY, Wire
from gateway.wire import control
from gateway.wire.commands import Replay, Start, filter_of
from gateway.wire.cursor import Cursor, Resume, parse, split_composite
from gateway.wire.framing import SSE, SSE_CHUNKED, Chunked, CompositeSse, Framing

if TYPE_CHECKING:
    from gateway.routes.door import PlainSocket

streams = Endpoints()

MAX_RUNS = 32
NO_CURSOR = "0"
DIALECTS = {"native": SSE}
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
CONTENT_TYPE = "text/event-stream; charset=utf-8"


class JoinQuery(Query):
    after: str | None = None
    replay: Replay = "folded"
    types: str | None = None
    dialect: str | None = None
    ticket: str | None = None

    def join(self, last_event_id: str | None) -> Join:
        """Raises Invalid."""
        if self.dialect is not None and self.dialect not in DIALECTS:
            raise Invalid(
                detail=f"{self.dialect[:40]!r} is not a dialect", errors=[{"path": ["dialect"], "message": "unknown"}]
            )
        types = filter_of([type for type in self.types.split(",") if type]) if self.types is not None else None
        return Join(after=last_event_id or self.after, replay=self.replay, types=types)


class SeveralQuery(JoinQuery):
    run: str = Field(description="once for each run")


class StreamQuery(JoinQuery):
    wait: float = Field(0, ge=0, le=30)
    limit: int = Field(MAX_POLLED, ge=1, le=MAX_POLLED)


@streams.add(
    "GET", "/runs/{id}/events", "A run's events: SSE if asked for, otherwise one long-poll.", scopes=(Scope.READ,),
    joins=True, query=StreamQuery, media="text/event-stream",
    problems=("limit.connections", "server.busy", "server.draining", "broker.unavailable"),
)  # fmt: skip
async def events(call: Call) -> Response:
    query = call.query(StreamQuery)
    join = query.join(call.request.headers.get("Last-Event-ID"))
    if not (wants_stream(call.request) or query.dialect is not None):
        return await poll(call, join, wait_s=query.wait, limit=query.limit)
    return _stream_or_end(call, [(call.run, join)])


@streams.add(
    "GET", "/events", "Several runs' events over one SSE response.", scopes=(Scope.READ,), joins=True,
    query=SeveralQuery, media="text/event-stream",
    problems=("run.not_found", "limit.connections", "server.busy", "server.draining", "broker.unavailable"),
)  # fmt: skip
async def several(call: Call) -> Response:
    asked = call.request.args.getlist("run")
    runs = [await call.services.runs.views.find(call.caller, run[:64]) for run in asked[:MAX_RUNS]]
    if not 0 < len(asked) <= MAX_RUNS or len(set(asked)) < len(asked):
        raise Invalid(detail=f"1 to {MAX_RUNS} different runs", errors=[{"path": ["run"], "message": "1 to 32"}])
    query = call.query(SeveralQuery)
    join = query.join(call.request.headers.get("Last-Event-ID"))
    cursors: Sequence[str | None] = [None] * len(runs)
    if join.after is not None:
        # A text that does not hold a cursor for each run is a bad cursor for each run.
        cursors = split_composite(join.after, len(runs)) or [join.after] * len(runs)
    joins = [(run, replace(join, after=after)) for run, after in zip(runs, cursors, strict=True)]
    return _stream_or_end(call, joins, composite=True)


@streams.add(
    "POST", "/run/stream", "Start a run and stream it in the same response.", scopes=(Scope.START, Scope.READ),
    body=Start, media="text/event-stream", problems=(*STARTING, "key.conflict"),
)  # fmt: skip
async def start_and_stream(call: Call) -> Response:
    query = call.query(StreamQuery)
    join = query.join(None)
    body = await call.body(Start)
    call.services.hub.admit(call.bearer.subject)
    run, _ = await call.services.runs.start(call.caller, body, key=idempotency_key(call))
    response = _stream(call.services, call.request, call.bearer, [(run, join)])
    response.headers["Location"] = f"/runs/{run.id}"
    response.headers["X-Run-Id"] = run.id
    return response


def _stream_or_end(call: Call, joins: Sequence[tuple[Run, Join]], *, composite: bool = False) -> Response:
    """The stream; 204 for a client that has everything; the head alone for HEAD."""
    if all(_at_end(run, join) for run, join in joins):
        return Response(b"", 204)
    if call.request.method == "HEAD":
        return Response(b"", 200, HEADERS, content_type=CONTENT_TYPE)
    call.services.hub.admit(call.bearer.subject)
    return _stream(call.services, call.request, call.bearer, joins, composite=composite)


def wants_stream(request: BoundedRequest) -> bool:
    return "text/event-stream" in request.headers.get("Accept", "").lower()


def _at_end(run: Run, join: Join) -> bool:
    """Whether the client has everything, so that an EventSource should stop."""
    cursor = parse(join.after) if join.after else None
    return run.status.terminal and cursor == Cursor(run.epoch, run.tail)


def transport_for(
    request: "BoundedRequest | Websocket | PlainSocket", services: Services, *, direct: Framing, fallback: Framing
) -> tuple[Transport, Framing]:
    """The fastest way to this client: past the HTTP layer where the server lets us, else through it."""
    limit = services.hub.limits.max_buffer_bytes
    state: dict[str, Any] = request.scope.get("state") or {}
    wire: Wire | None = state.get(STATE_KEY)
    if wire is not None and request.http_version == "1.1":
        return DirectTransport(wire, limit=limit, one_way=isinstance(request, BoundedRequest)), direct
    cut = wire.writer.transport.abort if wire is not None else None
    return AsgiTransport(limit=limit, cut=cut), fallback


def _stream(
    services: Services,
    request: BoundedRequest,
    principal: Principal,
    joins: Sequence[tuple[Run, Join]],
    *,
    composite: bool = False,
) -> Response:
    plain: Framing = CompositeSse({run.id: _start(join) for run, join in joins}) if composite else SSE
    chunked = SSE_CHUNKED if plain is SSE else Chunked(plain)
    transport, framing = transport_for(request, services, direct=chunked, fallback=plain)
    body = _frames(services, transport, framing, principal, list(joins), plain)
    response = Response(body, 200, HEADERS, content_type=CONTENT_TYPE)
    response.timeout = None  # Quart would cut the stream after a minute, in silence
    return response


def _start(join: Join) -> str:
    """A run's part of a composite cursor before its first event."""
    return join.after if join.after and parse(join.after) else NO_CURSOR


async def _frames(
    services: Services,
    transport: Transport,
    framing: Framing,
    principal: Principal,
    joins: list[tuple[Run, Join]],
    plain: Framing,
) -> AsyncGenerator[bytes]:
    """What goes through the ASGI server: the head's frames, and all others where there is no direct way."""
    hub = services.hub
    connection: Connection | None = None
    try:
        connection = hub.open(transport, framing, subject=principal.subject, expires_at=principal.expires_at, sole=True)
        subscriptions = [await hub.subscribe(connection, run, join) for run, join in joins]
        resume: Resume | dict[str, Resume] = subscriptions[0].resume
        if isinstance(plain, CompositeSse):
            resume = {each.topic.run: each.resume for each in subscriptions}
        yield SSE.control(_hello(services, connection.id, resume))
        # Asked for more: the first frame is on its way, so whatever is written now comes after it.
        for subscription in subscriptions:
            subscription.start()
        # A stream lives long: what only its beginning needed is let go of.
        joins.clear()
        del subscriptions, resume, principal
        async for chunk in transport.outlet():
            yield chunk
    except Problem as problem:
        yield refusal_frames(services, problem)
    finally:
        if connection is not None:
            hub.forget(connection)


def _hello(services: Services, connection: str, resume: Resume | dict[str, Resume]) -> control.Control:
    return control.hello(
        connection=connection,
        heartbeat_ms=services.hub.heartbeat_ms,
        retry_ms=services.hub.pace.retry_ms,
        resume=resume,
    )


def refusal_frames(services: Services, problem: Problem) -> bytes:
    """A refusal that an EventSource should retry: it gives up for ever at any status but 200."""
    after_ms = problem.retry_after_ms or services.hub.pace.after_ms()
    hello = _hello(services, "refused", Resume.START)
    return SSE.control(hello) + SSE.control(control.reconnect(after_ms=after_ms, reason=problem.code))


async def refuse_call(problem: Problem, services: Services, request: BoundedRequest) -> Response:
    """problem+json, or a short stream for a retryable refusal of an event stream."""
    if problem.status in (429, 503) and wants_stream(request):
        return Response(refusal_frames(services, problem), 200, HEADERS, content_type=CONTENT_TYPE)
    return await refuse(problem, request)
