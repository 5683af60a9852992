"""Typed events: the classes are those of the schema, and nothing that came is lost."""

import typing

import pytest
from hypothesis import given

from gateway.wire.json import dumps, loads
from gateway.wire.schema import schema
from gateway.wire.state import State
from runcast.events import TYPES, Event, Progress, RunFailed, parse
from runcast.state import RunState
from tests.wire.doubles import BOUNDED, LIFECYCLE, OPTIONAL, WORK, sealed, streams

PLACE = {"run": "r", "id": "e-1", "ts": 5}
SCHEMA = schema()["$defs"]
EVENTS = {type: model for type, model in SCHEMA.items() if "id" in model.get("properties", {})}


def test_there_is_a_class_for_each_type_of_the_schema():
    assert TYPES.keys() - {"gap"} == EVENTS.keys() - {"x.*"}


@pytest.mark.parametrize("type", TYPES)
def test_its_fields_are_those_of_the_schema(type):
    model = TYPES[type].model_json_schema(by_alias=True)
    assert model["properties"].keys() - {"id", "ts"} == SCHEMA[type]["properties"].keys() - {"id", "ts"}
    assert set(model["required"]) - {"id", "ts"} == set(SCHEMA[type]["required"]) - {"id", "ts"}


def test_each_class_names_one_type():
    assert len(set(TYPES.values())) == len(TYPES)
    for type, model in TYPES.items():
        assert typing.get_args(model.model_fields["type"].annotation) == (type,)


def test_an_unknown_type_and_unknown_fields_are_kept():
    seen = {"type": "x.rows", **PLACE, "rows": [1, {"a": None}], "more": 1.5}
    event = parse(seen)
    assert type(event) is Event
    assert (event.type, event.rows, event.more) == ("x.rows", [1, {"a": None}], 1.5)
    known = parse({"type": "progress", **PLACE, "stage": "s", "message": "m", "progress": 3, "later": "x"})
    assert isinstance(known, Progress)
    assert known.later == "x"


def test_a_known_type_with_fields_of_another_time_is_a_plain_event():
    seen = {"type": "run.failed", **PLACE, "error": "just a text", "duration_ms": 1}
    event = parse(seen)
    assert type(event) is Event
    assert event.fields() == seen
    assert event.terminal


def test_the_parts_of_an_event_are_objects_too():
    error = {"code": "pipeline.error", "message": "no", "retryable": False, "incident": "i1"}
    event = parse({"type": "run.failed", **PLACE, "error": error, "duration_ms": 1})
    assert isinstance(event, RunFailed)
    assert (event.error.incident, event.status) == ("i1", "failed")


@given(streams)
@BOUNDED
def test_events_come_out_as_they_went_in_and_fold_as_the_gateway_folds(stream):
    theirs, ours = State(), RunState()
    for event in stream:
        theirs.apply(event)
        seen = parse(loads(event.json))
        assert seen.fields() == loads(event.json)
        ours.apply(seen)
        ours.apply(seen)  # what it has already changes nothing
    told = loads(dumps(theirs.fields()))
    whole = {name: value for name, value in ours.model_dump(by_alias=True).items() if name in told}
    if whole["error"] is not None:
        whole["error"].pop("incident")
    assert whole == told
    assert ours.finished == theirs.status.terminal


@pytest.mark.parametrize("type", [*LIFECYCLE, *WORK])
def test_every_type_is_of_its_own_class_with_all_its_fields(type):
    fields = {**(LIFECYCLE | WORK)[type], **OPTIONAL.get(type, {})}
    seen = loads(sealed(1, type, fields).json)
    event = parse(seen)
    assert type.startswith("x.") or isinstance(event, TYPES[type])
    assert event.fields() == seen
