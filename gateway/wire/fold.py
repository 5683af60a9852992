"""Folded replay: fewer events of the same types that say the same (PROTOCOL section 3).

Rule 1, the law: for every prefix of the output that ends at cursor k, the state it gives is the state that all
events up to k give. So a connection may break anywhere and nothing is lost.
Rule 2, how it is kept: an event may take in the kept event right before it, and no other, and only when it says all
that one said. Nothing that a client could have stopped at lies between the two.
"""

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any

from gateway.wire import json
from gateway.wire.events import Event
from gateway.wire.status import AFTER

_SUPERSEDED = frozenset({"progress", "draft"})


def select(events: Iterable[Event], types: frozenset[str] | None) -> list[Event]:
    """The events that pass a filter; lifecycle always does."""
    return list(events) if types is None else [e for e in events if e.type in types or e.type in AFTER]


def fold(events: Iterable[Event], *, max_bytes: int) -> list[Event]:
    """Fold one page of one run's past. No joined event's own fields exceed `max_bytes`."""
    folded: list[Event] = []
    for type, neighbours in groupby(events, key=attrgetter("type")):
        if type == "delta":
            folded += _join(neighbours, max_bytes)
        elif type in _SUPERSEDED:
            folded += _supersede(list(neighbours))
        else:
            folded += neighbours
    return folded


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


def _join(events: Iterable[Event], max_bytes: int) -> list[Event]:
    """Join neighbouring deltas of one block: text and cites concatenated, the rest as in the last part."""
    joined: list[Event] = []
    parts: list[tuple[Event, dict[str, Any]]] = []
    block, size = None, 0
    for event in events:
        said = json.loads(event.json)
        # A publisher may add fields of its own to a delta; they cannot be joined, so such a delta stays as it is.
        plain = len(said) == len(_FIELDS) or said.keys() <= _JOINED
        size += len(event.json) - len(event.run) - _BARE  # which are in the whole only once
        if not (plain and said["block"] == block and size <= max_bytes):
            joined += _joined(parts)
            parts, size = [], len(event.json)
            block = said["block"] if plain else None
        parts.append((event, said))
    return [*joined, *_joined(parts)]


def _joined(parts: list[tuple[Event, dict[str, Any]]]) -> list[Event]:
    if len(parts) < 2:
        return [event for event, _ in parts]
    last, said = parts[-1]
    whole = {**said, "delta": "".join([part["delta"] for _, part in parts])}
    more = [part for _, part in parts if len(part) > len(_FIELDS)]
    cites = [cite for part in more for cite in part.get("cites") or ()]
    if cites:
        whole["cites"] = cites
    done = [part["done"] for part in more if part.get("done") is not None]
    if done:
        whole["done"] = done[-1]
    return [last._replace(json=json.dumps(whole))]
