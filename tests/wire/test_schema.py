"""GET /schema/events.json: the table of events as JSON Schema."""

import json

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from gateway.wire import control, events
from gateway.wire.schema import schema
from tests.wire.doubles import FEW, LIFECYCLE, OPTIONAL, WORK, sealed, streams

SCHEMA = schema()
ALL = {**LIFECYCLE, **WORK}


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]})


def name_of(type: str) -> str:
    return "x.*" if type.startswith("x.") else type


def test_it_is_a_valid_schema_and_is_plain_json():
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_every_type_has_a_definition_and_every_reference_leads_somewhere():
    assert {name_of(type) for type in ALL} | set(events.CONTROL) <= set(SCHEMA["$defs"])
    refs = [part.split('"')[0] for part in json.dumps(SCHEMA).split('"$ref": "#/$defs/')[1:]]
    assert set(refs) <= set(SCHEMA["$defs"])


@pytest.mark.parametrize("type", ALL)
def test_a_sealed_event_is_valid_by_its_own_definition_and_as_an_event(type):
    for fields in (ALL[type], {**ALL[type], **OPTIONAL.get(type, {})}, {**ALL[type], "more": 1}):
        event = json.loads(sealed(9, type, fields).json)
        validator(name_of(type)).validate(event)
        Draft202012Validator(SCHEMA).validate(event)


@pytest.mark.parametrize("type", ALL)
def test_a_definition_refuses_an_event_that_lacks_a_field_or_has_another_type(type):
    event = json.loads(sealed(9, type, ALL[type]).json)
    required = ["type", "run", "id", "ts", *(name for name in ALL[type] if type != "x.own")]
    for missing in required:
        assert not validator(name_of(type)).is_valid({name: event[name] for name in event if name != missing})
    assert not validator(name_of(type)).is_valid({**event, "type": "nope"})
    assert not validator(name_of(type)).is_valid({**event, "id": "0"})


@given(streams)
@FEW
def test_every_event_of_any_stream_is_valid(stream):
    for event in stream:
        validator(name_of(event.type)).validate(json.loads(event.json))


@pytest.mark.parametrize(
    "frame",
    [
        control.hello(connection="c", heartbeat_ms=1, retry_ms=2),
        control.hello(connection="c", heartbeat_ms=1, retry_ms=2, resume="gap"),
        control.heartbeat(5),
        control.gap(run="r", after="", first="k-3"),
        control.reconnect(after_ms=3, reason="server.draining"),
        control.auth_expiring(12),
    ],
)
def test_a_control_frame_is_valid_by_its_own_definition(frame):
    validator(frame.type).validate(json.loads(frame.json))
