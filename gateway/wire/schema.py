"""JSON Schema of every event and control frame, for `GET /schema/events.json` and the clients' types."""

from typing import Any

from pydantic.json_schema import models_json_schema

from gateway.wire.control import CONTROL
from gateway.wire.events import LIFECYCLE, OWN_TYPE, WORK, Fields, Own


def schema() -> dict[str, Any]:
    """`GET /schema/events.json`: a JSON Schema for each type under `$defs`, any of which is an event."""
    models: dict[str, type[Fields]] = {**LIFECYCLE, **WORK, "x.*": Own}
    unique = list(dict.fromkeys(models.values()))
    refs, definitions = models_json_schema([(model, "validation") for model in unique], ref_template="#/$defs/{model}")
    shared: dict[str, Any] = definitions.get("$defs", {})
    events: dict[str, Any] = {}
    for name, model in models.items():
        fields = dict(shared[refs[(model, "validation")]["$ref"].rsplit("/", 1)[1]])
        spelled: dict[str, Any] = (
            {"const": name} if name != "x.*" else {"type": "string", "pattern": f"^{OWN_TYPE.pattern}$"}
        )
        events[name] = {
            **fields,
            "title": name,
            "properties": {**_envelope(), **fields.get("properties", {}), "type": spelled},
            "required": ["type", "run", "id", "ts", *fields.get("required", [])],
        }
    used = {part: shared[part] for part in ("Failure", "Source", "Tokens")}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Runcast events, protocol version 1",
        "$defs": {**used, **events, **_control()},
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in (*events, *CONTROL)],
    }


def _envelope() -> dict[str, Any]:
    return {
        "run": {"type": "string", "description": "id of the run"},
        "id": {"type": "string", "description": "cursor", "pattern": "^[a-z0-9]{1,13}-[1-9][0-9]*$"},
        "ts": {"type": "integer", "description": "Unix milliseconds"},
    }


def _control() -> dict[str, Any]:
    return {
        type: {
            "title": type,
            "description": "Control frame: concerns one connection, has no id.",
            "type": "object",
            "properties": {"type": {"const": type}, **{name: {"type": kind} for name, kind in fields.items()}},
            "required": ["type", *fields],
        }
        for type, fields in CONTROL.items()
    }
