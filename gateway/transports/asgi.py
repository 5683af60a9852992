"""A transport over an ASGI server's `send`: bytes wait here until the owner of the response has sent them.

Slower than writing to the socket, the same to everyone above: works under any ASGI server and HTTP version.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable


class AsgiTransport:
    """Implements Transport. `limit`: unsent bytes above which nothing more is taken.

    `cut` ends the connection at once, if the server offers a way.
    """

    def __init__(self, *, limit: int, cut: Callable[[], None] | None = None) -> None:
        self._limit = limit
        self._low_water = limit // 2
        self._cut = cut
        self._parts: list[bytes] = []
        self._unsent = 0
        self._taken = 0
        self._finished = False
        self._gone = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def write(self, data: bytes) -> None:
        if self._finished or not data:
            return
        self._parts.append(data)
        self._unsent += len(data)
        if self._unsent > self._low_water:
            self._room.clear()
        self._changed.set()

    def begin(self) -> None:
        """Nothing to do: what is written waits for the outlet, which is asked only then."""

    def has_room(self) -> bool:
        return self._unsent <= self._limit

    def offer(self, data: bytes) -> bool:
        if self._unsent > self._limit:
            return False
        self.write(data)
        return True

    def unsent(self) -> int:
        return self._unsent

    def taken(self) -> int:
        return self._taken

    async def drained(self) -> None:
        await self._room.wait()
        if self._gone:
            raise ConnectionResetError

    def heard_at(self) -> float | None:
        return None

    def finish(self) -> None:
        self._finished = True
        self._changed.set()

    def abort(self) -> None:
        self._parts.clear()
        self._gone = True
        self._room.set()
        self.finish()
        if self._cut is not None:
            self._cut()

    async def outlet(self) -> AsyncGenerator[bytes]:
        try:
            while True:
                if self._parts:
                    data = b"".join(self._parts)
                    self._parts.clear()
                    yield data
                    # Asked for more: so this piece went out.
                    self._unsent -= len(data)
                    self._taken += len(data)
                    if self._unsent <= self._low_water:
                        self._room.set()
                elif self._finished:
                    return
                else:
                    self._changed.clear()
                    await self._changed.wait()
        finally:
            self._gone = True
            self._room.set()
