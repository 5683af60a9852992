"""Runs over HTTP (PROTOCOL section 4)."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field
from quart import Response

from gateway.auth import Scope
from gateway.broker import Page
from gateway.errors import Forbidden, Invalid, Unauthorized
from gateway.routes import answers
from gateway.routes.endpoint import Body, Call, Endpoints, Query, reply
from gateway.runs import parse_producer, parse_published
from gateway.wire.commands import Start
from gateway.wire.events import Failure
from gateway.wire.status import Status

runs = Endpoints()
T = TypeVar("T")

LOOKS_S = 0.5
STARTING = ("pipeline.unknown", "input.invalid", "limit.runs", "server.draining", "broker.unavailable")


class ListQuery(Query):
    status: Status | None = None
    pipeline: Annotated[str, Field(max_length=64)] | None = None
    limit: int = Field(50, ge=1, le=200)
    before: Annotated[str, Field(max_length=64)] | None = None


class CancelBody(Body):
    reason: Annotated[str, Field(max_length=500)] | None = None


class InputBody(Body):
    input_id: str = Field(max_length=64)
    value: Any


class FinishBody(Body):
    status: Literal["completed", "failed", "cancelled"]
    result: Any = None
    error: Failure | None = None


@runs.add(
    "POST", "/runs", "Start a run.", answer=answers.Started, scopes=(Scope.START,),
    action="start", body=Start, status=201, also=((200, "application/json"),), headers=("Idempotency-Key",),
    problems=(*STARTING, "key.conflict", "auth.forbidden"),
)  # fmt: skip
async def start(call: Call) -> Response:
    run, created = await call.services.runs.start(call.caller, await call.body(Start), key=idempotency_key(call))
    call.started(run)
    return reply(_links(run.id, run.pipeline, run.status), 201 if created else 200, {"Location": f"/runs/{run.id}"})


@runs.add(
    "POST", "/run", "Start a run and wait for its result.", scopes=(Scope.START, Scope.READ),
    answer=answers.RunDescribed, action="start", body=Start, headers=("Idempotency-Key",),
    problems=(*STARTING, "run.failed", "run.cancelled", "key.conflict", "auth.forbidden"),
)  # fmt: skip
async def start_and_wait(call: Call) -> Response:
    run, _ = await call.services.runs.start(call.caller, await call.body(Start), key=idempotency_key(call))
    call.started(run)
    outcome = await _while_good(call, call.services.runs.views.outcome(run))
    return reply(outcome, headers={"Location": f"/runs/{run.id}", "X-Run-Id": run.id})


@runs.add("GET", "/runs", "List runs, newest first.", answer=answers.RunPage, scopes=(Scope.READ,), query=ListQuery)
async def list_runs(call: Call) -> Response:
    query = call.query(ListQuery)
    page = Page(call.caller.visible, query.status, query.pipeline, query.before, query.limit)
    found, following = await call.services.runs.views.page(page)
    return reply({"runs": found, "next": following})


@runs.add("GET", "/runs/{id}", "A run's folded state.", answer=answers.RunDescribed, scopes=(Scope.READ,))
async def describe(call: Call) -> Response:
    return reply(await call.services.runs.views.describe(call.run))


@runs.add(
    "DELETE", "/runs/{id}", "Erase a finished run and its events.", scopes=(Scope.CONTROL,),
    action="delete", status=204, problems=("run.active",),
)  # fmt: skip
async def erase(call: Call) -> Response:
    await call.services.runs.erase(call.run)
    return Response(b"", 204)


@runs.add(
    "POST", "/runs/{id}/cancel", "Ask for a run's end. Idempotent.", answer=answers.CancelAsked, scopes=(Scope.CANCEL,),
    action="cancel", body=CancelBody, status=202, also=((200, "application/json"),),
)  # fmt: skip
async def cancel(call: Call) -> Response:
    body = await call.body(CancelBody)
    outcome = await call.services.runs.cancel(call.caller, call.run, body.reason)
    return reply(outcome.fields(), 202 if outcome.final is None else 200)


@runs.add(
    "POST", "/runs/{id}/pause", "Hold a run at its next checkpoint.", answer=answers.RunStatus, scopes=(Scope.CONTROL,),
    action="pause", status=202, problems=("run.finished",),
)  # fmt: skip
async def pause(call: Call) -> Response:
    return reply({"status": await call.services.runs.control.pause(call.caller, call.run)}, 202)


@runs.add(
    "POST", "/runs/{id}/resume", "Let a paused run go on.", answer=answers.RunStatus, scopes=(Scope.CONTROL,),
    action="resume", status=202, problems=("run.finished",),
)  # fmt: skip
async def resume(call: Call) -> Response:
    return reply({"status": await call.services.runs.control.resume(call.caller, call.run)}, 202)


@runs.add(
    "POST", "/runs/{id}/input", "Answer a run's question.", answer=answers.InputTaken, scopes=(Scope.CONTROL,),
    action="answer", body=InputBody, status=202, problems=("run.finished", "input.closed"),
)  # fmt: skip
async def answer(call: Call) -> Response:
    body = await call.body(InputBody)
    await call.services.runs.control.answer(call.caller, call.run, body.input_id, body.value)
    return reply({"input_id": body.input_id}, 202)


@runs.add(
    "POST", "/runs/{id}/retry", "Start anew with the same pipeline, input and options.", scopes=(Scope.START,),
    answer=answers.Started, action="start", status=201, problems=(*STARTING, "run.active"),
)  # fmt: skip
async def retry(call: Call) -> Response:
    run = await call.services.runs.retry(call.caller, call.run)
    call.started(run)
    return reply(_links(run.id, run.pipeline, run.status), 201, {"Location": f"/runs/{run.id}"})


@runs.add(
    "POST", "/runs/{id}/events", "Append events to an external run: one, `{events: […]}` or NDJSON.",
    answer=answers.Published, scopes=(Scope.PUBLISH,),
    action="publish", busy=True, status=202, headers=("Producer",),
    problems=("event.invalid", "body.too_large", "run.not_external", "run.finished", "producer.gap", "producer.fenced"),
)  # fmt: skip
async def publish(call: Call) -> Response:
    _require_publisher(call)
    said = parse_published(await call.raw_body())
    producer = parse_producer(call.request.headers.get("Producer"))
    cursor = await call.services.runs.external.publish(call.run, said, producer=producer)
    return reply({"cursor": str(cursor)}, 202)


@runs.add(
    "POST", "/runs/{id}/finish", "End an external run.", answer=answers.Finished, scopes=(Scope.PUBLISH,),
    action="finish", body=FinishBody, headers=("Producer",),
    problems=("run.not_external", "run.finished", "key.conflict", "producer.gap", "producer.fenced", "body.too_large"),
)  # fmt: skip
async def finish(call: Call) -> Response:
    _require_publisher(call)
    body = await call.body(FinishBody)
    producer = parse_producer(call.request.headers.get("Producer"))
    cursor = await call.services.runs.finish(
        call.run, Status(body.status), result=body.result, error=body.error, producer=producer
    )
    ended = await call.services.runs.views.find(call.caller, call.run.id)
    return reply({"id": ended.id, "status": ended.status, "cursor": str(cursor)})


async def _while_good(call: Call, work: Coroutine[Any, Any, T]) -> T:
    """Wait for `work`, but not for somebody whose credential is revoked meanwhile.

    One that only ran out has asked in time: nothing else tells it which run it started. Raises Unauthorized.
    """
    waiting = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([waiting], timeout=LOOKS_S))[0]:
            try:
                call.services.authenticator.check(call.bearer)
            except Unauthorized as refusal:
                if refusal.code != "auth.expired":
                    raise
        return waiting.result()
    finally:
        waiting.cancel()


def _require_publisher(call: Call) -> None:
    if not call.caller.visible.commands(call.run):
        raise Forbidden(detail="only its creator or owner speaks for a run")


def idempotency_key(call: Call) -> str | None:
    """Raises Invalid."""
    key = call.request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= 255 and key.isprintable()):
        raise Invalid(detail="an Idempotency-Key has 1 to 255 printable characters")
    return key


def _links(id: str, pipeline: str, status: Status) -> dict[str, Any]:
    links = {"self": f"/runs/{id}", "events": f"/runs/{id}/events", "cancel": f"/runs/{id}/cancel", "socket": "/ws"}
    return {"id": id, "status": status, "pipeline": pipeline, "links": links}
