"""A run's folded state."""

import json

from hypothesis import given

from gateway.wire.state import State
from tests.wire.doubles import BOUNDED, MAX, draft, stream, streams


def state_of(events) -> State:
    state = State()
    for event in events:
        state.apply(event)
    return state


@given(streams)
@BOUNDED
def test_a_state_survives_its_storage_and_goes_on_alike(whole):
    half = len(whole) // 2
    kept = State.load(state_of(whole[:half]).dump())
    for event in whole[half:]:
        kept.apply(event)
    assert kept.fields() == state_of(whole).fields()
    assert State.load(kept.dump()).fields() == kept.fields()


@given(streams)
@BOUNDED
def test_progress_is_always_a_number(whole):
    assert 0 <= state_of(whole).progress <= 100


def test_a_new_run_is_queued_and_empty():
    state = state_of(stream([])[:1])
    assert state.fields() == {
        "status": "queued",
        "created_at": 1763580000001,
        "started_at": None,
        "finished_at": None,
        "stage": None,
        "message": None,
        "progress": 0,
        "blocks": {},
        "drafts": {},
        "result": None,
        "error": None,
        "usage": None,
    }


def test_the_state_holds_what_the_events_said():
    said = [
        ("stage.started", {"stage": "one", "index": 1, "of": 2}),
        ("progress", {"stage": "one", "message": "Looking", "progress": 10}),
        ("draft", {"stage": "two", "draft": "v1", "message": "Drafting"}),
        ("draft", {"stage": "two", "draft": "v2", "progress": 40}),
        ("delta", {"block": "body", "delta": "Hello "}),
        ("delta", {"block": "side", "delta": "x"}),
        ("delta", {"block": "body", "delta": "world"}),
    ]
    fields = state_of(stream(said, ending="run.completed")).fields()
    assert fields["status"] == "completed"
    assert (fields["stage"], fields["message"], fields["progress"]) == ("two", "Drafting", 40)
    assert fields["drafts"] == {"two": "v2"}
    assert fields["blocks"] == {"body": "Hello world", "side": "x"}
    assert fields["result"] == {"markdown": "x"}
    assert fields["finished_at"] == 1763580000010


def test_a_failure_stands_in_the_state():
    fields = state_of(stream([], ending="run.failed")).fields()
    assert (fields["status"], fields["error"]["code"], fields["result"]) == ("failed", "pipeline.error", None)


def test_an_optional_field_that_is_null_says_nothing():
    said = [
        ("progress", {"stage": "s", "message": "m", "progress": 30}),
        ("draft", {"stage": "s", "draft": "d", "message": None, "progress": None}),
    ]
    state = state_of(stream(said))
    assert (state.message, state.progress) == ("m", 30)


def test_a_state_can_be_fed_with_fields_alone():
    state = State()
    state.apply_fields("run.queued", {"ts": 5, **json.loads(draft("run.queued", {"pipeline": "p", "owner": "o"}).body)})
    assert state.created_at == 5
    assert len(state.dump()) < MAX
