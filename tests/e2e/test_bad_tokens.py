"""The table of forged, broken and foreign tokens at the real doors: each is refused with its code, by every way in.

And whatever happens, no credential stands in a log, a metric or an answer.
"""

import asyncio
import re
import secrets

import httpx
import pytest
import websockets

from tests.auth.doubles import AUDIENCE, ISSUER, SECRET, kit, public_pem
from tests.auth.test_bad_tokens import BAD
from tests.e2e import process
from tests.e2e.clients import (
    PATIENCE_S,
    STREAM,
    asked,
    assert_problem,
    caller,
    closed,
    exchange,
    finished,
    head,
    heard,
    opened,
    said,
    served,
    started,
)
from tests.e2e.process import bearer, token

COOKIE = "session"
CLOSES = {"auth.invalid": 4001, "auth.expired": 4200}
# What a header cannot carry is refused below, where HTTP is read; a frame carries nearly everything.
IN_HEADER = re.compile(r"[!-~]{1,8000}(?: [!-~]+)*")
IN_COOKIE = re.compile(r"[A-Za-z0-9._=-]{1,4000}")


@pytest.fixture(scope="module", params=["ES256", "HS256"])
def door(request, tmp_path_factory):
    """A gateway with a key of this kind, and that kind's kit."""
    k = kit(request.param)
    key = {"jwt_secret": SECRET} if k.keys.signing else {"jwt_secret": None, "jwt_public_key": public_pem(k.key)}
    settings = {**key, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "cookie": COOKIE}
    with served(tmp_path_factory.mktemp("gateway"), **settings) as running:
        yield running, k


async def test_the_good_token_of_the_table_passes(door):
    gateway, k = door
    async with httpx.AsyncClient(base_url=gateway.url, cookies={COOKIE: k.sign()}) as client:
        assert (await client.get("/runs", headers={"Authorization": f"Bearer {k.sign()}"})).status_code == 200
        assert (await client.get("/runs")).status_code == 200
    async with websockets.connect(gateway.ws) as ws:
        await heard(ws)
        assert (await asked(ws, type="authenticate", token=k.sign()))["ok"]


async def test_each_bad_token_is_refused_in_a_header_and_in_a_cookie(door):
    gateway, k = door
    carried = 0
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        for name, (make, code) in BAD.items():
            bad = make(k)
            ways = [{"Authorization": f"Bearer {bad}"}] if IN_HEADER.fullmatch(bad) else []
            ways += [{"Cookie": f"{COOKIE}={bad}"}] if IN_COOKIE.fullmatch(bad) else []
            for headers in ways:
                for accept in ({}, STREAM):
                    answer = await client.get("/runs/x/events", headers=headers | accept)
                    assert (name, answer.status_code) == (name, 401)
                    assert_problem(answer, 401, code)
                    assert bad not in answer.text
                    carried += 1
    assert carried > 3 * len(BAD)


async def test_each_bad_token_is_refused_in_a_frame(door):
    gateway, k = door

    async def tried(name: str) -> None:
        make, code = BAD[name]
        async with websockets.connect(gateway.ws, open_timeout=PATIENCE_S) as ws:
            await heard(ws)
            if name == "a lone surrogate":  # no JSON, so nothing that could be answered
                await said(ws, type="authenticate", token=make(k))
                assert await closed(ws) == 4001
                return
            reply = await asked(ws, type="authenticate", token=make(k))
            assert (name, reply["ok"], reply["error"]["code"]) == (name, False, code)
            assert (name, await closed(ws)) == (name, CLOSES[code])

    names = list(BAD)
    for start in range(0, len(names), 20):
        await asyncio.gather(*map(tried, names[start : start + 20]))


@pytest.mark.parametrize("raw", [b"\x00", b"\x7f", b"\xff\xfe", b"a\x0bb", b"a\rb", b"a\r\n b"])
async def test_a_token_that_no_header_can_carry_gets_nowhere(door, raw):
    gateway, k = door
    request = head("GET", "/runs").replace(
        b"\r\n\r\n", b"\r\nAuthorization: Bearer " + k.sign().encode() + raw + b"\r\n\r\n"
    )
    answer = exchange(gateway, request)
    assert answer.split(b" ", 2)[1] in (b"400", b"401"), answer
    assert k.sign().encode() not in answer


async def test_no_credential_is_ever_told(tmp_path):
    """All doors, good and bad, with the log at its most talkative; then everything that was said is looked through."""
    told: list[str] = []
    spoken: set[str] = set()

    def secret(text: str) -> str:
        spoken.add(text)
        return text

    with served(tmp_path, cookie=COOKIE, log_level="debug", drain_s=1) as gateway:
        good, jti = secret(token("spy")), secrets.token_hex(8)
        bad = [secret(token("spy", ttl_s=-9)), secret(good[:-6] + "AAAAAA"), secret("swordfish" * 4)]
        async with (
            caller(gateway, "admin", "admin " + process.ALL_SCOPES) as admin,
            httpx.AsyncClient(base_url=gateway.url, headers={"Authorization": f"Bearer {good}"}) as client,
            httpx.AsyncClient(base_url=gateway.url) as bare,
        ):
            secret(admin.headers["Authorization"].removeprefix("Bearer "))
            run = await started(client, "external")
            answers = [
                await client.post("/run", json={"pipeline": "broken"}),
                await client.post("/runs", content=b"{"),
                await client.get(f"/runs/{run}"),
                await client.get("/nothing"),
            ]
            for each in (good, *bad):
                answers += [
                    await bare.get("/runs", headers={"Authorization": f"Bearer {each}"}),
                    await bare.get("/runs", headers={"Authorization": each}),
                    await bare.get("/runs", headers={"Cookie": f"{COOKIE}={each}", "Origin": "https://evil.example"}),
                    await bare.get("/runs", headers={"Cookie": f"{COOKIE}={each}"}),
                    await bare.get("/runs", params={"token": each, "ticket": each}),
                    await bare.get(f"/runs/{each}", headers=bearer("spy")),
                    await bare.get(f"/runs/{each[-40:]}/events"),
                    await bare.get(f"/runs/{run}/events", params={"ticket": each, "after": each}),
                    await bare.post("/runs", json={"pipeline": each}, headers={"Idempotency-Key": each}),
                    await bare.get(f"/{each}"),
                ]
                async with websockets.connect(f"{gateway.ws}?ticket={each}") as ws:
                    await closed(ws)
                    told.append(str(ws.close_reason))
                async with opened(gateway) as ws:
                    told.append(str(await asked(ws, type="authenticate", token=each)))
                    await closed(ws)
                # A frame that breaks its rules with a token in it.
                async with opened(gateway) as ws:
                    await said(ws, type="authenticate", tokens=each)
                    told.append(str(await heard(ws)))
            for path in ("/run", "/pipelines", "/events"):
                for body in ({"runs": None}, {"runs": [run]}):
                    ticket = secret((await client.post("/tickets", json=body)).json()["ticket"])
                    answers.append(await bare.get(path, params={"ticket": ticket, "run": run, "replay": "all"}))
                    answers.append(await bare.get(f"/runs/{run}/events", params={"ticket": ticket, "wait": "soon"}))
            exchange(gateway, head("GET", "/runs", f"Authorization: Bearer {good}", f"X-Large: {'x' * 200_000}"))
            exchange(gateway, head("GET", f"/runs?ticket={good}", "Content-Length: -1"))
            await finished(client, run)
            answers += [
                await admin.post("/revocations", json={"jti": jti}),
                await admin.post("/revocations", json={"sub": "spy"}),
                await client.get("/runs"),
                await bare.get("/metrics"),
                await bare.get("/openapi.json"),
            ]
            told += [answer.text + str(answer.headers) for answer in answers]
    told.append(gateway.output)
    assert '"level": "error"' in gateway.output or '"level":"error"' in gateway.output, "the scenario is too tame"
    everything = "\n".join(told)
    assert process.SECRET not in everything
    for credential in spoken:
        # Neither it nor a telling part of it; what echoes an address of its own may name the path.
        assert credential[-20:] not in everything, credential
