"""WebSocket frames byte by byte, as RFC 6455 writes them, and what a server must make of them.

A message that should be taken is a `ping` command whose `ref` is the text: the reply gives it back. Masks are real.
"""

import asyncio
import contextlib
import json
import os
from itertools import pairwise
from typing import NamedTuple, Self

from tests.e2e.clients import PATIENCE_S, UPGRADE, authorization, head
from tests.e2e.process import GatewayProcess

CONTINUES, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Frame(NamedTuple):
    opcode: int
    payload: bytes

    @property
    def code(self) -> int | None:
        """The code of a close frame; None where it has none."""
        return int.from_bytes(self.payload[:2]) if self.payload else None


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bool = True,
    size: int | None = None,
    told: int | None = None,
) -> bytes:
    """One frame of a client's. `size`: how many bytes tell the length (0, 2, 8); `told`: a length that it tells."""
    length = len(payload) if told is None else told
    if size is None:
        size = 0 if length < 126 else 2 if length < 65_536 else 8
    short = {0: length, 2: 126, 8: 127}[size]
    first = bytes((fin << 7 | rsv << 4 | opcode, mask << 7 | short)) + (length.to_bytes(size) if size else b"")
    if not mask:
        return first + payload
    key = os.urandom(4)
    keys = (key * (len(payload) // 4 + 1))[: len(payload)]
    return first + key + (int.from_bytes(payload) ^ int.from_bytes(keys)).to_bytes(len(payload))


def ping_command(ref: str) -> bytes:
    return json.dumps({"type": "ping", "ref": ref}, ensure_ascii=False).encode()


def told(ref: str) -> bytes:
    return frame(TEXT, ping_command(ref))


def fragmented(payload: bytes, *cuts: int, between: bytes = b"") -> bytes:
    """A text message in fragments, cut at these places, with other frames between them."""
    ends = [0, *cuts, len(payload)]
    parts = [payload[one:two] for one, two in pairwise(ends)]
    made = [frame(CONTINUES if index else TEXT, part, fin=index == len(parts) - 1) for index, part in enumerate(parts)]
    return between.join(made)


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(CLOSE, (code.to_bytes(2) if code is not None else b"") + reason)


class Heard(NamedTuple):
    """What the server said after `hello`: the refs of replies that are ok, codes of others, pongs, its close code.

    `closed` is None where it closed without a code, and -1 where the connection ended without a close frame.
    """

    refs: list[str]
    refused: list[str]
    pongs: list[bytes]
    closed: int | None


# What sends a handshake by either way of the server, and the beginning of that way's answer.
WAYS = {"lane": ((), b"HTTP/1.1 101 Switching Protocols\r\n"), "server": (("TE: trailers",), b"HTTP/1.1 101 \r\n")}


class RawSocket:
    """A WebSocket of bare bytes. Raises AssertionError for a server's frame that no client could take."""

    def __init__(self, gateway: GatewayProcess, *lines: str, way: str = "lane") -> None:
        self._gateway = gateway
        odd, self._answer = WAYS[way]
        self._lines = (*lines, *odd)
        self._ended = False

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._gateway.port)
        self.writer.write(head("GET", "/ws", authorization("framer"), *UPGRADE, *self._lines))
        answer = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        assert answer.startswith(self._answer), answer
        assert b"sec-websocket-extensions" not in answer.lower()
        hello = await self.next()
        assert hello is not None
        assert json.loads(hello.payload)["type"] == "hello"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def next(self) -> Frame | None:
        """The server's next frame; None at the end of the connection."""
        try:
            first, short = await asyncio.wait_for(self.reader.readexactly(2), PATIENCE_S)
            assert first & 0x70 == 0, "a reserved bit is set"
            assert first & 0x80, "the server sends in fragments"
            assert short < 128, "the server masks"
            size = short
            if short >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if short == 126 else 8))
            found = Frame(first & 15, await self.reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        assert found.opcode in (TEXT, CLOSE, PING, PONG), found
        assert found.opcode == TEXT or len(found.payload) <= 125
        return found

    async def heard(self, count: int = 0, then: bytes = b"") -> Heard:
        """Everything up to the end, its close returned. `then` is sent once `count` replies and pongs have come."""
        refs, refused, pongs, closed = [], [], [], -1
        while True:
            if then and len(refs) + len(refused) + len(pongs) >= count:
                self.write(then)
                then = b""
            if (found := await self.next()) is None:
                break
            if found.opcode == TEXT:
                told = json.loads(found.payload)
                if told.get("ok"):
                    refs.append(told.get("ref"))
                elif told["type"] == "reply":
                    refused.append(told["error"]["code"])
            elif found.opcode == PONG:
                pongs.append(found.payload)
            elif found.opcode == CLOSE:
                assert closed == -1, "a second close frame"
                closed = found.code
                if closed is not None:
                    self.write(frame(CLOSE, found.payload[:2]))
        return Heard(refs, refused, pongs, closed)

    def write(self, data: bytes) -> None:
        if not self._ended:
            with contextlib.suppress(OSError):
                self.writer.write(data)

    def write_eof(self) -> None:
        self._ended = True
        with contextlib.suppress(OSError):
            self.writer.write_eof()
