"""A run's status as its lifecycle events tell it (PROTOCOL sections 1 and 2).

Rule 1: the status is never stored apart from the log's word: it is what the last lifecycle event says.
Rule 2: terminal is for ever; once `run.cancelling` is written only `run.cancelled` or `run.failed` may follow.
"""

from enum import StrEnum


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    terminal: bool  # an attribute, as it is asked for at every event


for _status in Status:
    _status.terminal = _status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)

AFTER = {
    "run.queued": Status.QUEUED,
    "run.started": Status.RUNNING,
    "run.paused": Status.PAUSED,
    "run.resumed": Status.RUNNING,
    "run.cancelling": Status.CANCELLING,
    "run.completed": Status.COMPLETED,
    "run.failed": Status.FAILED,
    "run.cancelled": Status.CANCELLED,
}
TERMINAL_TYPES = frozenset(type for type, status in AFTER.items() if status.terminal)

_UNDER_WAY = {Status.QUEUED, Status.RUNNING, Status.PAUSED}
_FROM = {
    Status.QUEUED: set[Status](),
    Status.RUNNING: {Status.QUEUED, Status.PAUSED},
    Status.PAUSED: {Status.RUNNING},
    Status.CANCELLING: _UNDER_WAY,
    Status.COMPLETED: _UNDER_WAY,
    Status.FAILED: _UNDER_WAY | {Status.CANCELLING},
    Status.CANCELLED: _UNDER_WAY | {Status.CANCELLING},
}


def allows(status: Status | None, type: str) -> bool:
    """Whether an event of this type may follow in a stream with this status (None: an empty stream)."""
    if status is None:
        return type == "run.queued"
    if status.terminal:
        return False
    after = AFTER.get(type)
    return after is None or status in _FROM[after]
