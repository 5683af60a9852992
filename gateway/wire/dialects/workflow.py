"""The dialect `workflow`, for agent platforms.

Rule 1: a frame is the native event under another name: `run`, `id`, `ts` and its fields stay, two are renamed.
Rule 2: it has no state, so one value serves all connections.
"""

from collections.abc import Iterable

from gateway.wire import json
from gateway.wire.control import Control
from gateway.wire.dialects.spelling import comment, spell
from gateway.wire.events import Event

HEARTBEAT = "Heartbeat"
NAMES = {
    "run.started": "WorkflowStarted",
    "run.paused": "WorkflowPaused",
    "run.resumed": "WorkflowResumed",
    "run.completed": "WorkflowCompleted",
    "run.failed": "WorkflowFailed",
    "run.cancelled": "WorkflowCancelled",
    "stage.started": "WorkflowStepStarted",
    "stage.completed": "WorkflowStepCompleted",
    "llm.started": "WorkflowLLMCallStarted",
    "llm.completed": "WorkflowLLMCallCompleted",
    "tool.started": "WorkflowToolCallStarted",
    "tool.completed": "WorkflowToolCallCompleted",
    "budget.warning": "WorkflowBudgetWarning",
    "budget.exceeded": "WorkflowBudgetExceeded",
}
RENAMED = {"llm.started": ("estimated_cost_usd", "estimated_cost"), "llm.completed": ("cost_usd", "cost")}


class Workflow:
    ping = b""
    stateful = False

    def events(self, events: Iterable[Event]) -> bytes:
        return b"".join(_frame(event, NAMES[event.type]) for event in events if event.type in NAMES)

    def control(self, frame: Control) -> bytes:
        if frame.type != "heartbeat":
            return comment(frame)
        said = json.dumps({**json.loads(frame.json), "type": HEARTBEAT})
        return b"event: %b\ndata: %b\n\n" % (HEARTBEAT.encode(), said)


def _frame(event: Event, name: str) -> bytes:
    said = {**json.loads(event.json), "type": name}
    if event.type in RENAMED:
        native, renamed = RENAMED[event.type]
        if native in said:
            # Takes the place of a field of the publisher's own that is called so.
            said[renamed] = said.pop(native)
    return spell(event, said, name=name)


WORKFLOW = Workflow()
