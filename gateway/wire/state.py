"""A run's folded state: what `GET /runs/{id}` answers, as a fold over the run's events (PROTOCOL section 4).

Rule 1: the state is what the events say and nothing else; two logs that fold alike give the same state.
"""

from typing import Any, Self

from gateway.wire import json
from gateway.wire.events import Event
from gateway.wire.status import AFTER, Status

_TOLD = frozenset({"delta", "progress", "draft", "stage.started", *AFTER})  # the types that change a state


class State:
    """Grows by `apply`; `fields` gives it as JSON values, `dump` and `load` carry it over a restart."""

    def __init__(self) -> None:
        self.status = Status.QUEUED
        self.created_at: int | None = None
        self.started_at: int | None = None
        self.finished_at: int | None = None
        self.stage: str | None = None
        self.message: str | None = None
        self.progress: float = 0
        self.drafts: dict[str, str] = {}
        self.block: str | None = None  # the last that was written to
        self.result: Any = None
        self.error: dict[str, Any] | None = None
        self.usage: dict[str, Any] | None = None
        self._blocks: dict[str, list[str]] = {}

    def apply(self, event: Event) -> None:
        if event.type in _TOLD:
            self.apply_fields(event.type, json.loads(event.json))

    def apply_fields(self, type: str, fields: dict[str, Any]) -> None:
        """`fields` holds at least `ts` and the event's own."""
        if type == "delta":
            self.block = fields["block"]
            self._blocks.setdefault(fields["block"], []).append(fields["delta"])
        elif type in ("progress", "draft"):
            self.stage = fields["stage"]
            # An optional field that is null says nothing.
            self.message = self.message if (message := fields.get("message")) is None else message
            self.progress = self.progress if (progress := fields.get("progress")) is None else progress
            if type == "draft":
                self.drafts[fields["stage"]] = fields["draft"]
        elif type == "stage.started":
            self.stage = fields["stage"]
        elif type in AFTER:
            self._lifecycle(type, fields)

    def _lifecycle(self, type: str, fields: dict[str, Any]) -> None:
        self.status = AFTER[type]
        if type == "run.queued":
            self.created_at = fields["ts"]
        elif type == "run.started":
            self.started_at = fields["ts"]
        if self.status.terminal:
            self.finished_at = fields["ts"]
            self.result = fields.get("result")
            self.error = fields.get("error")
            self.usage = fields.get("usage")

    def fields(self) -> dict[str, Any]:
        return {
            **self.summary(),
            "blocks": {block: "".join(parts) for block, parts in self._blocks.items()},
            "drafts": self.drafts,
            "result": self.result,
            "error": self.error,
            "usage": self.usage,
        }

    def summary(self) -> dict[str, Any]:
        """The part that is small whatever the run wrote."""
        return {
            "status": self.status,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "stage": self.stage,
            "message": self.message,
            "progress": self.progress,
        }

    def dump(self) -> bytes:
        return json.dumps({**self.fields(), "block": self.block})

    @classmethod
    def load(cls, data: bytes) -> Self:
        state = cls()
        for name, value in json.loads(data).items():
            if name == "blocks":
                state._blocks = {block: [text] for block, text in value.items()}
            else:
                setattr(state, name, Status(value) if name == "status" else value)
        return state
