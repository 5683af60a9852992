"""The door in front of Quart, without a server."""

import asyncio

import pytest

from gateway.routes.door import PlainSocket


async def test_a_client_that_is_gone_stays_gone():
    """A socket's reader may hear of it before the one who sees the client off, and the server says it once."""
    told: asyncio.Queue[dict] = asyncio.Queue()
    told.put_nowait({"type": "websocket.disconnect", "code": 1006})
    socket = PlainSocket(told.get, None)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(1):
                await socket.receive()
