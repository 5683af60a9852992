"""The shape of what the HTTP addresses answer when all goes well (PROTOCOL section 4), for the OpenAPI document.

Rule 1: these describe, they do not make: an answer is built where it is known, and the tests hold it to its shape.
Rule 2: what may be null is said, and what may be missing.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field, JsonValue, RootModel

from gateway.wire.cursor import Resume
from gateway.wire.status import Status

Object = dict[str, JsonValue]


def _perhaps(description: str) -> Any:
    """A member that may be missing, and stands for nothing else then."""
    return Field(None, description=description, json_schema_extra=_without_default)


def _without_default(schema: Object) -> None:
    del schema["default"]


class Links(BaseModel):
    self_: str = Field(alias="self")
    events: str
    cancel: str
    socket: str


class Started(BaseModel):
    id: str
    status: Status
    pipeline: str
    links: Links


class RunSummary(BaseModel):
    """Times are Unix milliseconds."""

    id: str
    pipeline: str
    owner: str
    retry_of: str = _perhaps("the run that this one repeats")
    status: Status
    created_at: int
    started_at: int | None
    finished_at: int | None
    stage: str | None = None
    message: str | None = None
    progress: float = Field(0, ge=0, le=100)


class RunError(BaseModel):
    code: str
    message: str
    retryable: bool
    incident: str = _perhaps("what the gateway's log has it under")


class RunDescribed(RunSummary):
    """The folded state of all its events."""

    blocks: dict[str, str]
    drafts: dict[str, str]
    result: JsonValue
    error: RunError | None
    usage: Object | None
    tail: str = Field(description="the cursor of the last event in it")


class RunPage(BaseModel):
    runs: list[RunSummary]
    next: str | None = Field(description="`before` of the next page; null: there is none")


class EventPage(BaseModel):
    """One long-poll. The events are as `/schema/events.json` has them, a `gap` among them."""

    events: list[Object]
    cursor: str
    resume: Resume
    done: bool
    retry_ms: float
    heartbeat_ms: float


class CancelAsked(BaseModel):
    status: Literal["cancelling", "finished"]
    final: Status = _perhaps("how it had ended, if it had")


class RunStatus(BaseModel):
    status: Status


class InputTaken(BaseModel):
    input_id: str


class Published(BaseModel):
    cursor: str


class Finished(BaseModel):
    id: str
    status: Status
    cursor: str


class TicketMade(BaseModel):
    ticket: str
    expires_in: float = Field(description="seconds")


class TokenMade(BaseModel):
    token: str
    expires_in: float = Field(description="seconds")


class PipelineDescribed(BaseModel):
    name: str
    description: str
    input_schema: Object
    result_schema: Object


class PipelineList(BaseModel):
    pipelines: list[PipelineDescribed]


class Health(BaseModel):
    status: Literal["ok"]
    version: str


class Readiness(BaseModel):
    status: Literal["ready"]


class Document(RootModel[Object]):
    """A JSON Schema, or an OpenAPI document."""
