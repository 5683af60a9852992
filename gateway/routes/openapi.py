"""OpenAPI 3.1 and a page to read it, both made from the declared endpoints."""

import re
from functools import cache
from html import escape
from typing import Any

from pydantic.json_schema import models_json_schema

from gateway import __version__, errors
from gateway.routes.endpoint import Endpoint
from gateway.wire import json

_REF = "#/components/schemas/{model}"
JSON = "application/json"
_ALWAYS = {"auth.missing", "auth.invalid", "auth.expired", "auth.revoked"}
_BINARY_BODIES = {"/runs/{id}/events"}
_HEADERS: dict[str, dict[str, Any]] = {
    "Idempotency-Key": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!-~]([ -~]*[!-~])?$"},
    "Last-Event-ID": {"type": "string"},
    "Producer": {"type": "string", "pattern": r"^[!-:<-~]{1,128}; epoch=[0-9]{1,15}; seq=[1-9][0-9]{0,14}$"},
}


@cache
def document(endpoints: tuple[Endpoint, ...]) -> bytes:
    """The OpenAPI document of these addresses, as JSON."""
    models = {model: None for e in endpoints for model in (e.body, e.answer) if model is not None}
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    schemas: dict[str, Any] = {**definitions.get("$defs", {}), "Problem": _problem_schema()}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Runcast",
                "version": __version__,
                "description": "Runs of pipelines, streamed. The WebSocket at /ws is described in PROTOCOL.md.",
            },
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            },
        }
    )


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{endpoint.method.lower()}{endpoint.path}").strip("_"),
        "summary": endpoint.summary,
        "parameters": _parameters(endpoint),
        "responses": {**_answers(endpoint), **_refusals(endpoint)},
    }
    if endpoint.body is not None:
        schema = {"$ref": _REF.format(model=endpoint.body.__name__)}
        operation["requestBody"] = {"content": {JSON: {"schema": schema}}, "required": _needed(endpoint)}
    elif endpoint.path in _BINARY_BODIES and endpoint.method == "POST":
        kinds = {JSON: {}, "application/x-ndjson": {"schema": {"type": "string"}}}
        operation["requestBody"] = {"content": kinds, "required": True}
    if not endpoint.public:
        operation["security"] = [{"token": []}]
        operation["description"] = f"Scopes: {' '.join(endpoint.scopes) or 'none'}."
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    named = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    schema = endpoint.query.model_json_schema()
    asked = [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": _present(_inlined(value, schema)),
        }
        for name, value in schema.get("properties", {}).items()
    ]
    headed = [{"name": name, "in": "header", "required": False, "schema": _HEADERS[name]} for name in endpoint.headers]
    return named + asked + headed


def _needed(endpoint: Endpoint) -> bool:
    """Whether a body must be there: none at all counts as an empty object."""
    return endpoint.body is not None and any(field.is_required() for field in endpoint.body.model_fields.values())


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter that is there: a query has no null, it leaves out."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return {**rest, **kinds[0]}


def _inlined(value: Any, schema: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if "$ref" in value:
            return schema["$defs"][value["$ref"].rsplit("/", 1)[1]]
        return {name: _inlined(inner, schema) for name, inner in value.items()}
    return [_inlined(inner, schema) for inner in value] if isinstance(value, list) else value


def _answers(endpoint: Endpoint) -> dict[str, Any]:
    """Every success, by its status; 204 has no content."""
    found: dict[str, Any] = {}
    for status, media in ((endpoint.status, endpoint.media), *endpoint.also):
        if status == 204:
            found["204"] = {"description": "Done."}
        else:
            answer = found.setdefault(str(status), {"description": "Success.", "content": {}})
            shaped = endpoint.answer if media == JSON else None
            answer["content"][media] = (
                {} if shaped is None else {"schema": {"$ref": _REF.format(model=shaped.__name__)}}
            )
    return found


def _refusals(endpoint: Endpoint) -> dict[str, Any]:
    codes = {"rate.limited", *endpoint.problems}
    if not endpoint.public:
        codes |= _ALWAYS | ({"auth.forbidden"} if endpoint.scopes else set())
    if endpoint.names_run:
        codes.add("run.not_found")
    if endpoint.body is not None:
        codes |= {"input.invalid", "body.too_large"}
    elif endpoint.query.model_fields:
        codes.add("input.invalid")
    by_status: dict[str, list[str]] = {}
    for code in sorted(codes):
        by_status.setdefault(str(errors.STATUSES[code]), []).append(code)
    content = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}
    return {status: {"description": ", ".join(found), "content": content} for status, found in by_status.items()}


def _problem_schema() -> dict[str, Any]:
    text, integer = {"type": "string"}, {"type": "integer"}
    return {
        "type": "object",
        "properties": {
            "type": text, "title": text, "status": integer, "code": {"enum": sorted(errors.STATUSES)}, "detail": text,
            "retryable": {"type": "boolean"}, "retry_after_ms": integer, "errors": {"type": "array"},
        },
        "required": ["type", "title", "status", "code", "retryable"],
    }  # fmt: skip


@cache
def page(endpoints: tuple[Endpoint, ...]) -> str:
    """The document as one plain HTML page, without scripts."""
    described = json.loads(document(endpoints))
    schemas = described["components"]["schemas"]
    parts = [
        _described(path, method, operation, schemas)
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Runcast API</title><link rel=stylesheet href=/console/console.css><main class=docs>"
        f"<h1>Runcast API</h1><p>{escape(described['info']['description'])} "
        f"Machine-readable: <a href=/openapi.json>openapi.json</a>, <a href=/schema/events.json>events.json</a>.</p>"
        f"{''.join(parts)}</main></html>"
    )


def _described(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code><td>{escape(p['in'])}<td><code>{_short(p['schema'])}</code>"
        for p in operation["parameters"]
    )
    answers = "".join(
        f"<tr><td>{status}<td>{escape(answer['description'])}" for status, answer in operation["responses"].items()
    )
    body = _shape("Body", operation.get("requestBody", {}), schemas)
    told = next(iter(operation["responses"].values()))  # successes come first
    return (
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])} "
        f"{escape(operation.get('description', ''))}</p>"
        + (f"<table>{rows}</table>" if rows else "")
        + f"{body}<h3>Answers</h3><table>{answers}</table>{_shape('Answer in JSON', told, schemas)}</section>"
    )


def _shape(title: str, carrier: dict[str, Any], schemas: dict[str, Any]) -> str:
    """The schema of a body or of an answer, if it has one."""
    reference = carrier.get("content", {}).get(JSON, {}).get("schema", {}).get("$ref", "")
    schema = schemas.get(reference.rsplit("/", 1)[-1])
    return f"<h3>{title}</h3><pre>{escape(_pretty(schema))}</pre>" if schema else ""


def _short(schema: dict[str, Any]) -> str:
    return escape(" | ".join(str(s.get("type", s.get("enum", ""))) for s in schema.get("anyOf", [schema])))


def _pretty(schema: Any) -> str:
    return json.pretty(schema)
