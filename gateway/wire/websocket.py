"""WebSocket frames as a server writes them: unmasked, in one piece (RFC 6455, section 5.2)."""

from collections.abc import Iterator

CONTINUES, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MAX_CONTROL = 125


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """One frame with this payload; a control frame's has at most MAX_CONTROL bytes."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2) + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8) + payload


def text(payload: bytes) -> bytes:
    """One frame with this payload, which must be UTF-8."""
    return frame(TEXT, payload)


def close(code: int, reason: str = "") -> bytes:
    """A close frame, with as much of the reason as there is room for (RFC 6455, section 5.5.1)."""
    told = reason.encode()[: MAX_CONTROL - 2].decode(errors="ignore")
    return frame(CLOSE, code.to_bytes(2) + told.encode())


def payloads(frames: bytes) -> Iterator[str]:
    """Take frames made by `text` apart again, for a server that frames them itself."""
    start = 0
    while start < len(frames):
        size, head = frames[start + 1], 2
        if size >= 126:
            head = 4 if size == 126 else 10
            size = int.from_bytes(frames[start + 2 : start + head])
        end = start + head + size
        yield frames[start + head : end].decode()
        start = end
