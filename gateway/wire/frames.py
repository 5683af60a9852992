"""A client's WebSocket frames, taken apart in whatever pieces they come (RFC 6455, sections 5 and 8.1).

Rule 1: no I/O and no time: bytes are fed, and what they mean is asked for, one thing after the other.
Rule 2: nobody waits for the rest of what is wrong already: a frame is judged by its first bytes, text by each piece.
Rule 3: nothing is kept of what has been told. Between two messages there is only the state that every frame needs.
"""

import codecs
import io
from typing import NamedTuple

from gateway.wire.websocket import BINARY, CLOSE, CONTINUES, MAX_CONTROL, PING, PONG, TEXT

try:
    from websockets.speedups import apply_mask
except ImportError:  # where there is no compiler and no wheel
    from websockets.utils import apply_mask

PROTOCOL_ERROR, NOT_TEXT = 1002, 1007

_OPCODES = frozenset({CONTINUES, TEXT, BINARY, CLOSE, PING, PONG})
_NONE_OPEN = -1
# What a close frame may say below 3000, after the registry of section 7.4.
_CLOSES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
_utf8 = codecs.getincrementaldecoder("utf-8")


class Ping(NamedTuple):
    payload: bytes


class Closing(NamedTuple):
    """A close frame has come, or (`broken`) what is no frame: nothing is read any more.

    `answer`: the payload of the close frame that is due.
    """

    answer: bytes
    broken: bool = False

    @property
    def code(self) -> int | None:
        """What the two sides part with; None where the client gave no reason."""
        return int.from_bytes(self.answer[:2]) if self.answer else None


class Passed:
    """A frame that asks for nothing: a pong, or a piece of a message."""


PASSED = Passed()
Item = str | bytes | Ping | Closing | Passed


class _Broken(Exception):
    """Not as a client may send it. Closes with `code`."""

    def __init__(self, code: int = PROTOCOL_ERROR) -> None:
        self.code = code


class FrameReader:
    """`max_message_bytes`: of a message in several pieces hardly more than this is kept, the rest is dropped.

    A message that is longer still comes out at its end, cut off, but longer than it may be.
    """

    __slots__ = ("_at", "_data", "_final", "_left", "_mask", "_max", "_message", "ended")

    def __init__(self, max_message_bytes: int) -> None:
        self.ended = False
        self._max = max_message_bytes
        self._data = b""
        self._at = 0  # up to here `_data` has been read
        # The frame of a message whose payload is not whole yet: how much is to come.
        self._left = _NONE_OPEN
        self._mask = b""
        self._final = True
        self._message: _Message | None = None

    def feed(self, data: bytes) -> None:
        if not self.ended:
            self._data = self._data[self._at :] + data if self._data else data
            self._at = 0

    def next(self) -> Item | None:
        """What the next frame says; None when more bytes must come in before."""
        item: Item | None = None
        try:
            if not self.ended:
                item = self._next()
        except _Broken as broken:
            item = Closing(broken.code.to_bytes(2), broken=True)
        except UnicodeDecodeError:
            item = Closing(NOT_TEXT.to_bytes(2), broken=True)
        if type(item) is Closing:
            self.ended = True
            self._message = None
        if self.ended or self._at == len(self._data):
            self._data, self._at = b"", 0
        return item

    def _next(self) -> Item | None:
        if self._left == _NONE_OPEN:
            if (head := self._head()) is None:
                return None
            opcode, final, start, end = head
            whole = end <= len(self._data)
            if opcode >= CLOSE:
                return _told(opcode, self._payload(start, end)) if whole else None
            if whole and final and self._message is None:
                payload = self._payload(start, end)
                return payload.decode() if opcode == TEXT else payload
            self._message = self._message or _Message(text=opcode == TEXT)
            self._at, self._left, self._final = start, end - start, final
        return self._go_on()

    def _head(self) -> tuple[int, bool, int, int] | None:
        """The frame that begins here: its opcode, whether it is final, where its payload begins and ends."""
        data, start = self._data, self._at + 2
        if len(data) < start:
            return None
        first, second = data[start - 2], data[start - 1]
        opcode, final, size = first & 0x0F, first >= 0x80, second & 0x7F
        if first & 0x70 or second < 0x80 or opcode not in _OPCODES:
            raise _Broken
        if opcode >= CLOSE:
            if size > MAX_CONTROL or not final:
                raise _Broken
        elif (opcode == CONTINUES) is (self._message is None):
            raise _Broken
        if size > MAX_CONTROL:
            told = 2 if size == 126 else 8
            if len(data) < start + told:
                return None
            size = int.from_bytes(data[start : start + told])
            if size <= (MAX_CONTROL if told == 2 else 0xFFFF) or size >> 63:
                raise _Broken
            start += told
        self._mask = data[start : start + 4]
        start += 4
        return (opcode, final, start, start + size) if len(data) >= start else None

    def _payload(self, start: int, end: int) -> bytes:
        self._at = end
        return apply_mask(self._data[start:end], self._mask)

    def _go_on(self) -> Item | None:
        """Take what has come of the open frame; the message, if it is whole with it."""
        message, mask = self._message, self._mask
        assert message is not None  # nosec B101 # noqa: S101 - for the type checker: an open frame is a message's
        start = self._at
        part = self._payload(start, min(len(self._data), start + self._left))
        self._left -= len(part)
        turned = len(part) % 4
        self._mask = mask[turned:] + mask[:turned]
        whole = self._left == 0 and self._final
        message.add(part, whole=whole, room=self._max)
        if self._left:
            return None
        self._left = _NONE_OPEN
        if not whole:
            return PASSED
        self._message = None
        return message.buffer.getvalue()


class _Message:
    """What has come of a message that is in several frames, or in a frame that has not come whole."""

    __slots__ = ("_decoder", "_size", "buffer")

    def __init__(self, *, text: bool) -> None:
        self._decoder = _utf8() if text else None
        self._size = 0
        self.buffer: io.StringIO | io.BytesIO = io.StringIO() if text else io.BytesIO()

    def add(self, part: bytes, *, whole: bool, room: int) -> None:
        """Raises UnicodeDecodeError for what is no text, whether it is kept or not."""
        piece: str | bytes = part if self._decoder is None else self._decoder.decode(part, whole)
        if self._size <= room + 3:  # what is kept may end a character early
            self.buffer.write(piece)  # type: ignore[arg-type]  # text into the one, bytes into the other
        self._size += len(part)


def _told(opcode: int, payload: bytes) -> Item:
    """What a control frame says. Raises UnicodeDecodeError for a close's reason that is no text."""
    if opcode != CLOSE:
        return Ping(payload) if opcode == PING else PASSED
    closing = Closing(payload)
    code = closing.code
    if len(payload) == 1 or (code is not None and code not in _CLOSES and not 3000 <= code < 5000):
        raise _Broken
    payload[2:].decode()
    return closing
