"""Control frames: what the gateway says about one connection (PROTOCOL section 2). They have no cursor."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.wire import json

VERSION = 1

# Their fields, as JSON Schema's types.
CONTROL: dict[str, dict[str, Any]] = {
    "hello": {"connection": "string", "version": "integer", "heartbeat_ms": "integer", "retry_ms": "integer"},
    "heartbeat": {"ts": "integer"},
    "gap": {"run": "string", "after": "string", "from": "string"},
    "reconnect": {"after_ms": "integer", "reason": "string"},
    "auth.expiring": {"expires_at": "integer"},
}


class Control(NamedTuple):
    """A control frame's JSON; `retry_ms`, when given, also goes out as an SSE `retry:` line."""

    type: str
    json: bytes
    retry_ms: int | None = None


def hello(
    *, connection: str, heartbeat_ms: int, retry_ms: int, resume: str | Mapping[str, str] | None = None
) -> Control:
    """First on every SSE response and WebSocket. `resume` (SSE only): a verdict, or one for each of several runs."""
    fields: dict[str, Any] = {
        "connection": connection,
        "version": VERSION,
        "heartbeat_ms": heartbeat_ms,
        "retry_ms": retry_ms,
    }
    if resume is not None:
        fields["resume"] = resume
    return _frame("hello", fields, retry_ms)


def heartbeat(ts: int) -> Control:
    return _frame("heartbeat", {"ts": ts})


def gap(*, run: str, after: str, first: str) -> Control:
    """`after` is the cursor the client came with, `first` the first event that is still held."""
    return _frame("gap", {"run": run, "after": after, "from": first})


def reconnect(*, after_ms: int, reason: str) -> Control:
    return _frame("reconnect", {"after_ms": after_ms, "reason": reason}, after_ms)


def auth_expiring(expires_at: int) -> Control:
    return _frame("auth.expiring", {"expires_at": expires_at})


def _frame(type: str, fields: dict[str, Any], retry_ms: int | None = None) -> Control:
    return Control(type, json.dumps({"type": type, **fields}), retry_ms)
