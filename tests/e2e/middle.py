"""A proxy that stands between a client and a gateway as such proxies do: it holds streams back, or knows no WebSocket.

Rule 1: a connection is judged by the head of its first request; after that bytes are passed on as they are.
"""

import asyncio
import contextlib
from collections import Counter
from typing import Self

READ = 65_536


class Middle:
    """`buffers`: an event stream is kept until it ends. `upgrades`: whether a WebSocket is let through.

    `seen` counts the connections by their kind: `sse`, `websocket`, `other`.
    """

    def __init__(self, upstream: int, *, buffers: bool = True, upgrades: bool = True) -> None:
        self.seen: Counter[str] = Counter()
        self._upstream = upstream
        self._buffers = buffers
        self._upgrades = upgrades

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # for what was aborted to be closed

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(lambda task: (self._tasks.discard(task), writer.transport.abort()))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            kind = _kind(head.lower())
            self.seen[kind] += 1
            if kind == "websocket" and not self._upgrades:
                writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            try:
                up_writer.write(head)
                up = asyncio.ensure_future(_pass(reader, up_writer))
                down = asyncio.ensure_future(_pass(up_reader, writer, hold=kind == "sse" and self._buffers))
                try:
                    await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    up.cancel()
                    down.cancel()
                    await asyncio.gather(up, down, return_exceptions=True)
            finally:
                up_writer.transport.abort()


def _kind(head: bytes) -> str:
    if b"upgrade: websocket" in head:
        return "websocket"
    return "sse" if b"text/event-stream" in head else "other"


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, hold: bool = False) -> None:
    held = b""
    while data := await reader.read(READ):
        if hold:
            held += data
            continue
        writer.write(data)
        await writer.drain()
    writer.write(held)
    await writer.drain()
