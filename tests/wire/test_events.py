"""Events: what is let in, and the bytes that it becomes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Invalid, TooLarge
from gateway.wire import events
from tests.wire.doubles import BOUNDED, EPOCH, LIFECYCLE, MAX, OPTIONAL, RUN, WORK, draft, sealed

ALL = {**LIFECYCLE, **WORK}


def refused(type: str, fields: dict, *, max_bytes: int = MAX) -> Invalid:
    with pytest.raises(Invalid) as caught:
        events.work(type, fields, max_bytes=max_bytes)
    assert caught.value.code == "event.invalid"
    return caught.value


def test_the_tables_of_this_test_and_of_the_gateway_name_the_same_types():
    assert set(LIFECYCLE) == set(events.LIFECYCLE)
    assert set(WORK) - {"x.own"} == set(events.WORK)


@pytest.mark.parametrize("type", ALL)
def test_every_type_is_taken_with_its_fields_and_with_its_optional_ones(type):
    for fields in (ALL[type], {**ALL[type], **OPTIONAL.get(type, {})}, {**ALL[type], "unknown": {"kept": 1}}):
        assert json.loads(draft(type, fields).body) == fields


@pytest.mark.parametrize("type, missing", [(type, name) for type in WORK for name in WORK[type] if type != "x.own"])
def test_a_work_event_without_a_required_field_is_refused(type, missing):
    problem = refused(type, {name: value for name, value in WORK[type].items() if name != missing})
    assert problem.errors[0]["path"] == [missing]


@pytest.mark.parametrize("type, field", [(type, name) for type in WORK for name in WORK[type] if type != "x.own"])
def test_a_required_field_of_another_type_is_refused(type, field):
    if (type, field) == ("tool.started", "args"):
        return  # arguments are any JSON
    for wrong in ([], {"a": 1}, True, None):
        refused(type, {**WORK[type], field: wrong})


@pytest.mark.parametrize(
    "type, fields",
    [
        ("progress", {"progress": -1}),
        ("progress", {"progress": 100.1}),
        ("progress", {"progress": "30"}),
        ("progress", {"progress": float("nan")}),
        ("progress", {"progress": float("inf")}),
        ("progress", {"stats": []}),
        ("draft", {"progress": 101}),
        ("draft", {"message": 3}),
        ("delta", {"cites": [{"key": "1"}]}),
        ("delta", {"cites": {"key": "1", "source": "s"}}),
        ("delta", {"done": 1}),
        ("delta", {"delta": b"bytes"}),
        ("delta", {"delta": "\ud800"}),
        ("delta", {"own": "\udfff"}),
        ("delta", {"own": {"\ud800": 1}}),
        ("delta", {"own": {1: 1}}),
        ("delta", {"own": object()}),
        ("delta", {"own": {1, 2}}),
        ("stage.started", {"index": 1.5}),
        ("stage.started", {"index": 1 << 80}),
        ("llm.completed", {"usage": {"input_tokens": 1}}),
        ("llm.completed", {"cost_usd": float("nan")}),
    ],
)
def test_a_value_that_the_type_does_not_take_is_refused(type, fields):
    refused(type, {**WORK[type], **fields})


@pytest.mark.parametrize(
    "type",
    [
        *LIFECYCLE,
        *events.CONTROL,
        "",
        "nope",
        "Progress",
        "progress ",
        "x.",
        "x",
        "x.A",
        "x.a b",
        "x.ä",
        "x.a\n",
        "x." + "a" * 65,
        'x."',
        "\ud800",
        "y.own",
    ],
)
def test_a_type_outside_the_table_is_refused_to_pipelines_and_publishers(type):
    refused(type, {})


@pytest.mark.parametrize("type", ["x.a", "x.0", "x._.-", "x." + "a" * 64])
def test_an_own_type_holds_anything(type):
    assert json.loads(events.work(type, {"a": None, "b": [{}]}, max_bytes=MAX).body) == {"a": None, "b": [{}]}


@pytest.mark.parametrize("name", sorted(events.RESERVED))
@pytest.mark.parametrize("type", ["x.own", "delta"])
def test_a_reserved_field_is_refused_and_named(type, name):
    assert name in refused(type, {**WORK[type], name: "mine"}).detail


def test_the_size_of_an_events_own_fields_is_limited_exactly():
    exact = len(events.work("x.own", {"text": "a" * 500}, max_bytes=MAX).body)
    events.work("x.own", {"text": "a" * 500}, max_bytes=exact)
    refused("x.own", {"text": "a" * 500}, max_bytes=exact - 1)


def test_a_lifecycle_event_holds_a_mebibyte_and_no_more():
    room = events.MAX_LIFECYCLE_BYTES - len(events.lifecycle("run.completed", result="", duration_ms=1).body)
    events.lifecycle("run.completed", result="a" * room, duration_ms=1)
    with pytest.raises(TooLarge):
        events.lifecycle("run.completed", result="a" * (room + 1), duration_ms=1)


def test_a_lifecycle_event_leaves_out_what_is_none_but_a_result_is_always_there():
    assert (
        events.lifecycle("run.queued", pipeline="p", owner="o", retry_of=None).body == b'{"pipeline":"p","owner":"o"}'
    )
    assert json.loads(events.lifecycle("run.completed", result=None, duration_ms=1).body)["result"] is None


@pytest.mark.parametrize("event", [None, 1, "x", [], ["delta"], {}, {"type": None}, {"type": 1}, {"type": ["delta"]}])
def test_what_is_no_object_with_a_type_is_no_published_event(event):
    with pytest.raises(Invalid) as caught:
        events.published(event)
    assert caught.value.code == "event.invalid"


def test_a_published_event_comes_apart_and_stays_whole_for_its_publisher():
    event = {"type": "delta", "block": "b", "delta": "d"}
    assert events.published(event) == ("delta", {"block": "b", "delta": "d"})
    assert "type" in event


def test_a_sealed_event_has_exactly_the_form_of_the_protocol():
    fields = {"stage": "generator", "message": "Drafting", "progress": 30}
    event = events.seal(draft("progress", fields), run="0199", epoch="k3f", offset=17, ts=1763580000123)
    assert event.json == (
        b'{"type":"progress","run":"0199","id":"k3f-17","ts":1763580000123,'
        b'"stage":"generator","message":"Drafting","progress":30}'
    )
    assert (event.offset, event.type, event.id, event.run) == (17, "progress", "k3f-17", "0199")


def test_an_event_without_own_fields_is_sealed_too():
    event = events.seal(draft("run.started", {}), run="0199", epoch="k", offset=1, ts=5)
    assert event.json == b'{"type":"run.started","run":"0199","id":"k-1","ts":5}'


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), anything, max_size=4))
@BOUNDED
def test_any_json_values_come_back_and_never_break_the_one_line(fields):
    if not events.RESERVED.isdisjoint(fields):
        fields = {f"_{name}": value for name, value in fields.items()}
    event = sealed(3, "x.own", fields)
    assert b"\n" not in event.json
    assert b"\r" not in event.json
    assert b"\x00" not in event.json
    assert json.loads(event.json) == {"type": "x.own", "run": RUN, "id": f"{EPOCH}-3", "ts": 1763580000003, **fields}


@given(st.text(st.sampled_from("\n\r\x0b\x0c\x1c\x85\u2028\u2029a: "), max_size=8))
@BOUNDED
def test_line_breaks_in_values_are_escaped(text):
    event = sealed(1, "delta", {"block": text, "delta": text})
    assert len(event.json.splitlines()) == 1
    assert json.loads(event.json)["delta"] == text


def test_a_number_that_json_does_not_know_never_reaches_the_wire():
    body = events.work("x.own", {"a": float("nan"), "b": [float("-inf")]}, max_bytes=MAX).body
    assert json.loads(body) == {"a": None, "b": [None]}
    assert b"NaN" not in body


def test_a_refusal_does_not_repeat_the_value():
    problem = refused("delta", {"block": "b", "delta": ["swordfish"]})
    assert "swordfish" not in str(problem.document())


def test_a_filter_may_name_every_type_and_nothing_else():
    assert all(events.known(type) for type in [*ALL, *events.CONTROL, "x.anything"])
    assert not any(events.known(type) for type in ["", "x.", "run", "nope", "x.A", "progress,delta"])
