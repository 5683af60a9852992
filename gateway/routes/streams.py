"""A run's stream over HTTP: server-sent events and long-polls (PROTOCOL sections 4 and 5)."""

import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, WithJsonSchema
from quart import Response, Websocket

from gateway.auth import Principal, Scope
from gateway.broker import Run
from gateway.errors import Invalid, Problem
from gateway.hub import Connection, Join, Subscription
from gateway.hub.subscription import NO_CURSOR
from gateway.routes.answers import EventPage
from gateway.routes.audit import Visit, visit_of
from gateway.routes.endpoint import Call, Endpoints, Query, refuse
from gateway.routes.polling import MAX_POLLED, poll
from gateway.routes.request import BoundedRequest
from gateway.routes.runs import STARTING, idempotency_key
from gateway.routes.services import Services
from gateway.transports import AsgiTransport, DirectTransport, Transport
from gateway.transports.direct import STATE_KEY, Wire
from gateway.wire import control
from gateway.wire.commands import Replay, Start, filter_of
from gateway.wire.control import CONTROL
from gateway.wire.cursor import Cursor, Resume, parse, split_composite
from gateway.wire.dialects import DIALECTS, NATIVE, WORKFLOW, Remembering
from gateway.wire.events import LIFECYCLE, OWN_TYPE, WORK
from gateway.wire.framing import SSE, SSE_CHUNKED, Chunked, CompositeSse, Framing

if TYPE_CHECKING:
    from gateway.routes.door import Handshake

streams = Endpoints()

MAX_RUNS = 32
_SEVERAL = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_RUNS, "uniqueItems": True}
STREAMING = ("limit.connections", "server.busy", "server.draining", "broker.unavailable")
# What has no state is shared, so that an event is encoded once for all of its kind.
_CHUNKED: dict[Framing, Framing] = {SSE: SSE_CHUNKED, WORKFLOW: Chunked(WORKFLOW)}
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
EVENT_STREAM = "text/event-stream"
CONTENT_TYPE = f"{EVENT_STREAM}; charset=utf-8"
ENDED = (204, "")  # the client has everything
_TYPE = "|".join((*map(re.escape, (*WORK, *LIFECYCLE, *CONTROL)), OWN_TYPE.pattern))


class JoinQuery(Query):
    after: str | None = None
    replay: Replay = "folded"
    types: Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^({_TYPE})?(,({_TYPE})?)*$"})] | None = None
    dialect: Annotated[str, WithJsonSchema({"type": "string", "enum": [*DIALECTS]})] | None = None
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
    # How it is written and checked: once for each run.
    run: Annotated[str, WithJsonSchema(_SEVERAL)]
    dialect: Annotated[str, WithJsonSchema({"type": "string", "enum": [NATIVE]})] | None = None


class StreamQuery(JoinQuery):
    wait: float = Field(0, ge=0, le=30)
    limit: int = Field(MAX_POLLED, ge=1, le=MAX_POLLED)


@streams.add(
    "GET", "/runs/{id}/events", "A run's events: SSE if asked for, otherwise one long-poll.", scopes=(Scope.READ,),
    joins=True, action="watch", query=StreamQuery, media=EVENT_STREAM, also=((200, "application/json"), ENDED),
    answer=EventPage, headers=("Last-Event-ID",), problems=STREAMING,
)  # fmt: skip
async def events(call: Call) -> Response:
    query = call.query(StreamQuery)
    join = query.join(call.request.headers.get("Last-Event-ID"))
    if not (wants_stream(call.request) or query.dialect is not None):
        return await poll(call, join, wait_s=query.wait, limit=query.limit)
    return stream_or_end(call, [(call.run, join)], dialect=query.dialect)


@streams.add(
    "GET", "/events", "Several runs' events over one SSE response.", scopes=(Scope.READ,), joins=True,
    action="watch", query=SeveralQuery, media=EVENT_STREAM, also=(ENDED,), headers=("Last-Event-ID",),
    problems=("run.not_found", *STREAMING),
)  # fmt: skip
async def several(call: Call) -> Response:
    asked = call.request.args.getlist("run")
    runs = [await call.services.runs.views.find(call.caller, run[:64]) for run in asked[:MAX_RUNS]]
    if not 0 < len(asked) <= MAX_RUNS or len(set(asked)) < len(asked):
        raise Invalid(detail=f"1 to {MAX_RUNS} different runs", errors=[{"path": ["run"], "message": "1 to 32"}])
    query = call.query(SeveralQuery)
    join = query.join(call.request.headers.get("Last-Event-ID"))
    if query.dialect not in (None, NATIVE):
        # The other dialects' frames do not say which run they are about.
        raise Invalid(detail="several runs are native", errors=[{"path": ["dialect"], "message": "native alone"}])
    cursors: Sequence[str | None] = [None] * len(runs)
    if join.after is not None:
        # A text that does not hold a cursor for each run is a bad cursor for each run.
        cursors = split_composite(join.after, len(runs)) or [join.after] * len(runs)
    joins = [(run, replace(join, after=after)) for run, after in zip(runs, cursors, strict=True)]
    return stream_or_end(call, joins, composite=True)


@streams.add(
    "POST", "/run/stream", "Start a run and stream it in the same response.", scopes=(Scope.START, Scope.READ),
    query=StreamQuery, body=Start, action="start", media=EVENT_STREAM, headers=("Idempotency-Key",),
    problems=(*STARTING, "key.conflict", "auth.forbidden", "limit.connections"),
)  # fmt: skip
async def start_and_stream(call: Call) -> Response:
    query = call.query(StreamQuery)
    join = query.join(None)
    body = await call.body(Start)
    call.services.hub.admit(call.bearer.subject, call.visit.address)
    run, _ = await call.services.runs.start(call.caller, body, key=idempotency_key(call))
    call.started(run)
    response = _stream(call, [(run, join)], dialect=query.dialect)
    response.headers["Location"] = f"/runs/{run.id}"
    response.headers["X-Run-Id"] = run.id
    return response


def stream_or_end(
    call: Call, joins: Sequence[tuple[Run, Join]], *, composite: bool = False, dialect: str | None = None
) -> Response:
    """The stream; 204 for a client that has everything; the head alone for HEAD."""
    if all(_at_end(run, join) for run, join in joins):
        return Response(b"", 204)
    if call.request.method == "HEAD":
        return Response(b"", 200, HEADERS, content_type=CONTENT_TYPE)
    call.services.hub.admit(call.bearer.subject, call.visit.address)
    return _stream(call, joins, composite=composite, dialect=dialect)


def wants_stream(request: BoundedRequest) -> bool:
    return EVENT_STREAM in request.headers.get("Accept", "").lower()


def _at_end(run: Run, join: Join) -> bool:
    """Whether the client has everything, so that an EventSource should stop."""
    cursor = parse(join.after) if join.after else None
    return run.status.terminal and cursor == Cursor(run.epoch, run.tail)


def transport_for(
    request: "BoundedRequest | Websocket | Handshake", services: Services, *, direct: Framing, fallback: Framing
) -> tuple[Transport, Framing]:
    """The fastest way to this client: past the HTTP layer where the server lets us, else through it."""
    limit = services.hub.limits.max_buffer_bytes
    state: dict[str, Any] = request.scope.get("state") or {}
    wire: Wire | None = state.get(STATE_KEY)
    if wire is not None and request.http_version == "1.1":
        return DirectTransport(wire, limit=limit, one_way=isinstance(request, BoundedRequest)), direct
    cut = wire.transport.abort if wire is not None else None
    return AsgiTransport(limit=limit, cut=cut), fallback


def _stream(
    call: Call, joins: Sequence[tuple[Run, Join]], *, composite: bool = False, dialect: str | None = None
) -> Response:
    plain: Framing
    if composite:
        plain = CompositeSse({run.id: _start(join) for run, join in joins})
    else:
        plain = DIALECTS[dialect or NATIVE](joins[0][1].types)
    if isinstance(plain, Remembering):
        joins = [(run, _with(join, plain.remembers)) for run, join in joins]
    chunked = _CHUNKED.get(plain) or Chunked(plain)
    transport, framing = transport_for(call.request, call.services, direct=chunked, fallback=plain)
    visit = call.visit
    visit.action, visit.run = "watch", " ".join(run.id for run, _ in joins)
    body = _frames(call.services, transport, framing, call.bearer, list(joins), plain, visit)
    response = Response(body, 200, HEADERS, content_type=CONTENT_TYPE)
    response.timeout = None  # Quart would cut the stream after a minute, in silence
    return response


def _with(join: Join, types: frozenset[str]) -> Join:
    """The join with further types, which its framing needs to see."""
    return join if join.types is None else replace(join, types=join.types | types)


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
    visit: Visit,
) -> AsyncGenerator[bytes]:
    """What goes through the ASGI server: the head's frames, and all others where there is no direct way."""
    hub = services.hub
    connection: Connection | None = None
    try:
        connection = hub.open(
            transport,
            framing,
            subject=principal.subject,
            address=visit.address,
            expires_at=principal.expires_at,
            sole=True,
            bearer=principal,
        )
        visit.connection = connection.id
        subscriptions = [await hub.subscribe(connection, run, join) for run, join in joins]
        resume: Resume | dict[str, Resume] = subscriptions[0].resume
        if isinstance(plain, CompositeSse):
            resume = {each.topic.run: each.resume for each in subscriptions}
        yield plain.control(_hello(services, connection.id, resume))
        # Asked for more: the first frame is on its way, so whatever is written now comes after it.
        transport.begin()
        await _recall(services, plain, subscriptions[0])
        for subscription in subscriptions:
            subscription.start()
        # A stream lives long: what only its beginning needed is let go of.
        joins.clear()
        del subscriptions, resume, principal
        async for chunk in transport.outlet():
            yield chunk
    except Problem as problem:
        visit.code = problem.code
        yield refusal_frames(services, problem, plain)
    finally:
        if connection is not None:
            hub.forget(connection)
        else:
            transport.finish()  # the connection may be used again


async def _recall(services: Services, framing: Framing, subscription: Subscription) -> None:
    """Tell a framing that remembers what was said before its connection. Raises Unavailable."""
    if isinstance(framing, Remembering) and subscription.cursor:
        topic = subscription.topic
        framing.recall(await services.runs.views.state(topic.run, upto=topic.tail))


def _hello(services: Services, connection: str, resume: Resume | dict[str, Resume]) -> control.Control:
    return control.hello(
        connection=connection,
        heartbeat_ms=services.hub.heartbeat_ms,
        retry_ms=services.hub.pace.retry_ms,
        resume=resume,
    )


def refusal_frames(services: Services, problem: Problem, framing: Framing) -> bytes:
    """A refusal that an EventSource should retry: it gives up for ever at any status but 200."""
    after_ms = problem.retry_after_ms or services.hub.pace.after_ms()
    hello = _hello(services, "refused", Resume.START)
    return framing.control(hello) + framing.control(control.reconnect(after_ms=after_ms, reason=problem.code))


async def refuse_call(
    problem: Problem, services: Services, request: BoundedRequest, *, dialect: str | None = None
) -> Response:
    """problem+json, or a short stream for a retryable refusal of an event stream. `dialect`: that of the address."""
    visit = visit_of(request)
    problem = visit.refusal or problem  # who was refused before it was read hears that, whatever else is wrong
    visit.code = problem.code
    if problem.status in (429, 503) and wants_stream(request):
        framing = DIALECTS.get(request.args.get("dialect") or dialect or NATIVE, DIALECTS[NATIVE])(None)
        return Response(refusal_frames(services, problem, framing), 200, HEADERS, content_type=CONTENT_TYPE)
    return await refuse(problem, request)
