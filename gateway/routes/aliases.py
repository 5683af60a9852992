"""Aliases: further addresses of runs' streams, for front ends that keep their own (PROTOCOL section 10).

Rule 1: one table and no code for any front end: an alias is three words, and becomes an Endpoint like every other.
Rule 2: an alias takes no address from the protocol, and no two of them could both be meant.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic import ConfigDict, Field, create_model
from quart import Response

from gateway.auth import Scope
from gateway.broker import Run
from gateway.errors import Invalid
from gateway.routes.endpoint import Call, Endpoint, Handler
from gateway.routes.register import ENDPOINTS, SOCKET_PATH
from gateway.routes.streams import ENDED, EVENT_STREAM, STREAMING, JoinQuery, stream_or_end
from gateway.wire.dialects import DIALECTS

LATEST = "latest:"
_SEGMENT = re.compile(r"[\w.~-]+|{[A-Za-z_]\w*}", re.ASCII)
_FREE = re.compile(r"{(\w+)}")
_PARAMETER = re.compile(r"[\w.-]{1,64}", re.ASCII)


class Alias(NamedTuple):
    """`pattern`: a path whose parts may be `{free}`. `run`: which free part or query parameter names the run, or
    `latest:<pipeline>` for the newest that the caller has.
    """

    pattern: str
    run: str
    dialect: str


class AliasError(ValueError):
    """An alias that cannot be served; the message is one line."""


BUILT_IN = (
    Alias("/api/autopilot/stream", "taskId", "plain"),
    Alias("/api/generation/stream", "streamId", "plain"),
    Alias("/api/v1/agents/{agent_id}/tasks/{task_id}/events/stream", "task_id", "workflow"),
)


class AliasQuery(JoinQuery):
    """A foreign front end may send parameters that mean nothing here."""

    model_config = ConfigDict(extra="ignore")


def declare(configured: Iterable[Alias] = ()) -> tuple[Endpoint, ...]:
    """Endpoints of the configured aliases and of those built in that do not stand in their way. Raises AliasError."""
    own: list[Alias] = []
    for alias in configured:
        _check(alias)
        for path in (*(endpoint.path for endpoint in ENDPOINTS), SOCKET_PATH, *(other.pattern for other in own)):
            if _overlap(alias.pattern, path):
                raise AliasError(f"{alias.pattern} is already {path}")
        own.append(alias)
    kept = [alias for alias in BUILT_IN if not any(_overlap(alias.pattern, other.pattern) for other in own)]
    return tuple(map(_endpoint, (*own, *kept)))


def _check(alias: Alias) -> None:
    first, *segments = alias.pattern.split("/")
    if first or not segments or not all(map(_SEGMENT.fullmatch, segments)):
        raise AliasError(f"{alias.pattern!r} is not a path like /a/{{b}}/c")
    free = _FREE.findall(alias.pattern)
    if len(set(free)) < len(free):
        raise AliasError(f"{alias.pattern}: a name stands there twice")
    if alias.dialect not in DIALECTS:
        raise AliasError(f"{alias.pattern}: {alias.dialect!r} is not a dialect; there are {', '.join(DIALECTS)}")
    if alias.run.startswith(LATEST):
        if alias.run == LATEST:
            raise AliasError(f"{alias.pattern}: {LATEST} needs a pipeline")
    elif alias.run not in free and (not _PARAMETER.fullmatch(alias.run) or alias.run in JoinQuery.model_fields):
        raise AliasError(f"{alias.pattern}: {alias.run!r} cannot name the run")


def _overlap(one: str, other: str) -> bool:
    """Whether some address is meant by both patterns."""
    pairs = list(zip(one.split("/"), other.split("/"), strict=False))
    return one.count("/") == other.count("/") and all(a == b or "{" in a or "{" in b for a, b in pairs)


def _endpoint(alias: Alias) -> Endpoint:
    free = _FREE.findall(alias.pattern)
    query: type[JoinQuery] = AliasQuery
    if alias.run not in free and not alias.run.startswith(LATEST):
        named: dict[str, Any] = {"named": (str, Field(alias=alias.run, min_length=1, description="the run"))}
        query = create_model("NamingQuery", __base__=AliasQuery, **named)
    return Endpoint(
        "GET",
        _FREE.sub(lambda part: f"{{{_place(part[1], alias)}}}", alias.pattern),
        _handler(alias, query, by_path=alias.run in free),
        f"An alias of GET /runs/{{id}}/events, in the dialect {alias.dialect}.",
        scopes=(Scope.READ,),
        joins=True,
        action="watch",
        query=query,
        media=EVENT_STREAM,
        also=(ENDED,),
        headers=("Last-Event-ID",),
        problems=("run.not_found", *STREAMING),
        dialect=alias.dialect,
    )


def _place(name: str, alias: Alias) -> str:
    """`{id}` names the run in every Endpoint; what else is free means nothing."""
    if name == alias.run:
        return "id"
    return f"any_{name}"


def _handler(alias: Alias, query: type[JoinQuery], *, by_path: bool) -> Handler:
    async def stream(call: Call) -> Response:
        run = call.run if by_path else await _find(call, alias.run)
        asked = call.query(query)
        join = asked.join(call.request.headers.get("Last-Event-ID"))
        return stream_or_end(call, [(run, join)], dialect=asked.dialect or alias.dialect)

    return stream


async def _find(call: Call, named: str) -> Run:
    """Raises NotFound, and Invalid when the query names no run at all."""
    views = call.services.runs.views
    if named.startswith(LATEST):
        return await views.latest(call.caller, named.removeprefix(LATEST))
    asked = call.request.args.get(named)
    if not asked:
        raise Invalid(detail=f"{named}: names the run", errors=[{"path": [named], "message": "missing"}])
    return await views.find(call.caller, asked)
