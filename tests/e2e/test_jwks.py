"""A gateway whose keys come from an issuer: rotation, outage, and a key that is withdrawn under live connections."""

import asyncio

import httpx
import pytest
import websockets

from tests.auth.issuer import PublishedKeys, jwk, says, silent
from tests.auth.test_jwks import signed
from tests.e2e.clients import (
    PATIENCE_S,
    STREAM,
    asked,
    assert_problem,
    closed,
    eventually,
    heard,
    served,
)
from tests.e2e.process import ALL_SCOPES, GatewayProcess, token


@pytest.fixture
async def issuer():
    async with PublishedKeys(jwk("ES256")) as issuer:
        yield issuer


@pytest.fixture
async def gateway(tmp_path, issuer):
    """Looks at the issuer's keys often. It is started and stopped beside the loop, which the issuer needs."""
    settings = {"jwt_secret": None, "jwks_url": issuer.url, "jwks_refresh_s": 0.2, "jwt_audience": "runcast"}
    serving = served(tmp_path, **settings, heartbeat_s=3600)
    yield await asyncio.to_thread(serving.__enter__)
    await asyncio.to_thread(serving.__exit__, None, None, None)


def holder(gateway: GatewayProcess, kind: str = "ES256", **more) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {signed(kind, scope=ALL_SCOPES, **more)}"}
    return httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=PATIENCE_S)


async def status(gateway: GatewayProcess, kind: str = "ES256", **more) -> int:
    async with holder(gateway, kind, **more) as client:
        return (await client.get("/runs")).status_code


async def test_a_rotation_is_followed_without_a_refusal(gateway, issuer):
    assert await status(gateway) == 200
    issuer.keys = [jwk("ES256"), jwk("Ed25519")]
    assert await status(gateway, "Ed25519") == 200
    issuer.keys = [jwk("Ed25519")]

    async def gone():
        return await status(gateway) == 401

    await eventually(gone)
    assert await status(gateway, "Ed25519") == 200
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.get("/runs", headers={"Authorization": f"Bearer {token()}"})
        assert_problem(answer, 401, "auth.invalid")


async def test_a_withdrawn_key_ends_what_it_opened_and_no_more(gateway, issuer):
    issuer.keys = [jwk("ES256"), jwk("Ed25519")]
    async with holder(gateway) as old, holder(gateway, "Ed25519") as new:
        run = (await old.post("/runs", json={"pipeline": "external"})).json()["id"]

        async def watch(client) -> bytes:
            async with client.stream("GET", f"/runs/{run}/events", headers=STREAM) as answer:
                assert answer.status_code == 200
                return b"".join([part async for part in answer.aiter_bytes()])

        def socket(client):
            credential = {"Authorization": client.headers["Authorization"]}
            return websockets.connect(gateway.ws, additional_headers=credential)

        async with socket(old) as theirs, socket(new) as others:
            for ws in (theirs, others):
                assert (await heard(ws))["type"] == "hello"
                assert (await asked(ws, type="subscribe", run=run, replay="none"))["ok"]
            streaming, staying = asyncio.create_task(watch(old)), asyncio.create_task(watch(new))
            unspent = (await old.post("/tickets", json={})).json()["ticket"]
            polling = asyncio.create_task(old.get(f"/runs/{run}/events", params={"wait": 30, "after": "z-1"}))
            await polling
            latest = polling.result().json()["cursor"]
            polling = asyncio.create_task(old.get(f"/runs/{run}/events", params={"wait": 30, "after": latest}))
            issuer.keys = [jwk("Ed25519")]
            assert await closed(theirs) == 4200
            assert b"hello" in await asyncio.wait_for(streaming, PATIENCE_S)
            assert_problem(await asyncio.wait_for(polling, PATIENCE_S), 401, "auth.expired")
            async with httpx.AsyncClient(base_url=gateway.url) as bare:
                answer = await bare.get(f"/runs/{run}/events", params={"ticket": unspent})
                assert_problem(answer, 401, "auth.expired")
            assert (await asked(others, type="ping"))["ok"]
            assert not staying.done()
            assert (await new.post(f"/runs/{run}/finish", json={"status": "completed"})).status_code == 200
            assert b"run.completed" in await asyncio.wait_for(staying, PATIENCE_S)


@pytest.mark.parametrize("how", ["away", "status 500", "nonsense"])
async def test_an_outage_of_the_issuer_keeps_nobody_out_who_was_in(gateway, issuer, how):
    assert await status(gateway) == 200
    if how == "away":
        await issuer.end()
    else:
        issuer.instead = says(b"<h1>oops</h1>", status="500 Oops" if how == "status 500" else "200 OK")

    async def noticed():
        return "could not be refreshed" in gateway.output

    await eventually(noticed)
    assert await status(gateway, sub="bob") == 200
    # A key that only the issuer could know: come back later, in the words of each transport.
    async with holder(gateway, "Ed25519") as client:
        assert_problem(await client.get("/runs"), 503, "server.busy")
        streamed = await client.get("/runs/x/events", headers=STREAM)
        assert streamed.status_code == 200
        assert '"reason":"server.busy"' in streamed.text
        credential = {"Authorization": client.headers["Authorization"]}
        async with websockets.connect(gateway.ws, additional_headers=credential) as ws:
            assert await closed(ws) == 4103
    if how == "away":
        await issuer.begin()
    issuer.instead, issuer.keys = None, [jwk("ES256"), jwk("Ed25519")]

    async def back():
        return await status(gateway, "Ed25519") == 200

    await eventually(back)


async def test_who_waits_for_the_issuer_keeps_nobody_waiting(gateway, issuer):
    assert await status(gateway) == 200
    issuer.instead, before = silent, issuer.asked
    async with holder(gateway, "Ed25519") as stranger:
        waiting = asyncio.create_task(stranger.get("/runs"))

        async def under_way():
            return issuer.asked > before

        await eventually(under_way)
        for number in range(20):
            assert await status(gateway, sub=f"s{number}") == 200
        issuer.instead = None
        assert_problem(await waiting, 503, "server.busy")


async def test_the_gateway_starts_without_its_issuer(tmp_path, issuer):
    await issuer.end()
    settings = {"jwt_secret": None, "jwks_url": issuer.url, "jwks_refresh_s": 0.2}
    serving = served(tmp_path, **settings)
    gateway = await asyncio.to_thread(serving.__enter__)
    assert await status(gateway) == 503
    await issuer.begin()

    async def found():
        return await status(gateway) == 200

    await eventually(found)
    assert "RUNCAST_JWT_AUDIENCE" in gateway.output
    await asyncio.to_thread(serving.__exit__, None, None, None)
