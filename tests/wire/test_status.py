"""The status of a run, and which event may follow which."""

import pytest

from gateway.wire.status import AFTER, TERMINAL_TYPES, Status, allows
from tests.wire.doubles import LIFECYCLE, WORK

# Written out by hand from PROTOCOL section 1: what may follow in a stream with this status.
FOLLOWS = {
    None: {"run.queued"},
    "queued": {"run.started", "run.resumed", "run.cancelling", "run.completed", "run.failed", "run.cancelled"},
    "running": {"run.paused", "run.cancelling", "run.completed", "run.failed", "run.cancelled"},
    "paused": {"run.started", "run.resumed", "run.cancelling", "run.completed", "run.failed", "run.cancelled"},
    "cancelling": {"run.failed", "run.cancelled"},
    "completed": set(),
    "failed": set(),
    "cancelled": set(),
}
NAMES = {
    "run.queued": "queued",
    "run.started": "running",
    "run.paused": "paused",
    "run.resumed": "running",
    "run.cancelling": "cancelling",
    "run.completed": "completed",
    "run.failed": "failed",
    "run.cancelled": "cancelled",
}


def test_every_lifecycle_event_leads_to_its_status():
    assert {type: str(status) for type, status in AFTER.items()} == NAMES
    assert set(LIFECYCLE) == set(NAMES)


@pytest.mark.parametrize("status", FOLLOWS)
@pytest.mark.parametrize("type", NAMES)
def test_a_lifecycle_event_follows_where_the_table_says_so_and_nowhere_else(status, type):
    assert allows(Status(status) if status else None, type) == (type in FOLLOWS[status])


@pytest.mark.parametrize("status", FOLLOWS)
@pytest.mark.parametrize("type", WORK)
def test_work_follows_until_the_end(status, type):
    assert allows(Status(status) if status else None, type) == (
        status not in (None, "completed", "failed", "cancelled")
    )


def test_terminal_is_what_nothing_follows():
    assert {status for status in Status if status.terminal} == {"completed", "failed", "cancelled"}
    assert {"run.completed", "run.failed", "run.cancelled"} == TERMINAL_TYPES


def test_work_does_not_change_the_status():
    assert AFTER.keys().isdisjoint(WORK)
