"""The listener's own bookkeeping; what it serves is tried in e2e."""

import asyncio
from collections import deque
from itertools import pairwise
from types import SimpleNamespace

from wsproto.events import Ping

from gateway.http1 import MAX_AT_ONCE, Frames
from gateway.server import IN_A_TURN, Server


async def test_a_crowd_that_comes_at_once_is_begun_some_at_a_time():
    server = Server.__new__(Server)
    server._queued, server._tasks = deque(), set()
    begun = []

    async def serving(number: int) -> None:
        begun.append(number)

    for number in range(5 * IN_A_TURN):
        server._queue(serving(number))
    counts = [0]
    async with asyncio.timeout(5):
        while len(begun) < 5 * IN_A_TURN:
            await asyncio.sleep(0)
            counts.append(len(begun))
    assert begun == sorted(begun)
    assert 0 < max(later - earlier for earlier, later in pairwise(counts)) <= IN_A_TURN
    server._queue(serving(-1))
    while begun[-1] != -1:
        await asyncio.sleep(0)


async def test_a_websocket_that_talks_on_gives_others_a_turn():
    others, pongs = [], []

    async def send(pong):
        pongs.append(pong)

    asyncio.get_running_loop().call_soon(others.append, True)
    talker = SimpleNamespace(events=lambda: iter([Ping()] * 2 * MAX_AT_ONCE))
    await Frames._handle_events(SimpleNamespace(connection=talker, _send_wsproto_event=send))
    assert (len(pongs), others) == (2 * MAX_AT_ONCE, [True])
