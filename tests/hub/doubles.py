"""A transport that records, and a hub to put it in."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from gateway.broker import Broker, MemoryBroker
from gateway.hub import Connection, Hub, Join, Limits, Pace, Pasts, Subscription
from gateway.hub.subscription import State
from gateway.wire import json
from gateway.wire.framing import WEBSOCKET, Framing
from gateway.wire.websocket import payloads
from tests.broker.doubles import says

LIMITS = Limits(
    max_connections=10_000,
    max_connections_per_subject=10_000,
    max_connections_per_address=10_000,
    max_subscriptions=100,
    max_buffer_bytes=1000,
    max_event_bytes=65_536,
    stall_timeout_s=30,
    auth_warning_s=60,
)
WIDE = LIMITS._replace(max_buffer_bytes=262_144)
HEARTBEAT_S = 15
START = 1_763_580_000.0
NEVER = float("inf")


class Recorder:
    """Implements Transport. A client that takes everything at once, or nothing while it is stalled."""

    def __init__(self, *, limit: int = LIMITS.max_buffer_bytes, pings: bool = False) -> None:
        self.data = b""
        self.writes: list[bytes] = []
        self.stalled = False
        self.finished = asyncio.Event()
        self.aborted = False
        self.heard: float | None = asyncio.get_running_loop().time() if pings else None
        self._limit = limit
        self._unsent = 0
        self._taken = 0
        self._changed = asyncio.Event()

    def write(self, data: bytes) -> None:
        if self.finished.is_set():
            return
        self.data += data
        self.writes.append(data)
        if self.stalled:
            self._unsent += len(data)

    def begin(self) -> None:
        pass

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
        while self._unsent > self._limit // 2 and not self.aborted:
            self._changed.clear()
            await self._changed.wait()
        if self.aborted:
            raise ConnectionResetError

    def heard_at(self) -> float | None:
        return self.heard

    def finish(self) -> None:
        self.finished.set()

    def abort(self) -> None:
        self.aborted = True
        self._changed.set()
        self.finish()

    async def outlet(self) -> AsyncGenerator[bytes]:
        await self.finished.wait()
        return
        yield b""

    def take(self, count: int | None = None) -> None:
        """The client takes some of what is unsent, or all."""
        taken = self._unsent if count is None else min(self._unsent, count)
        self._unsent -= taken
        self._taken += taken
        self._changed.set()

    def drain(self) -> None:
        self.stalled = False
        self.take()

    def frames(self, start: int = 0) -> list[dict[str, Any]]:
        """What a WebSocket client has received from this byte on."""
        return [json.loads(text) for text in payloads(self.data[start:])]

    def offsets(self, start: int = 0) -> list[int]:
        return [int(frame["id"].split("-")[1]) for frame in self.frames(start) if "id" in frame]

    def types(self, start: int = 0) -> list[str]:
        return [frame["type"] for frame in self.frames(start)]


def hub_on(
    broker: Broker | None = None,
    *,
    limits: Limits = LIMITS,
    pasts: Pasts | None = None,
    heartbeat_s: float = HEARTBEAT_S,
    **more: Any,
) -> Hub:
    """A hub whose Unix time follows the loop's."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    return Hub(
        broker if broker is not None else MemoryBroker(),
        limits=limits,
        pace=Pace(retry_ms=1000, rng=lambda: 0.5),
        pasts=pasts or Pasts.fitting(limits.max_buffer_bytes),
        heartbeat_s=heartbeat_s,
        now=lambda: START + loop.time() - began,
        **more,
    )


def connect(
    hub: Hub,
    transport: Recorder | None = None,
    *,
    subject: str = "alice",
    expires_at: float = NEVER,
    sole: bool = True,
    framing: Framing = WEBSOCKET,
) -> Connection:
    transport = transport or Recorder()
    return hub.open(transport, framing, subject=subject, expires_at=expires_at, sole=sole)


async def join(hub: Hub, connection: Connection, run: str, join_: Join | None = None, **more: Any) -> Subscription:
    """Subscribe as a route does: the reply, then the start."""
    record = await hub._broker.get(run)
    subscription = await hub.subscribe(connection, record, join_ or Join(**more))
    subscription.start()
    return subscription


async def live(hub: Hub, run: str, **more: Any) -> tuple[Connection, Subscription]:
    """A connection whose subscription has everything."""
    connection = connect(hub)
    subscription = await join(hub, connection, run, **more)
    await settled(hub)
    assert subscription.state is State.LIVE
    return connection, subscription


async def settled(hub: Hub) -> None:
    """Everything that can be caught up has been."""
    while pumps := [task for task in hub._tasks._tasks if "catch-up" in task.get_name()]:
        await asyncio.wait(pumps)


def nothing_left(hub: Hub) -> bool:
    return not (hub._connections or hub._topics or hub._places.taken or len(hub._tasks))


async def many(hub: Hub, run: str, count: int, size: int = 300) -> None:
    """Say something so often, of this size."""
    for _ in range(count):
        await hub._broker.append(run, [says("a" * size)])


async def told(hub: Hub, run: str, *, framing=WEBSOCKET, **how) -> bytes:
    """All that one client gets of the past."""
    connection = connect(hub, Recorder(limit=WIDE.max_buffer_bytes), framing=framing)
    await join(hub, connection, run, **how)
    await settled(hub)
    hub.forget(connection)
    return connection.transport.data


def frames_of(data: bytes) -> list[dict]:
    probe = Recorder.__new__(Recorder)
    probe.data = data
    return probe.frames()


class Reads:
    """A log in memory that counts the events that are read of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broker = MemoryBroker()
        self.count = 0
        read = self.broker.read

        async def counted(*args, **kwargs):
            found = await read(*args, **kwargs)
            self.count += len(found)
            await asyncio.sleep(0.001)  # others may come in between
            return found

        monkeypatch.setattr(self.broker, "read", counted)

    def since(self) -> int:
        count, self.count = self.count, 0
        return count
