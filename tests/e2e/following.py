"""A Python client of a gateway, and streams of its that are read to their end or in the background."""

import asyncio
from contextlib import aclosing

import pytest

from runcast import Client
from tests.e2e.clients import PATIENCE_S
from tests.e2e.process import token

TRANSPORTS = ("sse", "websocket", "poll")
every_transport = pytest.mark.parametrize("transport", TRANSPORTS)


def client_of(gateway, transport: str | None = None, **more) -> Client:
    chosen = {} if transport is None else {"transports": (transport,)}
    return Client(gateway.url, **{"token": token(), **chosen, **more})


async def collected(events) -> list[dict]:
    """Every event of a stream as the JSON that came."""
    async with asyncio.timeout(2 * PATIENCE_S), aclosing(events):
        return [event.fields() async for event in events]


class Seen:
    """A stream that is read in the background; `until` waits for what it must bring."""

    def __init__(self, events) -> None:
        self.events: list[dict] = []
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._read(events))

    async def _read(self, events) -> None:
        async with aclosing(events):
            async for event in events:
                self.events.append(event.fields())
                self._changed.set()

    async def until(self, type: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not any(event["type"] == type for event in self.events):
                self._changed.clear()
                await self._changed.wait()

    async def ended(self) -> list[dict]:
        async with asyncio.timeout(2 * PATIENCE_S):
            await self._task
        return self.events
