"""Dialects: the same stream spelled for clients that were not written for Runcast (PROTOCOL section 10).

Rule 1: a dialect adds nothing to a stream and moves nothing in it: a frame has the `id:` of its event, and an event
without a counterpart has no frame.
Rule 2: whichever cursor a connection joined at, the frames from there on are those of the whole stream.
"""

from collections.abc import Callable, Mapping

from gateway.wire.dialects.content import Content
from gateway.wire.dialects.plain import Plain
from gateway.wire.dialects.spelling import Remembering
from gateway.wire.dialects.workflow import WORKFLOW
from gateway.wire.framing import SSE, Framing

__all__ = ["DIALECTS", "NATIVE", "WORKFLOW", "Remembering"]

NATIVE = "native"

# How a connection gets its framing; what is asked for by `?types=` goes in.
DIALECTS: Mapping[str, Callable[[frozenset[str] | None], Framing]] = {
    NATIVE: lambda _types: SSE,
    "content": Content,
    "workflow": lambda _types: WORKFLOW,
    "plain": Plain,
}
