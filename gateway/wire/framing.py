"""How frames are spelled on a connection: events and control frames in, transport bytes out.

Rule 1: a framing has no state, so one value serves every connection of its kind, and the bytes it gives for an
event can be shared by all of them.
Rule 2: whatever stands in the log fits on the wire: an event's JSON is one line by construction.
"""

from collections.abc import Iterable
from typing import Protocol

from gateway.wire import websocket
from gateway.wire.control import Control
from gateway.wire.events import Event


class Framing(Protocol):
    """One way to spell a stream."""

    def events(self, events: Iterable[Event]) -> bytes:
        """All of the events as one piece of wire."""

    def control(self, frame: Control) -> bytes:
        """One control frame."""


class Sse:
    """Server-sent events, native dialect (PROTOCOL section 5; WHATWG HTML, section 9.2)."""

    def events(self, events: Iterable[Event]) -> bytes:
        return b"".join(
            b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.type.encode(), event.json)
            for event in events
        )

    def control(self, frame: Control) -> bytes:
        retry = b"" if frame.retry_ms is None else b"retry: %d\n" % frame.retry_ms
        return retry + b"event: %b\ndata: %b\n\n" % (frame.type.encode(), frame.json)


class Chunked:
    """Another framing's bytes as one HTTP/1.1 chunk (RFC 9112, section 7.1), for writing past the HTTP layer."""

    def __init__(self, inner: Framing) -> None:
        self._inner = inner

    def events(self, events: Iterable[Event]) -> bytes:
        return _chunk(self._inner.events(events))

    def control(self, frame: Control) -> bytes:
        return _chunk(self._inner.control(frame))


class WebSocket:
    """One unfragmented text frame for each event (PROTOCOL section 6; RFC 6455, section 5.2)."""

    def events(self, events: Iterable[Event]) -> bytes:
        return b"".join(websocket.text(event.json) for event in events)

    def control(self, frame: Control) -> bytes:
        return websocket.text(frame.json)


def _chunk(data: bytes) -> bytes:
    # An empty chunk would end the response.
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


SSE = Sse()
SSE_CHUNKED = Chunked(SSE)
WEBSOCKET = WebSocket()
