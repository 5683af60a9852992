"""What the dialects share: how a frame and a comment are spelled, and how one remembers.

Rule 1: what a dialect says of an event hangs on this event alone, so it is worked out once for all connections. Only
the terminal event's frame may also tell the last thing that was said of a kind.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

from gateway.wire import json
from gateway.wire.control import Control
from gateway.wire.events import Event
from gateway.wire.state import State
from gateway.wire.status import TERMINAL_TYPES

# A batch goes to all its viewers in one go; the latest few events are all that is asked for again.
CACHED = 32


class Told(NamedTuple):
    """What an event comes to: its frame, and what is to be remembered of it (None: nothing new)."""

    frame: bytes = b""
    memory: str | None = None


NOTHING = Told()


def spell(event: Event, fields: dict[str, Any], *, name: str | None) -> bytes:
    """One event of a stream with JSON of the dialect's own; without a name, `onmessage` gets it."""
    line = b"" if name is None else b"event: %b\n" % name.encode()
    return b"id: %b\n%bdata: %b\n\n" % (event.id.encode(), line, json.dumps(fields))


def comment(frame: Control) -> bytes:
    """A control frame for clients that do not know of it: one line that they skip, and the `retry:` they obey."""
    retry = b"" if frame.retry_ms is None else b"retry: %d\n" % frame.retry_ms
    return retry + b": %b %b\n\n" % (frame.type.encode(), frame.json)


class Remembering:
    """A dialect whose end tells what was said last: one for each connection.

    `types`: which of the events are to be shown (None: all). `remembers` are the types that the memory is made of; the
    connection must be given these too. The memory counts at the end only, and the last word wins; so it may be
    taken from any state between the cursor of the join and the end, and events may be given again.
    """

    ping = b""
    stateful = False  # spelling something again does no harm
    remembers: ClassVar[frozenset[str]]

    def __init__(self, types: frozenset[str] | None = None) -> None:
        self._types = types
        self.memory: str | None = None

    def recall(self, state: State) -> None:
        """Take over what was said before this connection."""
        raise NotImplementedError

    def events(self, events: Iterable[Event]) -> bytes:
        return b"".join(map(self._frame, events))

    def control(self, frame: Control) -> bytes:
        return comment(frame)

    def _frame(self, event: Event) -> bytes:
        if event.type in TERMINAL_TYPES:
            return self._end(event, json.loads(event.json))
        told = self._tell(event)
        if told.memory is not None:
            self.memory = told.memory
        return told.frame if self._types is None or event.type in self._types else b""

    def _tell(self, event: Event) -> Told:
        """What an event that is not the last comes to."""
        raise NotImplementedError

    def _end(self, event: Event, said: dict[str, Any]) -> bytes:
        """The terminal event's frame."""
        raise NotImplementedError


def failure(event: Event, said: dict[str, Any]) -> tuple[str, bool]:
    """Of a failed or cancelled run: the message, and whether another try may help."""
    if event.type == "run.cancelled":
        return said["reason"], False
    return said["error"]["message"], said["error"]["retryable"]
