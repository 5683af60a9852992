"""A run's state as a fold over its events: what `GET /runs/{id}` answers, grown live (PROTOCOL section 4).

Rule 1: the same rules as the gateway's own fold, so a state read from it and one grown here are the same. Beyond it,
`stages` and `inputs` are kept, which only events tell.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runcast.cursor import follows
from runcast.events import (
    Delta,
    Draft,
    Ended,
    Event,
    Failure,
    Gap,
    InputReceived,
    InputRequested,
    Number,
    Progress,
    RunQueued,
    StageCompleted,
    StageStarted,
)

FINISHED = frozenset(("completed", "failed", "cancelled"))
_STATUS_AFTER = {
    "run.queued": "queued",
    "run.started": "running",
    "run.paused": "paused",
    "run.resumed": "running",
    "run.cancelling": "cancelling",
    **{f"run.{status}": status for status in FINISHED},
}


class StageState(BaseModel):
    stage: str
    index: int
    of: int
    done: bool


class RunState(BaseModel):
    """Times are Unix milliseconds; `tail` is the cursor of the last event in it.

    `stages` and `inputs` (the questions that nobody has answered yet) are empty unless the state was grown by `apply`.
    """

    model_config = ConfigDict(extra="allow")

    id: str = ""
    pipeline: str = ""
    owner: str | None = None
    status: str = "queued"
    created_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    stage: str | None = None
    message: str | None = None
    progress: Number = 0
    blocks: dict[str, str] = Field(default_factory=dict)
    drafts: dict[str, str] = Field(default_factory=dict)
    result: Any = None
    error: Failure | None = None
    usage: dict[str, Any] | None = None
    tail: str | None = None
    stages: list[StageState] = Field(default_factory=list)
    inputs: list[InputRequested] = Field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    def apply(self, event: Event) -> None:
        """Grow by the next event; one that is in it already changes nothing. After a gap it begins anew."""
        if isinstance(event, Gap):
            self._begin_anew(event.run)
            return
        if not follows(self.tail, event.id):
            return
        self.id, self.tail = event.run, event.id
        match event:
            case Delta():
                self.blocks[event.block] = self.blocks.get(event.block, "") + event.delta
            case Progress() | Draft():
                self._heard(event)
            case StageStarted() | StageCompleted():
                self._staged(event)
            case InputRequested():
                self.inputs = [*self._other_inputs(event.input_id), event]
            case InputReceived():
                self.inputs = self._other_inputs(event.input_id)
            case _ if event.type in _STATUS_AFTER:
                self._lifecycle(event)

    def _begin_anew(self, run: str) -> None:
        for name, value in RunState(id=run):
            setattr(self, name, value)

    def _heard(self, event: Progress | Draft) -> None:
        self.stage = event.stage
        if event.message is not None:
            self.message = event.message
        if event.progress is not None:
            self.progress = event.progress
        if isinstance(event, Draft):
            self.drafts[event.stage] = event.draft

    def _staged(self, event: StageStarted | StageCompleted) -> None:
        done = isinstance(event, StageCompleted)
        if not done:
            self.stage = event.stage
        told = StageState(stage=event.stage, index=event.index, of=event.of, done=done)
        others = (other for other in self.stages if other.stage != event.stage)
        self.stages = sorted((*others, told), key=lambda stage: stage.index)

    def _other_inputs(self, id: str) -> list[InputRequested]:
        return [input for input in self.inputs if input.input_id != id]

    def _lifecycle(self, event: Event) -> None:
        self.status = _STATUS_AFTER[event.type]
        if isinstance(event, RunQueued):
            self.created_at, self.pipeline, self.owner = event.ts, event.pipeline, event.owner
        elif event.type == "run.started":
            self.started_at = event.ts
        elif isinstance(event, Ended):
            self.finished_at, self.usage, self.inputs = event.ts, event.usage, []
            self.result = getattr(event, "result", None)
            self.error = getattr(event, "error", None)
