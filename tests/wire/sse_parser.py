"""A strict parser of event streams, written from WHATWG HTML section 9.2.6 and from nothing of ours."""

import re
from typing import NamedTuple


class Message(NamedTuple):
    event: str
    data: str
    last_event_id: str


class Parsed(NamedTuple):
    messages: list[Message]
    comments: list[str]
    retries: list[int]
    rest: str


def parse(data: bytes) -> Parsed:
    """The whole of a stream. `rest` is what stands after the last blank line, which a browser throws away."""
    text = data.decode("utf-8", errors="strict").removeprefix("\ufeff")
    parsed = Parsed([], [], [], "")
    last_id = event = ""
    lines: list[str] = []
    pieces = re.split(r"\r\n|\n|\r", text)
    rest = ""
    for piece in pieces[:-1]:
        rest += piece
        if not piece:
            if lines:
                parsed.messages.append(Message(event or "message", "\n".join(lines), last_id))
            event, lines, rest = "", [], ""
            continue
        name, colon, value = piece.partition(":")
        value = value.removeprefix(" ")
        if colon and not name:
            parsed.comments.append(value)
        elif name == "event":
            event = value
        elif name == "data":
            lines.append(value)
        elif name == "id" and "\x00" not in value:
            last_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            parsed.retries.append(int(value))
        else:
            raise AssertionError(f"no field of an event stream: {piece!r}")
    return parsed._replace(rest=rest + pieces[-1])
