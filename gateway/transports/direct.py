"""A transport that writes finished frames to the connection's own socket, past the ASGI server.

The server keeps reading the connection and still writes the head and the end of the response; in between the
bytes go straight to its asyncio transport, at little more than the cost of the system call.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

STATE_KEY = "runcast.wire"


@dataclass(slots=True, eq=False)
class Wire:
    """The asyncio side of one accepted connection, as the server hands it to the app under `STATE_KEY`.

    `heard_at`: when bytes last came in, in loop time. `on_lost` is called when the client is gone. `pipelined` tells
    whether bytes are waiting behind the request. `one_way`: the client has no business to send anything more; the
    server cuts it off if it does, as it would otherwise stop reading and never learn that the client left.
    """

    writer: asyncio.StreamWriter
    heard_at: float
    pipelined: Callable[[], bool]
    on_lost: Callable[[], None] | None = None
    one_way: bool = False


class DirectTransport:
    """Implements Transport. `limit`: unsent bytes above which nothing more is taken. `one_way`: as in Wire."""

    def __init__(self, wire: Wire, *, limit: int, one_way: bool) -> None:
        self._wire = wire
        self._writer = wire.writer
        self._socket = wire.writer.transport
        self._file = wire.writer.get_extra_info("socket").fileno()
        self._limit = limit
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A response's head has to go out first; a WebSocket has been accepted when it gets here.
        self._held: list[bytes] | None = [] if one_way else None
        wire.on_lost = self.finish
        wire.one_way = one_way
        if one_way and wire.pipelined():
            self.abort()

    def write(self, data: bytes) -> None:
        # uvloop raises when the client has gone in the meantime.
        if not self._finished.done() and not self._socket.is_closing():
            if self._held is not None:
                self._held.append(data)
            else:
                self._socket.write(data)

    def begin(self) -> None:
        held, self._held = self._held, None
        if held and not self._socket.is_closing():
            self._socket.write(b"".join(held))

    def has_room(self) -> bool:
        return self._socket.get_write_buffer_size() <= self._limit

    def offer(self, data: bytes) -> bool:
        socket = self._socket
        unsent = socket.get_write_buffer_size()
        if unsent > self._limit:
            return False
        # A closing transport may already have given its descriptor away, to another client.
        if self._finished.done() or socket.is_closing():
            return True
        sent = 0
        if not unsent:
            # Nothing is queued before this, so it can go to the kernel at once, without the transport's bookkeeping.
            try:
                sent = os.write(self._file, data)
            except BlockingIOError:
                pass
            except OSError:
                return True  # the client is gone; whoever reads the connection learns of it
        if sent < len(data):
            socket.write(data[sent:])
        return True

    def unsent(self) -> int:
        return self._socket.get_write_buffer_size()

    async def drained(self) -> None:
        try:
            await self._writer.drain()
        except OSError as error:  # the kernel gave up on the client (ETIMEDOUT), too
            raise ConnectionResetError from error

    def heard_at(self) -> float | None:
        return self._wire.heard_at

    def finish(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)
            self._wire.on_lost = None
            self._wire.one_way = False

    def abort(self) -> None:
        self.finish()
        self._socket.abort()

    async def outlet(self) -> AsyncGenerator[bytes]:
        await self._finished
        return
        yield b""  # makes this a generator, as the protocol asks
