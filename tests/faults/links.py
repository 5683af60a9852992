"""The three transports as a raw client speaks them: bytes in, frames out, and how each of them ended.

Rule 1: nothing here knows cursors or decides anything; whatever is not an orderly end raises Broken.
"""

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import NamedTuple, Self
from urllib.parse import urlencode

from tests.e2e.process import token

READ = 65_536
OPEN_TIMEOUT_S = 1.0


class Broken(Exception):
    """The connection ended without saying so, or says nothing any more."""


class Refused(Exception):
    """An answer other than a stream: `code` is an HTTP status or a WebSocket close code."""

    def __init__(self, code: int, body: bytes = b"") -> None:
        super().__init__(code, body)
        self.code = code
        self.body = body


class Join(NamedTuple):
    """What a client asks for: a run from a cursor ("" for none) in one replay."""

    run: str
    cursor: str = ""
    replay: str = "folded"


class Link:
    """One TCP connection. `patience_s`: a silence longer than this is a broken connection.

    `ended`: how it ended in order: "chunk" (SSE), a close code (WebSocket), "204", or "" when it did not.
    """

    def __init__(self, port: int, *, subject: str = "alice") -> None:
        self.port = port
        self.patience_s: float | None = OPEN_TIMEOUT_S
        self.ended: str | int = ""
        self._subject = subject

    async def __aenter__(self) -> Self:
        async with asyncio.timeout(5):
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 21)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def read(self, size: int = READ) -> bytes:
        return await self._within(self.reader.read(size)) or _broken()

    async def line(self) -> bytes:
        line = await self._within(self.reader.readline())
        return line if line.endswith(b"\n") else _broken()

    async def exactly(self, size: int) -> bytes:
        return await self._within(self.reader.readexactly(size))

    async def _within(self, reading) -> bytes:
        try:
            async with asyncio.timeout(self.patience_s):
                return await reading
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            raise Broken(repr(error)) from None

    async def get(self, path: str, query: object, **headers: str) -> tuple[int, dict[str, str]]:
        """Send a GET; the answer's status and head."""
        lines = [
            f"GET {path}?{urlencode(query, doseq=True)} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: Bearer {self._token()}",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        status = int((await self.line()).split()[1])
        found = {}
        while line := (await self.line()).strip():
            name, _, value = line.decode().partition(":")
            found[name.lower()] = value.strip()
        return status, found

    def _token(self) -> str:
        return _kept(self._subject, time.time() // 60)

    async def body(self, head: dict[str, str]) -> AsyncIterator[bytes]:
        """The body's pieces as they come; returns at its proper end."""
        if "content-length" in head:
            yield await self.exactly(int(head["content-length"]))
            return
        while size := int((await self.line()).strip(), 16):
            while size:
                data = await self.read(min(size, READ))
                size -= len(data)
                yield data
            await self.line()
        await self.line()

    def send_frame(self, opcode: int, payload: bytes) -> None:
        """A masked WebSocket frame (the mask is zero, which masks nothing)."""
        size = len(payload)
        length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2)
        self.writer.write(bytes((0x80 | opcode,)) + length + bytes(4) + payload)

    def say(self, **command: object) -> None:
        self.send_frame(1, json.dumps(command).encode())


@lru_cache
def _kept(subject: str, _minute: float) -> str:
    """A token for more than one connection, as a client has it: the gateway remembers those it has seen."""
    return token(subject)


def _broken() -> bytes:
    raise Broken("ended")


async def by_sse(link: Link, join: Join) -> AsyncIterator[dict]:
    headers = {"Last_Event_ID": join.cursor} if join.cursor else {}
    status, head = await link.get(
        f"/runs/{join.run}/events", {"replay": join.replay}, Accept="text/event-stream", **headers
    )
    if status == 204:
        link.ended = "204"
        return
    if status != 200:
        raise Refused(status, b"".join([data async for data in link.body(head)]))
    async for id, frame in sse_frames(link, head):
        assert frame.get("id", "") == id, frame
        yield frame


async def sse_frames(link: Link, head: dict[str, str]) -> AsyncIterator[tuple[str, dict]]:
    """Each frame of an event stream with its `id:`, up to the stream's proper end."""
    pending = b""
    async for data in link.body(head):
        *blocks, pending = (pending + data).split(b"\n\n")
        for block in blocks:
            fields = dict(line.partition(b": ")[::2] for line in block.split(b"\n"))
            if b"data" in fields:
                frame = json.loads(fields[b"data"])
                assert frame["type"].encode() == fields[b"event"], block
                yield fields.get(b"id", b"").decode(), frame
    link.ended = "chunk"


async def by_websocket(link: Link, join: Join) -> AsyncIterator[dict]:
    await shake_hands(link)
    more = {"after": join.cursor} if join.cursor else {}
    link.say(type="subscribe", run=join.run, replay=join.replay, **more)
    async for frame in frames(link):
        yield frame


async def shake_hands(link: Link) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    status, _ = await link.get(
        "/ws", {}, Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Version="13", Sec_WebSocket_Key=key
    )
    if status != 101:
        raise Refused(status)


async def frames(link: Link, *, pong: bool = True) -> AsyncIterator[dict]:
    """What comes over an open WebSocket, up to its close."""
    while True:
        first, size = await link.exactly(2)
        if size >= 126:
            size = int.from_bytes(await link.exactly(2 if size == 126 else 8))
        payload = await link.exactly(size)
        match first & 0x0F:
            case 1:
                yield json.loads(payload)
            case 8:
                link.ended = int.from_bytes(payload[:2])
                link.send_frame(8, payload[:2])
                return
            case 9 if pong:
                link.send_frame(10, payload)


async def by_poll(link: Link, join: Join) -> AsyncIterator[dict]:
    """One long-poll, whose answer stands for `hello` too."""
    query = {"replay": join.replay, "wait": "0.3", "limit": "500", **({"after": join.cursor} if join.cursor else {})}
    status, head = await link.get(f"/runs/{join.run}/events", query, Connection="close")
    body = b"".join([data async for data in link.body(head)])
    if status != 200:
        raise Refused(status, body)
    told = json.loads(body)
    yield {"type": "hello", **{name: told[name] for name in ("heartbeat_ms", "resume", "retry_ms")}}
    for event in told["events"]:
        yield event
    yield {"type": "polled", "cursor": told["cursor"], "done": told["done"]}


WAYS = {"sse": by_sse, "websocket": by_websocket, "poll": by_poll}
