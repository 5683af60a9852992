"""Folded replay: fewer events of the same types that say the same (PROTOCOL section 3).

Rule 1, the law: for every prefix of the output that ends at cursor k, the state it gives is the state that all
events up to k give. So a connection may break anywhere and nothing is lost.
Rule 2, how it is kept: an event may take in the kept event right before it, and no other, and only when it says all
that one said. Nothing that a client could have stopped at lies between the two.
"""

from collections.abc import Iterable
from typing import Any

from gateway.wire import json
from gateway.wire.events import Event
from gateway.wire.status import AFTER

_FOLDED = frozenset({"progress", "draft", "delta"})


def select(events: Iterable[Event], types: frozenset[str] | None) -> list[Event]:
    """The events that pass a filter; lifecycle always does."""
    return list(events) if types is None else [e for e in events if e.type in types or e.type in AFTER]


def fold(events: Iterable[Event], *, max_bytes: int) -> list[Event]:
    """Fold one page of one run's past. No joined event's own fields exceed `max_bytes`."""
    folded: list[Event] = []
    run: list[Event] = []  # neighbours of one foldable type, not yet folded
    for event in events:
        if run and event.type != run[0].type:
            folded += _neighbours(run, max_bytes)
            run = []
        if event.type in _FOLDED:
            run.append(event)
        else:
            folded.append(event)
    return folded + _neighbours(run, max_bytes)


def _neighbours(events: list[Event], max_bytes: int) -> list[Event]:
    if len(events) < 2:
        return events
    return _join(events, max_bytes) if events[0].type == "delta" else _supersede(events)


def _supersede(events: list[Event]) -> list[Event]:
    """Drop each `progress` or `draft` whose next neighbour is of the same stage and has all of its fields."""
    parsed = [json.loads(event.json) for event in events]
    kept = [
        event
        for event, said, later in zip(events, parsed, parsed[1:], strict=False)
        if not (said["stage"] == later["stage"] and _says(said) <= _says(later))
    ]
    return [*kept, events[-1]]


def _says(fields: dict[str, Any]) -> set[str]:
    # A field that is null says nothing.
    return {name for name, value in fields.items() if value is not None}


_BARE = len(b'{"type":"delta","run":"","id":"","ts":0,"block":"","delta":""}')
_FIELDS = frozenset({"type", "run", "id", "ts", "block", "delta"})  # every delta has these
_JOINED = _FIELDS | {"cites", "done"}


def _join(events: list[Event], max_bytes: int) -> list[Event]:
    """Join neighbouring deltas of one block: text and cites concatenated, the rest as in the last part."""
    joined: list[Event] = []
    parts: list[dict[str, Any]] = []
    last, size = events[0], 0
    once = _BARE + len(last.run)  # of a part's bytes, these are in the whole only once
    for event in events:
        said = json.loads(event.json)
        size += len(event.json) - once
        if parts and not (size <= max_bytes and _joinable(parts[-1], said)):
            joined.append(_joined(last, parts))
            parts = []
        if not parts:
            size = len(event.json)
        parts.append(said)
        last = event
    return [*joined, _joined(last, parts)]


def _joinable(before: dict[str, Any], after: dict[str, Any]) -> bool:
    # A publisher may add fields of its own to a delta; they cannot be joined, so such a delta stays as it is.
    return before["block"] == after["block"] and _plain(before) and _plain(after)


def _plain(said: dict[str, Any]) -> bool:
    return len(said) == len(_FIELDS) or said.keys() <= _JOINED


def _joined(last: Event, parts: list[dict[str, Any]]) -> Event:
    if len(parts) == 1:
        return last
    whole = {**parts[-1], "delta": "".join(part["delta"] for part in parts)}
    cites = [cite for part in parts for cite in part.get("cites") or ()]
    if cites:
        whole["cites"] = cites
    done = next((part["done"] for part in reversed(parts) if part.get("done") is not None), None)
    if done is not None:
        whole["done"] = done
    return last._replace(json=json.dumps(whole))
