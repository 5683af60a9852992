"""Events: their types, their fields, their bytes (PROTOCOL section 2).

An event is validated once, when it enters, and encoded once: `seal` gives the JSON that is stored, sent on every
transport and never built again. Every model lets further fields through, because they are the event's own.
"""

import re
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import Invalid, TooLarge
from gateway.wire import json
from gateway.wire.control import CONTROL

MAX_LIFECYCLE_BYTES = 1 << 20
RESERVED = frozenset({"type", "run", "id", "ts"})
OWN_TYPE = re.compile(r"x\.[a-z0-9_.-]{1,64}", re.ASCII)


class Draft(NamedTuple):
    """An event that has no place in a stream yet. `body` is the JSON object of its own fields."""

    type: str
    body: bytes


class Event(NamedTuple):
    """An event in its place. `json` is complete; `id` is the cursor's text."""

    offset: int
    type: str
    id: str
    json: bytes
    run: str


class Fields(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


Usage = dict[str, Any]


class Failure(Fields):
    code: str
    message: str
    retryable: bool


class Source(Fields):
    key: str
    source: str


class RunQueued(Fields):
    pipeline: str
    owner: str
    retry_of: str | None = None


class RunStarted(Fields):
    pass


class RunPaused(Fields):
    by: str


class RunResumed(Fields):
    by: str


class RunCancelling(Fields):
    by: str
    reason: str


class RunCompleted(Fields):
    result: Any
    duration_ms: int
    usage: Usage | None = None


class RunFailed(Fields):
    error: Failure
    duration_ms: int
    usage: Usage | None = None


class RunCancelled(Fields):
    by: str
    reason: str
    forced: bool
    duration_ms: int
    usage: Usage | None = None


class StageStarted(Fields):
    stage: str
    index: int
    of: int


class StageCompleted(StageStarted):
    duration_ms: int


class Progress(Fields):
    stage: str
    message: str
    progress: float = Field(ge=0, le=100)
    stats: dict[str, Any] | None = None


class DraftShown(Fields):
    stage: str
    draft: str
    message: str | None = None
    progress: float | None = Field(default=None, ge=0, le=100)


class Delta(Fields):
    block: str
    delta: str
    cites: list[Source] | None = None
    done: bool | None = None


class LlmStarted(Fields):
    call: str
    model: str
    estimated_cost_usd: float | None = None


class Tokens(Fields):
    input_tokens: int
    output_tokens: int


class LlmCompleted(Fields):
    call: str
    model: str
    usage: Tokens
    cost_usd: float


class ToolStarted(Fields):
    call: str
    tool: str
    args: Any


class ToolCompleted(Fields):
    call: str
    tool: str
    result: Any = None
    error: Any = None
    duration_ms: int


class Budget(Fields):
    limit_usd: float
    spent_usd: float


class InputRequested(Fields):
    input_id: str
    prompt: str
    # Named by the protocol; pydantic's own method of that name is not used here.
    schema_: Any = Field(default=None, alias="schema")


class InputReceived(Fields):
    input_id: str
    by: str


class Warned(Fields):
    code: str
    message: str


class Own(Fields):
    """An `x.<name>` event holds anything."""


LIFECYCLE: dict[str, type[Fields]] = {
    "run.queued": RunQueued,
    "run.started": RunStarted,
    "run.paused": RunPaused,
    "run.resumed": RunResumed,
    "run.cancelling": RunCancelling,
    "run.completed": RunCompleted,
    "run.failed": RunFailed,
    "run.cancelled": RunCancelled,
}
WORK: dict[str, type[Fields]] = {
    "stage.started": StageStarted,
    "stage.completed": StageCompleted,
    "progress": Progress,
    "draft": DraftShown,
    "delta": Delta,
    "llm.started": LlmStarted,
    "llm.completed": LlmCompleted,
    "tool.started": ToolStarted,
    "tool.completed": ToolCompleted,
    "budget.warning": Budget,
    "budget.exceeded": Budget,
    "input.requested": InputRequested,
    "input.received": InputReceived,
    "warning": Warned,
}


def known(type: str) -> bool:
    """Whether a client may ask for this type by `?types=`."""
    return type in WORK or type in LIFECYCLE or type in CONTROL or OWN_TYPE.fullmatch(type) is not None


def work(type: str, fields: dict[str, Any], *, max_bytes: int) -> Draft:
    """Check what a pipeline or publisher says. Raises Invalid (`event.invalid`)."""
    model = WORK.get(type)
    if model is not None:
        _validate(model, type, fields)
    elif not OWN_TYPE.fullmatch(type):
        raise Invalid("event.invalid", f"{type[:80]!r} is not a type of work event")
    if not RESERVED.isdisjoint(fields):
        raise Invalid("event.invalid", f"{', '.join(sorted(RESERVED & fields.keys()))}: reserved")
    try:
        body = json.dumps(fields)
    except (TypeError, ValueError) as error:
        raise Invalid("event.invalid", f"{type}: not JSON: {error}") from None
    if len(body) > max_bytes:
        raise Invalid("event.invalid", f"{type}: {len(body)} bytes, at most {max_bytes} are taken")
    return Draft(type, body)


def published(event: Any) -> tuple[str, dict[str, Any]]:
    """Take a publisher's event apart into type and own fields. Raises Invalid (`event.invalid`)."""
    if not isinstance(event, dict):
        raise Invalid("event.invalid", "an event is a JSON object")
    fields = dict(event)
    type = fields.pop("type", None)
    if not isinstance(type, str):
        raise Invalid("event.invalid", "an event has a type")
    return type, fields


def lifecycle(type: str, **fields: Any) -> Draft:
    """Build an event that only the gateway writes; fields that are None are left out.

    Raises TooLarge when it is over 1 MiB.
    """
    present = {name: value for name, value in fields.items() if value is not None or name == "result"}
    _validate(LIFECYCLE[type], type, present)
    body = json.dumps(present)
    if len(body) > MAX_LIFECYCLE_BYTES:
        raise TooLarge(detail=f"{type} would have {len(body)} bytes")
    return Draft(type, body)


def seal(draft: Draft, *, run: str, epoch: str, offset: int, ts: int) -> Event:
    """Give a draft its place: the reserved fields first, then its own."""
    id = f"{epoch}-{offset}"
    head = f'{{"type":"{draft.type}","run":"{run}","id":"{id}","ts":{ts}'.encode()
    tail = b"}" if draft.body == b"{}" else b"," + draft.body[1:]
    return Event(offset, draft.type, id, head + tail, run)


def _validate(model: type[Fields], type: str, fields: dict[str, Any]) -> None:
    try:
        model.__pydantic_validator__.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"])) or type
        raise Invalid("event.invalid", f"{type}: {path}: {first['msg']}", errors=problems(error)) from None


def problems(error: ValidationError, *prefix: str) -> list[dict[str, Any]]:
    """Validation errors as `{path, message}`, without the offending values."""
    return [
        {"path": [*prefix, *entry["loc"]], "message": entry["msg"]}
        for entry in error.errors(include_url=False, include_input=False, include_context=False)[:20]
    ]
