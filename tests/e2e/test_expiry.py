"""Tokens that run out while a stream is open: a warning, an end, and a renewal that loses nothing."""

import asyncio
import time

import httpx
import jwt
import pytest
import websockets

from tests.e2e.clients import (
    asked,
    assert_problem,
    by_poll,
    by_sse,
    caller,
    closed,
    finished,
    heard,
    opened,
    own,
    published,
    said,
    served,
    started,
)
from tests.e2e.process import SECRET, bearer, token


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway that looks at the clock often."""
    with served(tmp_path_factory.mktemp("gateway"), heartbeat_s=1, auth_warning_s=1.5) as running:
        yield running


@pytest.fixture
async def run(gateway):
    """A run that outlives the tokens."""
    async with caller(gateway) as client:
        run = await started(client, "external")
        yield run
        await finished(client, run)


async def test_sse_warns_and_then_ends(gateway, run):
    loop = asyncio.get_running_loop()
    async with caller(gateway, ttl_s=3) as client:
        began = loop.time()
        frames = await by_sse(client, run)
        assert 1 < loop.time() - began < 5
        warnings = [frame for frame in frames if frame["type"] == "auth.expiring"]
        assert len(warnings) == 1
        assert warnings[0]["expires_at"] % 1000 == 0
        assert "id" not in warnings[0]
        assert_problem(await client.get(f"/runs/{run}"), 401, "auth.expired")


async def test_a_websocket_warns_and_then_closes_4200(gateway, run):
    async with opened(gateway, headers=bearer(ttl_s=3)) as ws:
        await asked(ws, type="subscribe", run=run, replay="none")
        while (frame := await heard(ws))["type"] == "heartbeat":
            pass
        assert frame["type"] == "auth.expiring"
        assert await closed(ws) == 4200


async def test_no_command_is_taken_after_the_end_however_late_the_close(gateway, run):
    """The clock that closes looks now and then; every command is asked at its own time."""

    async def speak(ttl_s: float) -> list[str]:
        ends_at, codes = time.time() + ttl_s, []
        claims = {"sub": "alice", "scope": "runs:cancel", "exp": ends_at}
        async with opened(gateway, headers={"Authorization": f"Bearer {jwt.encode(claims, SECRET)}"}) as ws:
            try:
                while True:
                    late = time.time() >= ends_at
                    reply = await asked(ws, type="cancel", run="nothing")
                    codes.append(reply["error"]["code"])
                    assert not late or codes[-1] == "auth.expired"
                    await asyncio.sleep(0.005)
            except websockets.ConnectionClosed:
                assert ws.close_code == 4200
        return codes

    codes = await asyncio.gather(*(speak(3 + number / 20) for number in range(20)))
    assert any(each[0] == "run.not_found" for each in codes)
    assert any(each[-1] == "auth.expired" for each in codes)


async def test_a_renewal_in_band_goes_on_without_losing_an_event(gateway, run):
    async with opened(gateway, headers=bearer(ttl_s=3)) as ws, caller(gateway) as publisher:
        await said(ws, type="subscribe", run=run, replay="full")
        assert (await heard(ws))["ok"]
        got: list[dict] = []
        renewed = 0
        for number in range(40):
            await published(publisher, run, {"type": "x.tick", "number": number})
            await asyncio.sleep(0.1)
            while not got or got[-1].get("number") != number:
                frame = await heard(ws)
                if frame["type"] == "auth.expiring":
                    await said(ws, type="authenticate", token=token(ttl_s=3), ref="again")
                elif frame["type"] == "reply":
                    assert (frame["ref"], frame["ok"]) == ("again", True)
                    renewed += 1
                else:
                    got.append(frame)
        assert renewed >= 1
        events = (await publisher.get(f"/runs/{run}/events", params={"replay": "full"})).json()["events"]
        assert own(got) == events


async def test_a_token_that_lives_on_is_not_warned_of(gateway, run):
    async with opened(gateway) as ws:
        await asked(ws, type="subscribe", run=run, replay="none")
        frames = [await heard(ws) for _ in range(2)]
        assert {frame["type"] for frame in frames} == {"heartbeat"}


async def test_a_long_poll_with_a_token_that_ran_out_is_auth_expired(gateway, run):
    async with caller(gateway, ttl_s=-1) as client:
        assert_problem(await client.get(f"/runs/{run}/events", params={"wait": 5}), 401, "auth.expired")


async def test_a_long_poll_that_waits_ends_with_its_token(gateway, run):
    async with caller(gateway) as owner, caller(gateway, ttl_s=3) as client:
        latest = (await owner.get(f"/runs/{run}/events")).json()["cursor"]
        answer = await client.get(f"/runs/{run}/events", params={"wait": 30, "after": latest})
        assert_problem(answer, 401, "auth.expired")


async def test_who_waits_for_a_result_has_asked_in_time(gateway):
    """Nothing else tells it which run it started."""
    async with caller(gateway, ttl_s=3) as client:
        answer = await client.post("/run", json={"pipeline": "words", "input": {"count": 8, "gap_s": 0.5}})
        assert (answer.status_code, answer.json()["status"]) == (200, "completed")
        assert_problem(await client.get("/runs"), 401, "auth.expired")


async def test_a_ticket_ends_with_the_token_it_came_from_and_the_next_goes_on_at_the_cursor(gateway):
    async with caller(gateway) as publisher, httpx.AsyncClient(base_url=gateway.url, timeout=15) as bare:
        run = await started(publisher, "external")

        async def watch(ttl_s: float, **params) -> list[dict]:
            made = await bare.post("/tickets", headers=bearer(ttl_s=ttl_s))
            return own(await by_sse(bare, run, ticket=made.json()["ticket"], replay="full", **params))

        seen: list[dict] = []
        for number in range(3):
            await published(publisher, run, {"type": "x.tick", "number": number})
            if number == 2:
                await finished(publisher, run)
            seen += await watch(3, **({"after": seen[-1]["id"]} if seen else {}))
        whole = await by_poll(publisher, run, replay="full")
        assert seen == whole


async def test_after_the_end_a_fresh_token_goes_on_from_the_cursor(gateway):
    async with caller(gateway) as publisher, caller(gateway, ttl_s=2) as client:
        run = await started(publisher, "external")
        await published(publisher, run, {"type": "x.one"})
        before = own(await by_sse(client, run, replay="full"))
        await published(publisher, run, {"type": "x.two"})
        await finished(publisher, run)
        rest = await by_poll(publisher, run, replay="full", after=before[-1]["id"])
        assert [event["type"] for event in before + rest][2:] == ["x.one", "x.two", "run.completed"]
