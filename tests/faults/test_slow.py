"""A slow or vanished client costs the others nothing."""

import asyncio
import json
import time

import pytest

from tests.e2e.clients import caller, eventually, served, started
from tests.faults import crowd
from tests.faults.links import Link, frames, shake_hands
from tests.faults.slow import GAP_S, MAX_BUFFER_BYTES, PREFIX, SETTINGS, crowded, cut_off, long_join

READERS, STUCK = 90, 10
RATIO = 1.5
STALL_S = 1.5


@pytest.fixture
def impatient(tmp_path):
    """A gateway that soon lets go of who gives no sign of life."""
    with served(tmp_path, **SETTINGS, stall_timeout_s=STALL_S, heartbeat_s=0.5) as gateway:
        yield gateway


async def test_clients_that_never_read_cost_the_readers_nothing_and_the_gateway_little(tmp_path):
    with served(tmp_path, **SETTINGS) as gateway:
        found = await crowded(gateway, readers=READERS, stuck=STUCK, measure_s=2, ratio=RATIO)
    print(found)
    assert found.ratio <= RATIO
    assert found.held_bytes < 2 * MAX_BUFFER_BYTES


@pytest.mark.parametrize("heartbeat_s", [0.5, 15], ids=["by the gateway", "by the kernel"])
async def test_clients_that_never_read_are_cut_off_and_their_descriptors_are_gone(tmp_path, heartbeat_s):
    # With the longer heartbeat the gateway looks once a second, and the kernel's own timeout is often the first.
    with served(tmp_path, **SETTINGS, stall_timeout_s=STALL_S, heartbeat_s=heartbeat_s) as gateway:
        found = await cut_off(gateway, stuck=STUCK, within_s=STALL_S + 5)
    print(found)
    assert found.first_s >= STALL_S * 0.9


@pytest.mark.parametrize("ping", [False, True], ids=["plain", "after-a-ping"])
async def test_a_socket_that_does_not_read_can_still_cancel(tmp_path, ping):
    loop = asyncio.get_running_loop()
    with served(tmp_path, **SETTINGS) as gateway:
        async with caller(gateway) as client:
            run = await started(client, "ticking", **PREFIX, ticks=1_000_000, gap_s=GAP_S)
            (bare,) = await crowd.stuck(gateway, run, 1, kinds=["websocket"])
            held = 0
            # Until the gateway holds as much for it as it will.
            while (now := crowd.rss_bytes(gateway)) > held:
                held = now
                await asyncio.sleep(0.3)
            if ping:
                await loop.sock_sendall(bare, crowd.masked(9, b"?"))
            await loop.sock_sendall(bare, crowd.masked(1, json.dumps({"type": "cancel", "run": run}).encode()))
            await eventually(lambda: _is(client, run, "cancelled"), within_s=8)
            bare.close()


async def _is(client, run: str, status: str) -> bool:
    return (await client.get("/runs", params={"status": status})).json()["runs"][:1] != []


async def test_a_socket_that_never_answers_pings_is_let_go(impatient):
    async with caller(impatient) as client:
        run = await started(client, "external")
        idle = crowd.sockets(impatient)
        async with Link(impatient.port) as mute, Link(impatient.port) as answering:
            for each in (mute, answering):
                each.patience_s = 10
                await shake_hands(each)
                each.say(type="subscribe", run=run)
            hears = asyncio.ensure_future(_heard(answering))
            began = time.monotonic()
            heard = await _heard(mute, pong=False)
            took_s = time.monotonic() - began
            assert heard.count("heartbeat") >= 2
            assert STALL_S <= took_s < STALL_S + 3
            assert mute.ended == 4101
            # It is gone on the gateway's side too, though it never closed its own.
            await eventually(lambda: _at_most(impatient, idle + 1))
            assert not hears.done()
            await client.post(f"/runs/{run}/finish", json={"status": "completed", "result": None})
            answering.send_frame(8, (1000).to_bytes(2))
            async with asyncio.timeout(5):
                await hears
            assert "run.completed" in hears.result()


async def _at_most(gateway, count: int) -> bool:
    return crowd.sockets(gateway) <= count


async def _heard(link: Link, *, pong: bool = True) -> list[str]:
    return [frame["type"] async for frame in frames(link, pong=pong)]


async def test_a_long_run_is_joined_with_little_memory(tmp_path):
    with served(tmp_path, **SETTINGS) as gateway:
        found = await long_join(gateway, events=20_000, within_s=60)
    print(found)
    assert max(found.grown_bytes.values()) < 6_000_000
