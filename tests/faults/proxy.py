"""A TCP proxy that breaks connections on purpose, at byte positions drawn from a seed.

Rule 1: every connection has a plan from the start: which fault strikes after how many bytes to the client. Milder
faults (`bytes`, `delay`) are followed by a further one.
Rule 2: it waits for nothing but bytes; only `delay` sleeps, and that is the fault.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Self

ENDING = ("rst", "fin", "half", "stall", "buffer")
MILD = ("bytes", "delay")
KINDS = (*ENDING, *MILD)
READ = 16_384
DRIBBLE = 300  # bytes that go one by one
MAX_DELAY_S = 0.03


class Plan(NamedTuple):
    kind: str
    after: int


class Proxy:
    """Listens on `port` of the loopback and passes on to `upstream`, the port of the gateway.

    `reach`: the mean number of bytes before a fault; `limit`: after so many faults everything is passed on.
    `struck` counts the faults by kind.
    """

    def __init__(
        self, upstream: int, rng: random.Random, *, reach: int = 8000, limit: int = 300, kinds: Sequence[str] = KINDS
    ) -> None:
        self.upstream = upstream
        self.limit = limit
        self.struck: Counter[str] = Counter()
        self._rng = rng
        self._reach = reach
        self._kinds = kinds
        self._tasks: set[asyncio.Task] = set()
        self._closing = False

    @property
    def faults(self) -> int:
        return self.struck.total()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0)  # for what was aborted to be closed

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closing:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._done(task, writer))

    def _done(self, task: asyncio.Task, writer: asyncio.StreamWriter) -> None:
        self._tasks.discard(task)
        writer.transport.abort()  # it may have been cancelled before it began

    def _plan(self) -> Plan | None:
        if self.faults >= self.limit:
            return None
        return Plan(self._rng.choice(self._kinds), int(self._rng.expovariate(1 / self._reach)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.transport.abort()
            return
        passing = [
            asyncio.ensure_future(_pass(reader, up_writer)),
            asyncio.ensure_future(self._down(up_reader, up_writer, writer)),
        ]
        try:
            # Whichever side ends first ends the other.
            await asyncio.wait(passing, return_when="FIRST_COMPLETED")
        finally:
            for task in passing:
                task.cancel()
            # All of it before the first wait, at which this may be cancelled.
            for each in (writer, up_writer):
                each.close()
            await asyncio.gather(*passing, writer.wait_closed(), up_writer.wait_closed(), return_exceptions=True)

    async def _down(
        self, reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        """From the gateway to the client, with faults; returns when the connection is over."""
        plan = self._plan()
        while data := await reader.read(READ):
            while plan is not None and len(data) > plan.after:
                if self.faults >= self.limit:
                    plan = None
                    break
                self.struck[plan.kind] += 1
                await _send(writer, data[: plan.after])
                data = data[plan.after :]
                if plan.kind in ENDING:
                    await self._end(plan.kind, data, reader, up_writer, writer)
                    return
                data = await self._annoy(plan.kind, data, writer)
                plan = self._plan()
            if plan is not None:
                plan = plan._replace(after=plan.after - len(data))
            await _send(writer, data)

    async def _end(
        self,
        kind: str,
        data: bytes,
        reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> None:
        match kind:
            case "rst":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            case "fin":
                pass  # closing sends it
            case "half":
                # The gateway sees the client's side closed, while what it still says goes through.
                up_writer.write_eof()
                await _send(writer, data)
                while data := await reader.read(READ):
                    await _send(writer, data)
            case "stall":
                await asyncio.get_running_loop().create_future()  # until the client gives up
            case "buffer":
                kept = bytearray(data)
                while data := await reader.read(READ):
                    kept += data
                await _send(writer, bytes(kept))

    async def _annoy(self, kind: str, data: bytes, writer: asyncio.StreamWriter) -> bytes:
        """What is left of the data after a fault that ends nothing."""
        if kind == "delay":
            await asyncio.sleep(self._rng.uniform(0, MAX_DELAY_S))
            return data
        for place in range(min(DRIBBLE, len(data))):
            await _send(writer, data[place : place + 1])
            await asyncio.sleep(0)
        return data[DRIBBLE:]


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(READ):
        if writer.transport.is_closing() or not writer.can_write_eof():
            return
        with contextlib.suppress(RuntimeError):  # after `half` nothing more goes this way
            await _send(writer, data)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
