"""A transport that writes finished frames to the connection's own socket, past the ASGI server.

The server keeps reading the connection and still writes the head and the end of the response; in between the
bytes go straight to its asyncio transport, at little more than the cost of the system call.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Protocol

STATE_KEY = "runcast.wire"
NOT_CLEAR = -1
# Unsent bytes above which no more is read of a WebSocket, whose client asks, if only by pings, and takes nothing.
MAX_UNSENT = 4 << 20


class Owner(Protocol):
    """Whoever writes past the server wants to know what the server sees and does."""

    def lost(self) -> None:
        """The client is gone; to be told before the socket is closed, as its descriptor may go to another client."""

    def preceded(self) -> None:
        """The server itself writes something now, which goes before anything else."""


class Wire(Protocol):
    """The asyncio side of one accepted connection, as the server hands it to the app under `STATE_KEY`.

    `heard_at`: when bytes last came in, in loop time; infinity while the server itself reads no more. `one_way`: the
    client has no business to send anything more; the server cuts it off if it does, as it would otherwise stop reading
    and never learn that the client left.
    """

    transport: asyncio.Transport
    heard_at: float
    owner: Owner | None
    one_way: bool

    def pipelined(self) -> bool:
        """Whether bytes are waiting behind the request."""

    def at_end(self) -> bool:
        """Whether the client has said its last."""

    async def drain(self) -> None:
        """Return when little enough is unsent to go on. Raises OSError when the client is gone."""


class DirectTransport:
    """Implements Transport and Owner. `limit`: unsent bytes above which nothing is taken. `one_way`: as in Wire."""

    # `_clear` is the socket's descriptor while all that was written before is with the kernel, and nothing forbids
    # more; else NOT_CLEAR. It spares the hot path every other question.
    __slots__ = ("_clear", "_file", "_finished", "_held", "_limit", "_queued", "_socket", "_wire")

    def __init__(self, wire: Wire, *, limit: int, one_way: bool) -> None:
        self._wire = wire
        self._socket = wire.transport
        self._file = wire.transport.get_extra_info("socket").fileno()
        self._limit = limit
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A response's head has to go out first; a WebSocket has been accepted when it gets here.
        self._held: list[bytes] | None = [] if one_way else None
        self._clear = NOT_CLEAR
        self._queued = 0
        wire.owner = self
        wire.one_way = one_way
        if self._socket.is_closing() or (one_way and wire.at_end()):
            self.finish()  # the client went before anybody owned its wire, and nobody will say so again
        elif one_way and wire.pipelined():
            self.abort()

    def write(self, data: bytes) -> None:
        # uvloop raises when the client has gone in the meantime.
        if not self._finished.done() and not self._socket.is_closing():
            if self._held is not None:
                self._held.append(data)
            else:
                self._queue(data)

    def begin(self) -> None:
        held, self._held = self._held, None
        if held and not self._socket.is_closing():
            self._queue(b"".join(held))

    def _queue(self, data: bytes) -> None:
        self._clear = NOT_CLEAR
        self._queued += len(data)
        self._socket.write(data)

    def has_room(self) -> bool:
        return self._socket.get_write_buffer_size() <= self._limit

    def offer(self, data: bytes) -> bool:
        if self._clear == NOT_CLEAR and not self._cleared():
            return self._offer_queued(data)
        # Nothing is queued before this, so it can go to the kernel at once, without the transport's bookkeeping.
        try:
            sent = os.write(self._clear, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.abort()  # the client is gone; behind the end of what it said nobody reads who could learn of it
            return True
        if sent < len(data):
            self._queue(data[sent:])
        return True

    def _cleared(self) -> bool:
        """Whether everything has gone to the kernel by now."""
        if self._held is None and not self._finished.done() and not self._socket.is_closing():
            if self._socket.get_write_buffer_size():
                return False
            self._clear = self._file
            return True
        return False

    def _offer_queued(self, data: bytes) -> bool:
        taken = self.has_room()
        if taken:
            self.write(data)
        return taken

    def unsent(self) -> int:
        return 0 if self._clear != NOT_CLEAR else self._socket.get_write_buffer_size()

    def taken(self) -> int:
        return self._queued - self._socket.get_write_buffer_size()

    async def drained(self) -> None:
        try:
            await self._wire.drain()
        except OSError as error:  # the kernel gave up on the client (ETIMEDOUT), too
            raise ConnectionResetError from error

    def heard_at(self) -> float | None:
        return self._wire.heard_at

    def finish(self) -> None:
        if not self._finished.done():
            self._clear = NOT_CLEAR
            self._finished.set_result(None)
            self._wire.owner = None
            self._wire.one_way = False

    def lost(self) -> None:
        self.finish()

    def preceded(self) -> None:
        self._clear = NOT_CLEAR

    def abort(self) -> None:
        self.finish()
        self._socket.abort()

    async def outlet(self) -> AsyncGenerator[bytes]:
        await self._finished
        return
        yield b""  # makes this a generator, as the protocol asks
