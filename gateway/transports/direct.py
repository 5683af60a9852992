"""A transport that writes finished frames to the connection's own socket, past the ASGI server.

The server keeps reading the connection and still writes the head and the end of the response; in between the
bytes go straight to its asyncio transport, at little more than the cost of the system call.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

STATE_KEY = "runcast.wire"


@dataclass(slots=True, eq=False)
class Wire:
    """The asyncio side of one accepted connection, as the server hands it to the app under `STATE_KEY`.

    `heard_at`: when bytes last came in, in loop time.
    """

    writer: asyncio.StreamWriter
    heard_at: float


class DirectTransport:
    """Implements Transport. Its high- and low-water marks are those of the writer."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._writer = wire.writer
        self._socket = wire.writer.transport
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, data: bytes) -> None:
        if not self._finished.done():
            self._socket.write(data)

    def unsent(self) -> int:
        return self._socket.get_write_buffer_size()

    async def drained(self) -> None:
        await self._writer.drain()

    def heard_at(self) -> float | None:
        return self._wire.heard_at

    def finish(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)

    def abort(self) -> None:
        self.finish()
        self._socket.abort()

    async def outlet(self) -> AsyncGenerator[bytes]:
        await self._finished
        return
        yield b""  # makes this a generator, as the protocol asks
