"""Server-sent events: bytes in, messages out (WHATWG HTML, "Interpreting an event stream").

Rule 1: no I/O and no clock. Whoever owns the bytes feeds them, cut anywhere: inside a character, a line ending, a
field's name.
Rule 2: a message comes out as soon as its blank line is in, so CR ends a line at once and a LF right after it,
perhaps in the next piece, is the rest of the same ending.
Rule 3: what has no blank line after it when the stream ends was never sent.
"""

import codecs
import re
from typing import NamedTuple

_ENDING = re.compile(r"\r\n|\n|\r")
_BOM = "\ufeff"
_MOST_DIGITS = 16  # what is longer is no time


class Message(NamedTuple):
    """`event` is "message" when the stream named none; `id` is the last one seen, also when this message had none."""

    event: str
    data: str
    id: str


class SseParser:
    """`retry`: the last `retry:` in milliseconds. `pending`: characters of a message whose end has not come."""

    def __init__(self) -> None:
        self.retry: int | None = None
        self.pending = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun: list[str] = []  # the line that has no ending yet, in pieces: joined once
        self._first = True
        self._after_cr = False
        self._data: list[str] = []
        self._event = ""
        self._id = ""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that these bytes complete."""
        text = self._decoder.decode(data)
        if not text:
            return []
        if self._first:
            self._first = False
            text = text.removeprefix(_BOM)
        if self._after_cr and text.startswith("\n"):
            text = text[1:]
            self._after_cr = False
        if not text:
            return []
        self._after_cr = text.endswith("\r")
        *lines, rest = _ENDING.split(text)
        messages = []
        for line in lines:
            self.pending += len(line)
            if self._begun:
                self._begun.append(line)
                whole = "".join(self._begun)
                self._begun.clear()
            else:
                whole = line
            if (message := self._line(whole)) is not None:
                messages.append(message)
        if rest:
            self.pending += len(rest)
            self._begun.append(rest)
        return messages

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit() and len(value) < _MOST_DIGITS:
                self.retry = int(value)
        return None

    def _dispatch(self) -> Message | None:
        data, self._data = self._data, []
        self.pending = 0
        event, self._event = self._event or "message", ""
        return Message(event, "\n".join(data), self._id) if data else None
