"""One hundred runs at once, each with two viewers; and nothing is left of it afterwards."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.e2e.clients import TERMINAL, asked, by_sse, caller, eventually, heard, opened, own, said, served, terminals

RUNS, CANCELLED = 100, 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the descriptors in /proc")
async def test_a_hundred_runs_with_two_viewers_each_end_alike_and_leave_nothing_behind(tmp_path):
    with served(tmp_path) as gateway:
        descriptors = Path(f"/proc/{gateway.process.pid}/fd")
        async with caller(gateway) as warm:
            await warm.post("/run", json={"pipeline": "words", "input": {"count": 1}})
        before = await settled(lambda: len(list(descriptors.iterdir())))
        tasks = Path(f"/proc/{gateway.process.pid}/task")
        threads = len(list(tasks.iterdir()))
        async with asyncio.timeout(60):
            views = await asyncio.gather(*(one(gateway, number) for number in range(RUNS)))
        endings = []
        for sse, socket in views:
            assert sse == socket
            assert len(terminals(sse)) == 1
            assert sse[-1]["type"] in TERMINAL
            assert [int(event["id"].split("-")[1]) for event in sse] == list(range(1, len(sse) + 1))
            endings.append(sse[-1]["type"])
        assert endings.count("run.cancelled") == CANCELLED
        assert endings.count("run.completed") == RUNS - CANCELLED

        async def as_before():
            return len(list(descriptors.iterdir())) <= before

        await eventually(as_before, within_s=10)
        assert len(list(tasks.iterdir())) <= threads + 2
        async with caller(gateway) as client:
            for status in ("queued", "running", "paused", "cancelling"):
                assert (await client.get("/runs", params={"status": status})).json()["runs"] == []
        began = asyncio.get_running_loop().time()
        assert await asyncio.to_thread(gateway.stop) == 0
        assert asyncio.get_running_loop().time() - began < 2, "something was still open"
    drained = [json.loads(line) for line in gateway.output.splitlines() if '"draining"' in line]
    assert [line["connections"] for line in drained] == [0]


async def one(gateway, number: int) -> tuple[list[dict], list[dict]]:
    """What the two viewers of one run saw; some of the runs are cancelled in the middle."""
    stops = number % (RUNS // CANCELLED) == 0
    body = {"pipeline": "forever" if stops else "words", "input": {"count": 30, "gap_s": 0.02}}
    async with caller(gateway, f"user-{number % 5}") as client, opened(gateway, f"user-{number % 5}") as ws:
        run = (await client.post("/runs", json=body)).json()["id"]
        viewer = asyncio.create_task(by_sse(client, run, replay="full"))
        await said(ws, type="subscribe", run=run, replay="full")
        assert (await heard(ws))["ok"]
        socket: list[dict] = []
        while not terminals(socket):
            frame = await heard(ws)
            if frame["type"] != "reply":
                socket.append(frame)
            if stops and len(socket) == 15:
                await said(ws, type="cancel", run=run, reason="halfway")
        assert (await asked(ws, type="ping"))["ok"]
        return own(await viewer), own(socket)


async def settled(count) -> int:
    """A number once it has not changed for a while."""
    last, same = count(), 0
    while same < 5:
        await asyncio.sleep(0.1)
        now = count()
        last, same = now, same + 1 if now == last else 0
    return last
