"""WebSocket text frames as a server writes them: unmasked, in one piece (RFC 6455, section 5.2)."""

from collections.abc import Iterator

_TEXT = 0x81
PING = b"\x89\x00"


def text(payload: bytes) -> bytes:
    """One frame with this payload, which must be UTF-8."""
    size = len(payload)
    if size < 126:
        return bytes((_TEXT, size)) + payload
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2) + payload
    return b"\x81\x7f" + size.to_bytes(8) + payload


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
