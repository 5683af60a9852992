"""A relay between clients and a gateway that a test cuts, blocks and opens again while they use it.

Rule 1: it understands no HTTP beyond what a request's first bytes ask for: a stream, a socket or something else.
Rule 2: nothing happens by itself or by chance: what breaks, breaks when the test says so.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, Self

READ = 65_536
Kind = Literal["sse", "websocket", "other"]
# Instead of what was asked for: a page that says no, nothing at all, the end of the connection.
Block = Literal["page", "silence", "reset"]
PAGE = b"<p>Blocked by your network</p>"
REFUSAL = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE)


class Relay:
    """Listens on `port` of the loopback and passes on to `upstream`, the gateway's port.

    `blocks`: what is asked for in vain, and what comes instead. `requests`: the requests' first bytes, as they came.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.blocks: dict[Kind, Block] = {}
        self.requests: list[str] = []
        self._open: dict[asyncio.Task, list[asyncio.StreamWriter]] = {}
        self._muted: set[asyncio.Task] = set()
        self._closing = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked_for(self, kind: Kind) -> int:
        """How often."""
        return sum(_kind(request) == kind for request in self.requests)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._closing = True
        self.cut()
        if self._open:
            await asyncio.wait(self._open)
        await asyncio.sleep(0)  # for what was aborted to be closed

    def cut(self) -> None:
        """Break every open connection off, in the middle of whatever it says."""
        for task, writers in self._open.items():
            task.cancel()
            for writer in writers:
                writer.transport.abort()

    def mute(self) -> None:
        """Lose whatever is still said on the connections that are open now, as a way does that has forgotten them."""
        self._muted |= self._open.keys()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closing:
            writer.transport.abort()
            return
        writers = [writer]
        task = asyncio.get_running_loop().create_task(self._serve(reader, writers))
        self._open[task] = writers
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task) -> None:
        self._muted.discard(task)
        for writer in self._open.pop(task):
            writer.transport.abort()  # it may have been cancelled before it began

    async def _serve(self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter]) -> None:
        (client,) = writers
        try:
            up_reader, upstream = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            return
        writers.append(upstream)
        own, silent = asyncio.current_task(), False

        async def up(data: bytes) -> None:
            nonlocal silent
            if data.startswith((b"GET ", b"POST ")):
                request = data.decode("latin-1")
                self.requests.append(request)
                block = self.blocks.get(_kind(request))
                silent = block == "silence"
                if block == "page":
                    client.write(REFUSAL)
                    return
                if block == "reset":
                    client.transport.abort()
                    return
            upstream.write(data)
            await upstream.drain()

        async def down(data: bytes) -> None:
            if not silent and own not in self._muted:
                client.write(data)
                await client.drain()

        passing = {asyncio.ensure_future(_pass(reader, up)), asyncio.ensure_future(_pass(up_reader, down))}
        try:
            # Whichever side ends first ends the other.
            await asyncio.wait(passing, return_when="FIRST_COMPLETED")
            for each in writers:
                each.close()
        finally:
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, *(each.wait_closed() for each in writers), return_exceptions=True)


def _kind(request: str) -> Kind:
    head = request.lower()
    if "\r\nupgrade: websocket" in head:
        return "websocket"
    return "sse" if "text/event-stream" in head else "other"


async def _pass(reader: asyncio.StreamReader, take: Callable[[bytes], Awaitable[None]]) -> None:
    while data := await reader.read(READ):
        await take(data)
