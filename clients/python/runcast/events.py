"""Events as objects: one class for each type of PROTOCOL section 2.

Rule 1: nothing that came is lost. An unknown type is a plain Event, an unknown field an attribute, and a known type
whose fields are not as expected (a later gateway's) is a plain Event with all of them.
Rule 2: pure values; whoever has the JSON calls `parse`.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runcast.cursor import NO_CURSOR
from runcast.cursor import parse as cursor_of

Number = int | float  # a number stays as it was written: 30 does not become 30.0
Percent = Annotated[Number, Field(ge=0, le=100)]


class Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)


class Event(Part):
    """One fact about a run. `id` is its cursor, `ts` Unix milliseconds; further fields are attributes too."""

    type: str
    run: str
    id: str
    ts: int

    def fields(self) -> dict[str, Any]:
        """The JSON object as it came, in JSON's values."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    @property
    def terminal(self) -> bool:
        """Whether it is the run's last."""
        return self.type in TERMINAL


class Failure(Part):
    """Why a run failed; `code` is one of PROTOCOL section 2, `incident` names the line in the gateway's log."""

    code: str
    message: str
    retryable: bool
    incident: str | None = None


class Cite(Part):
    key: str
    source: str


class Tokens(Part):
    input_tokens: int
    output_tokens: int


class RunQueued(Event):
    type: Literal["run.queued"]
    pipeline: str
    owner: str
    retry_of: str | None = None


class RunStarted(Event):
    type: Literal["run.started"]


class RunPaused(Event):
    type: Literal["run.paused"]
    by: str


class RunResumed(Event):
    type: Literal["run.resumed"]
    by: str


class RunCancelling(Event):
    type: Literal["run.cancelling"]
    by: str
    reason: str


class Ended(Event):
    """What the three terminal events have in common."""

    duration_ms: int
    usage: dict[str, Any] | None = None

    @property
    def status(self) -> str:
        """`completed`, `failed` or `cancelled`."""
        return self.type.removeprefix("run.")


class RunCompleted(Ended):
    type: Literal["run.completed"]
    result: Any


class RunFailed(Ended):
    type: Literal["run.failed"]
    error: Failure


class RunCancelled(Ended):
    """`forced`: the pipeline did not stop within the grace."""

    type: Literal["run.cancelled"]
    by: str
    reason: str
    forced: bool


class StageStarted(Event):
    type: Literal["stage.started"]
    stage: str
    index: int
    of: int


class StageCompleted(Event):
    type: Literal["stage.completed"]
    stage: str
    index: int
    of: int
    duration_ms: int


class Progress(Event):
    type: Literal["progress"]
    stage: str
    message: str
    progress: Percent
    stats: dict[str, Any] | None = None


class Draft(Event):
    type: Literal["draft"]
    stage: str
    draft: str
    message: str | None = None
    progress: Percent | None = None


class Delta(Event):
    type: Literal["delta"]
    block: str
    delta: str
    cites: list[Cite] | None = None
    done: bool | None = None


class LlmStarted(Event):
    type: Literal["llm.started"]
    call: str
    model: str
    estimated_cost_usd: Number | None = None


class LlmCompleted(Event):
    type: Literal["llm.completed"]
    call: str
    model: str
    usage: Tokens
    cost_usd: Number


class ToolStarted(Event):
    type: Literal["tool.started"]
    call: str
    tool: str
    args: Any


class ToolCompleted(Event):
    type: Literal["tool.completed"]
    call: str
    tool: str
    result: Any = None
    error: Any = None
    duration_ms: int


class Budget(Event):
    limit_usd: Number
    spent_usd: Number


class BudgetWarning(Budget):
    type: Literal["budget.warning"]


class BudgetExceeded(Budget):
    type: Literal["budget.exceeded"]


class InputRequested(Event):
    """Answer it with `run.input(event.input_id, value)`; `schema_` is the value's JSON Schema."""

    type: Literal["input.requested"]
    input_id: str
    prompt: str
    schema_: Any = Field(default=None, alias="schema")


class InputReceived(Event):
    type: Literal["input.received"]
    input_id: str
    by: str


class Warned(Event):
    type: Literal["warning"]
    code: str
    message: str


class Gap(Event):
    """Not in the log: the events between the cursors `after` and `from_` are gone, so what was known is void.

    Unless the log begins `anew`, only `run.state()` has the whole.
    """

    type: Literal["gap"]
    id: str = NO_CURSOR
    ts: int = 0
    after: str
    from_: str = Field(alias="from")

    @property
    def anew(self) -> bool:
        """Whether the log begins anew: what follows is the whole of it."""
        return (cursor := cursor_of(self.from_)) is not None and cursor.offset == 1


def _types(*models: type[Event]) -> dict[str, type[Event]]:
    return {str(get_args(model.model_fields["type"].annotation)[0]): model for model in models}


TYPES: dict[str, type[Event]] = _types(
    RunQueued, RunStarted, RunPaused, RunResumed, RunCancelling, RunCompleted, RunFailed, RunCancelled,
    StageStarted, StageCompleted, Progress, Draft, Delta, LlmStarted, LlmCompleted, ToolStarted, ToolCompleted,
    BudgetWarning, BudgetExceeded, InputRequested, InputReceived, Warned, Gap,
)  # fmt: skip
TERMINAL = frozenset(("run.completed", "run.failed", "run.cancelled"))


def parse(frame: dict[str, Any]) -> Event:
    """The frame as an object of its type's class. Raises ValidationError when it is no event at all."""
    model = TYPES.get(frame["type"])
    if model is not None:
        try:
            return model.model_validate(frame)
        except ValidationError:
            if model is Gap:
                raise
    return Event.model_validate(frame)
