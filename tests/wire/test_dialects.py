"""Dialects: the golden cases, and what must hold for every stream, join and resume."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import control
from gateway.wire.cursor import parse as cursor_of
from gateway.wire.dialects import DIALECTS, WORKFLOW, Remembering
from gateway.wire.events import Event
from gateway.wire.fold import fold, select
from gateway.wire.framing import Chunked
from gateway.wire.state import State
from gateway.wire.status import TERMINAL_TYPES
from tests.wire.doubles import BOUNDED, ERROR, FEW, MAX, OPTIONAL, RUN, WORK, filters, said, sealed, stream, streams
from tests.wire.sse_parser import parse

CASES = Path(__file__).parents[2] / "clients/conformance/dialects"
GOLDEN = [(path.stem, case) for path in sorted(CASES.glob("*.json")) for case in json.loads(path.read_text())]
FOREIGN = [name for name in DIALECTS if name != "native"]
foreign = pytest.mark.parametrize("name", FOREIGN)

# Whole streams with everything in them that a dialect may tell.
_more = st.sampled_from([(type, {**fields, **OPTIONAL.get(type, {})}) for type, fields in WORK.items()])
rich = st.builds(
    lambda told, ending: stream(told, ending=ending),
    st.lists(said | _more, max_size=30),
    st.sampled_from([None, *sorted(TERMINAL_TYPES)]),
)
anything = streams | rich


def native(fields: dict) -> Event:
    """An event with its bytes as `seal` gives them."""
    compact = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    return Event(cursor_of(fields["id"]).offset, fields["type"], fields["id"], compact, RUN)


def framing(name: str, types: frozenset[str] | None = None, *, after: list[Event] | None = None):
    """What a connection gets that joins where these events end."""
    made = DIALECTS[name](types)
    if after and isinstance(made, Remembering):
        made.recall(State.load(state_of(after).dump()))  # as it may have been kept
    return made


def state_of(events: list[Event]) -> State:
    state = State()
    for event in events:
        state.apply(event)
    return state


def seen_by(name: str, events: list[Event], types: frozenset[str] | None) -> list[Event]:
    """What the hub gives a connection: its filter, and what its dialect remembers."""
    remembers = getattr(DIALECTS[name](None), "remembers", frozenset())
    return select(events, None if types is None else types | remembers)


@pytest.mark.parametrize(("name", "case"), GOLDEN, ids=[f"{name}: {case['name']}" for name, case in GOLDEN])
def test_a_golden_case_is_spelled_as_it_stands(name, case):
    events = [native(event) for event in case["events"]]
    assert framing(name).events(events).decode() == case["frames"]


def test_every_dialect_has_golden_cases():
    assert sorted({name for name, _ in GOLDEN}) == sorted(FOREIGN)


@foreign
@given(whole=anything, types=filters)
@BOUNDED
def test_frames_have_the_ids_of_their_events_in_order(name, whole, types):
    parsed = parse(framing(name, types).events(seen_by(name, whole, types)))
    ids = [message.last_event_id for message in parsed.messages]
    held = iter(event.id for event in whole)
    assert all(id in held for id in ids)  # a subsequence: none twice, none out of place
    assert (parsed.comments, parsed.retries, parsed.rest) == ([], [], "")
    assert all(isinstance(json.loads(message.data), dict) for message in parsed.messages)


@foreign
@given(whole=anything, types=filters, data=st.data())
@BOUNDED
def test_a_resume_anywhere_goes_on_with_the_frames_of_the_whole(name, whole, types, data):
    cut = data.draw(st.integers(0, len(whole)))
    told, left = whole[:cut], whole[cut:]
    first = framing(name, types)
    before = first.events(seen_by(name, told, types))
    frames = before + framing(name, types, after=told).events(seen_by(name, left, types))
    assert frames == framing(name, types).events(seen_by(name, whole, types))
    assert frames == before + first.events(seen_by(name, left, types))


@foreign
@given(whole=anything, data=st.data())
@BOUNDED
def test_the_memory_may_come_from_any_state_after_the_cursor(name, whole, data):
    """A snapshot, or a run that went on: what is known then is known again when the events come."""
    cut = data.draw(st.integers(0, len(whole)))
    later = data.draw(st.integers(cut, len(whole)))
    joined = framing(name, after=whole[:later])
    assert joined.events(whole[cut:]) == framing(name, after=whole[:cut]).events(whole[cut:])


@foreign
@given(whole=anything, data=st.data())
@BOUNDED
def test_events_that_were_spelled_but_not_sent_can_be_spelled_again(name, whole, data):
    start = data.draw(st.integers(0, len(whole)))
    made = framing(name)
    made.events(whole)
    assert made.events(whole[start:]) == framing(name, after=whole[:start]).events(whole[start:])


@foreign
@given(whole=anything, types=filters, data=st.data())
@BOUNDED
def test_the_end_is_told_alike_after_a_folded_past(name, whole, types, data):
    cut = data.draw(st.integers(0, len(whole)))
    past, live = seen_by(name, whole[:cut], types), seen_by(name, whole[cut:], types)
    made = framing(name, types)
    folded = parse(made.events(fold(past, max_bytes=MAX)) + made.events(live)).messages
    full = parse(framing(name, types).events([*past, *live])).messages
    assert {message.last_event_id for message in folded} <= {message.last_event_id for message in full}
    if whole[-1].type in TERMINAL_TYPES:
        assert folded[-1] == full[-1]


@foreign
@given(whole=rich)
@FEW
def test_the_end_always_has_a_frame_so_that_its_cursor_stops_a_client(name, whole):
    messages = parse(framing(name).events(whole)).messages
    ended = whole[-1].type in TERMINAL_TYPES
    assert not ended or messages[-1].last_event_id == whole[-1].id


@given(anything)
@BOUNDED
def test_content_keeps_the_bytes_of_progress_and_drafts(whole):
    messages = parse(framing("content").events(whole)).messages
    kept = [event for event in whole if event.type in ("progress", "draft")]
    assert [(m.event, m.data.encode()) for m in messages if m.event in ("progress", "draft")] == [
        (event.type, event.json) for event in kept
    ]
    assert {message.event for message in messages} <= {"progress", "draft", "complete", "error"}


@given(anything)
@BOUNDED
def test_workflow_says_its_name_twice_and_keeps_what_the_event_said(whole):
    by_id = {event.id: json.loads(event.json) for event in whole}
    for message in parse(WORKFLOW.events(whole)).messages:
        told, event = json.loads(message.data), by_id[message.last_event_id]
        assert message.event == told.pop("type")
        told |= {
            old: told.pop(new)
            for old, new in (("cost_usd", "cost"), ("estimated_cost_usd", "estimated_cost"))
            if new in told
        }
        assert told == {field: value for field, value in event.items() if field != "type"}


@given(anything)
@BOUNDED
def test_plain_reaches_onmessage_with_the_fields_of_the_protocol_alone(whole):
    wire = framing("plain").events(whole)
    assert b"\nevent:" not in b"\n" + wire
    for message in parse(wire).messages:
        told = json.loads(message.data).keys()
        assert message.event == "message"
        assert any(
            told <= shape
            for shape in (
                {"step", "progress", "stats", "message"},
                {"blockId", "delta", "cites", "done"},
                {"step", "progress", "docId", "stats"},
                {"step", "message", "blockId", "error"},
            )
        )


FRAMES = [
    control.hello(connection="c", heartbeat_ms=15_000, retry_ms=900, resume="start"),
    control.heartbeat(5),
    control.gap(run=RUN, after="no\r\ncursor", first="k3f-9"),
    control.reconnect(after_ms=700, reason="server.draining"),
    control.auth_expiring(7),
]


@foreign
@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.type)
def test_a_control_frame_is_a_comment_and_keeps_its_retry(name, frame):
    parsed = parse(framing(name).control(frame))
    assert parsed.retries == ([] if frame.retry_ms is None else [frame.retry_ms])
    assert parsed.rest == ""
    if (name, frame.type) == ("workflow", "heartbeat"):
        assert [(m.event, json.loads(m.data)) for m in parsed.messages] == [
            ("Heartbeat", {"type": "Heartbeat", "ts": 5})
        ]
        assert parsed.messages[0].last_event_id == ""
    else:
        assert parsed.comments == [f"{frame.type} {frame.json.decode()}"]
        assert parsed.messages == []


@foreign
def test_what_has_no_frame_is_no_chunk(name):
    made = framing(name)
    assert made.events([sealed(1, "x.own", {})]) == made.events([]) == b""
    assert Chunked(made).events([sealed(1, "x.own", {})]) == b""


def test_two_connections_do_not_share_a_memory():
    one, other = framing("plain"), framing("plain")
    one.events([sealed(1, "delta", {"block": "b", "delta": "x"})])
    end = [sealed(2, "run.failed", {"error": ERROR, "duration_ms": 1})]
    assert b"blockId" in one.events(end)
    assert b"blockId" not in other.events(end)


def test_a_filter_hides_frames_and_not_what_the_end_tells():
    whole = stream([("delta", {"block": "b", "delta": "x"}), ("progress", WORK["progress"])], ending="run.failed")
    types = frozenset({"progress"})
    told = [json.loads(m.data) for m in parse(framing("plain", types).events(seen_by("plain", whole, types))).messages]
    assert [sorted(each) for each in told] == [["message", "progress", "step"], ["blockId", "error", "message", "step"]]


@pytest.mark.parametrize("depth", [251, 252, 253])
@pytest.mark.parametrize(
    "wrap", [lambda nest: nest, lambda nest: {"doc_id": nest, "markdown": nest}], ids=["array", "object"]
)
def test_whatever_a_log_can_hold_can_be_spelled(depth, wrap):
    nest: object = 1
    for _ in range(depth - 1):
        nest = [nest]
    deep = sealed(1, "run.completed", {"result": wrap(nest), "duration_ms": 1})
    for name in FOREIGN:
        assert len(parse(framing(name).events([deep])).messages) == 1
