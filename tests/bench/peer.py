"""The same work as an application without a gateway does it: Starlette, sse-starlette, a queue for each viewer.

It runs in an environment of its own and imports nothing of this project. No log, no resume, no authentication, no
limits.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

viewers: set[asyncio.Queue[str]] = set()


async def publish(request: Request) -> Response:
    message = (await request.body()).decode()
    for viewer in viewers:
        viewer.put_nowait(message)
    return Response(status_code=202)


async def messages() -> AsyncIterator[str]:
    mine: asyncio.Queue[str] = asyncio.Queue()
    viewers.add(mine)
    try:
        while True:
            yield await mine.get()
    finally:
        viewers.discard(mine)


async def by_sse(request: Request) -> EventSourceResponse:
    async def frames():
        async for message in messages():
            yield {"event": "x.bench", "id": "1", "data": message}

    return EventSourceResponse(frames())


async def by_websocket(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in messages():
        await websocket.send_text(message)


async def tokens(request: Request) -> EventSourceResponse:
    gap_s = 1 / float(request.query_params["rate"])

    async def frames():
        number = 0
        while True:
            said = f'{{"bench":"{time.time_ns()}.{number:09d}","delta":"token {number} "}}'
            yield {"event": "x.token", "id": str(number), "data": said}
            number += 1
            await asyncio.sleep(gap_s)

    return EventSourceResponse(frames())


app = Starlette(
    routes=[
        Route("/publish", publish, methods=["POST"]),
        Route("/sse", by_sse),
        Route("/tokens", tokens),
        WebSocketRoute("/ws", by_websocket),
    ]
)
