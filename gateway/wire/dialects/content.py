"""The dialect `content`, for front ends of content generation.

Rule 1: progress and drafts keep their native bytes; the end is `complete` or `error`; nothing else is said.
"""

from functools import lru_cache
from typing import Any

from gateway.wire import json
from gateway.wire.dialects.spelling import CACHED, NOTHING, Remembering, Told, failure, spell
from gateway.wire.events import Event
from gateway.wire.framing import SSE
from gateway.wire.state import State

_SHOWN = frozenset({"progress", "draft"})


class Content(Remembering):
    """Remembers the stage, which an error tells."""

    remembers = _SHOWN | {"stage.started"}

    def recall(self, state: State) -> None:
        self.memory = state.stage

    def _tell(self, event: Event) -> Told:
        return _tell(event)

    def _end(self, event: Event, said: dict[str, Any]) -> bytes:
        if event.type == "run.completed":
            return spell(event, _completed(said["result"]), name="complete")
        message, retryable = failure(event, said)
        return spell(event, {"message": message, "stage": self.memory, "retryable": retryable}, name="error")


@lru_cache(CACHED)
def _tell(event: Event) -> Told:
    if event.type not in Content.remembers:
        return NOTHING
    frame = SSE.events((event,)) if event.type in _SHOWN else b""
    return Told(frame, json.loads(event.json)["stage"])


def _completed(result: Any) -> dict[str, Any]:
    """`output` is the result's `markdown`, `metadata` the rest: all of it where the result is no object."""
    if result is None:
        result = {}
    if not isinstance(result, dict):
        # Not one level deeper than in the log, so that whatever is there can be written here.
        return {"success": True, "output": None, "metadata": result}
    rest = {name: value for name, value in result.items() if name != "markdown"}
    return {"success": True, "output": result.get("markdown"), "metadata": rest}
