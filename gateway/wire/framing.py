"""How frames are spelled on a connection: events and control frames in, transport bytes out.

Rule 1: a framing has no state (but one), so one value serves every connection of its kind, and the bytes it gives for
an event can be shared by all of them.
Rule 2: whatever stands in the log fits on the wire: an event's JSON is one line by construction.
"""

from collections.abc import Iterable
from typing import Protocol

from gateway.wire import websocket
from gateway.wire.control import Control
from gateway.wire.cursor import join_composite
from gateway.wire.events import Event


class Framing(Protocol):
    """One way to spell a stream. `ping` asks the other side for a sign of life; empty where there is no such thing.

    `stateful`: what it spelled must be sent, as the next thing it spells builds on that.
    """

    ping: bytes
    stateful: bool

    def events(self, events: Iterable[Event]) -> bytes:
        """All of the events as one piece of wire."""

    def control(self, frame: Control) -> bytes:
        """One control frame."""


class Sse:
    """Server-sent events, native dialect (PROTOCOL section 5; WHATWG HTML, section 9.2)."""

    ping = b""
    stateful = False

    def events(self, events: Iterable[Event]) -> bytes:
        return b"".join(_sse_event(event.id, event) for event in events)

    def control(self, frame: Control) -> bytes:
        retry = b"" if frame.retry_ms is None else b"retry: %d\n" % frame.retry_ms
        return retry + b"event: %b\ndata: %b\n\n" % (frame.type.encode(), frame.json)


class CompositeSse(Sse):
    """Several runs over one response: each `id:` holds the cursors of all of them, in the order they were asked for.

    The one framing that remembers: how far each run has come on its connection. `cursors` is where they start.
    """

    stateful = True

    def __init__(self, cursors: dict[str, str]) -> None:
        self._cursors = cursors

    def events(self, events: Iterable[Event]) -> bytes:
        return b"".join(_sse_event(self._advance(event), event) for event in events)

    def _advance(self, event: Event) -> str:
        self._cursors[event.run] = event.id
        return join_composite(self._cursors.values())


class Chunked:
    """Another framing's bytes as one HTTP/1.1 chunk (RFC 9112, section 7.1), for writing past the HTTP layer."""

    ping = b""

    def __init__(self, inner: Framing) -> None:
        self._inner = inner
        self.stateful = inner.stateful

    def events(self, events: Iterable[Event]) -> bytes:
        return _chunk(self._inner.events(events))

    def control(self, frame: Control) -> bytes:
        return _chunk(self._inner.control(frame))


class WebSocket:
    """One unfragmented text frame for each event (PROTOCOL section 6; RFC 6455, section 5.2)."""

    ping = websocket.frame(websocket.PING)
    stateful = False

    def events(self, events: Iterable[Event]) -> bytes:
        return b"".join(websocket.text(event.json) for event in events)

    def control(self, frame: Control) -> bytes:
        return websocket.text(frame.json)


def _sse_event(id: str, event: Event) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (id.encode(), event.type.encode(), event.json)


def _chunk(data: bytes) -> bytes:
    # An empty chunk would end the response.
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


SSE = Sse()
SSE_CHUNKED = Chunked(SSE)
WEBSOCKET = WebSocket()
