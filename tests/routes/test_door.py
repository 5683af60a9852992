"""The door in front of Quart, without a server."""

import asyncio

import pytest
from quart import Response
from structlog.testing import capture_logs

from gateway.routes.audit import VISIT, Visit
from gateway.routes.door import Door, PlainSocket
from gateway.routes.endpoint import Endpoint
from gateway.transports.direct import STATE_KEY


async def test_a_client_that_is_gone_stays_gone():
    """A socket's reader may hear of it before the one who sees the client off, and the server says it once."""
    told: asyncio.Queue[dict] = asyncio.Queue()
    told.put_nowait({"type": "websocket.disconnect", "code": 1006})
    socket = PlainSocket(told.get, None)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(1):
                await socket.receive()


@pytest.mark.parametrize("error, told", [(ZeroDivisionError, ["request failed"]), (ConnectionResetError, [])])
async def test_what_goes_wrong_behind_the_head_is_told_with_its_request_and_a_lost_client_is_not(error, told):
    async def body():
        yield b"first"
        raise error

    async def handler(call):
        return Response(body(), content_type="text/event-stream")

    sent = []

    async def send(message):
        sent.append(message["type"])

    door = Door(None, None, (Endpoint("GET", "/stream", handler, "", public=True, joins=True),))
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/stream",
        "query_string": b"", "headers": [(b"accept", b"text/event-stream")], "state": {STATE_KEY: None},
        VISIT: Visit(request="mine", address="", method="GET", path="/stream"),
    }  # fmt: skip
    with capture_logs() as logs:
        await door(scope, None, send)
    assert sent == ["http.response.start", "http.response.body"]
    assert [entry["event"] for entry in logs] == told
    assert all((entry["request"], entry["path"]) == ("mine", "/stream") for entry in logs)
