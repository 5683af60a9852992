"""The dialect `plain`, for writing front ends that listen with `onmessage` alone.

Rule 1: no frame has an `event:` line, and no field beyond those of PROTOCOL section 10.
"""

from functools import lru_cache
from typing import Any

from gateway.wire import json
from gateway.wire.dialects.spelling import CACHED, NOTHING, Remembering, Told, failure, spell
from gateway.wire.events import Event
from gateway.wire.state import State

# A front end stops at these steps, so a stage of the run's own that is called so says nothing.
_ENDS = ("done", "error")


class Plain(Remembering):
    """Remembers the block, which an error tells."""

    remembers = frozenset({"delta"})

    def recall(self, state: State) -> None:
        self.memory = state.block

    def _tell(self, event: Event) -> Told:
        return _tell(event)

    def _end(self, event: Event, said: dict[str, Any]) -> bytes:
        if event.type == "run.completed":
            return spell(event, _completed(said["result"]), name=None)
        message, _ = failure(event, said)
        fields = {"step": "error", "message": message}
        if self.memory is not None:
            fields |= {"blockId": self.memory, "error": message}
        return spell(event, fields, name=None)


@lru_cache(CACHED)
def _tell(event: Event) -> Told:
    if event.type == "progress":
        said = json.loads(event.json)
        if said["stage"] in _ENDS:
            return NOTHING
        fields = {"step": said["stage"], "progress": said["progress"], **_present(said, "stats", "message")}
        return Told(spell(event, fields, name=None))
    if event.type == "delta":
        said = json.loads(event.json)
        fields = {"blockId": said["block"], "delta": said["delta"], **_present(said, "cites", "done")}
        return Told(spell(event, fields, name=None), said["block"])
    return NOTHING


def _completed(result: Any) -> dict[str, Any]:
    fields = {"step": "done", "progress": 100}
    if not isinstance(result, dict):
        return fields
    document = result.get("doc_id")
    return {**fields, **({} if document is None else {"docId": document}), **_present(result, "stats")}


def _present(said: dict[str, Any], *names: str) -> dict[str, Any]:
    # A field that is null says nothing.
    return {name: said[name] for name in names if said.get(name) is not None}
