"""Who is asking: headers, tickets, cookies, keys of every kind, and the development token."""

import asyncio
import json
import os
import subprocess
import sys
import time

import httpx
import jwt
import pytest
import websockets
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.e2e.clients import (
    STREAM,
    asked,
    assert_problem,
    by_sse,
    closed,
    exchange,
    finished,
    head,
    heard,
    own,
    served,
    started,
    ticket,
)
from tests.e2e.process import ALL_SCOPES, ROOT, SECRET, bearer, token

COOKIE = "session"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway that takes a cookie, and has one foreign page as a friend."""
    folder = tmp_path_factory.mktemp("gateway")
    with served(folder, cookie=COOKIE, allowed_origins="https://friend.example") as running:
        yield running


@pytest.fixture
async def browser(gateway):
    """Whoever has nothing but the cookie."""
    async with httpx.AsyncClient(base_url=gateway.url, cookies={COOKIE: token()}, timeout=10) as browser:
        yield browser


async def test_a_ticket_opens_one_stream_and_no_second(gateway, client):
    run = await started(client, count=2)
    async with httpx.AsyncClient(base_url=gateway.url) as bare:
        once = await ticket(client)
        assert own(await by_sse(bare, run, ticket=once))[-1]["type"] == "run.completed"
        assert_problem(await bare.get(f"/runs/{run}/events", params={"ticket": once}), 401, "auth.invalid")
        polled = await bare.get(f"/runs/{run}/events", params={"ticket": await ticket(client)})
        assert polled.json()["done"] is True


async def test_of_many_who_redeem_a_ticket_at_once_one_gets_in(gateway, client):
    run = await started(client, count=0)
    once = await ticket(client)
    limits = httpx.Limits(max_connections=30)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=10, limits=limits) as bare:
        asking = [bare.get(f"/runs/{run}/events", params={"ticket": once}) for _ in range(30)]
        statuses = [answer.status_code for answer in await asyncio.gather(*asking)]
    assert sorted(statuses) == [200] + [401] * 29


async def test_a_ticket_opens_joins_and_nothing_else(gateway, client):
    run = await started(client, count=1)
    async with httpx.AsyncClient(base_url=gateway.url) as bare:
        for method, path in (
            ("GET", f"/runs/{run}"),
            ("GET", "/runs"),
            ("POST", "/runs"),
            ("POST", "/tickets"),
            ("GET", "/pipelines"),
            ("DELETE", f"/runs/{run}"),
            ("POST", f"/runs/{run}/events"),
        ):
            answer = await bare.request(method, path, params={"ticket": await ticket(client)})
            assert_problem(answer, 401, "auth.invalid")


async def test_a_ticket_narrowed_to_runs_is_narrowed(gateway, client):
    one, other = await started(client, count=1), await started(client, count=1)
    async with httpx.AsyncClient(base_url=gateway.url) as bare:
        for run, status in ((one, 200), (other, 404)):
            params = {"ticket": await ticket(client, runs=[one])}
            assert (await bare.get(f"/runs/{run}/events", params=params)).status_code == status
        params = {"ticket": await ticket(client, runs=[])}
        assert_problem(await bare.get(f"/runs/{one}/events", params=params), 404, "run.not_found")


async def test_a_ticket_has_no_more_scopes_and_no_longer_life_than_its_token(gateway, client):
    run = await started(client, "external")
    async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as bare:
        weak = (await bare.post("/tickets", headers=bearer(scope="runs:cancel"))).json()["ticket"]
        assert_problem(await bare.get(f"/runs/{run}/events", params={"ticket": weak}), 403, "auth.forbidden")
        short = (await bare.post("/tickets", headers=bearer(ttl_s=2))).json()["ticket"]
        frames = await by_sse(bare, run, ticket=short)
        assert frames[-1]["type"] == "auth.expiring"
    await finished(client, run)


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"}]
)
async def test_a_cookie_is_enough_to_read(browser, headers):
    assert (await browser.get("/runs", headers=headers)).status_code == 200


async def test_a_cookie_from_another_site_is_forbidden(browser):
    assert_problem(await browser.get("/runs", headers={"Sec-Fetch-Site": "cross-site"}), 403, "auth.forbidden")
    for origin in ("https://evil.example", "null"):
        assert_problem(await browser.get("/runs", headers={"Origin": origin}), 403, "auth.forbidden")
        for method, path in (("POST", "/runs"), ("POST", "/tickets"), ("DELETE", "/runs/x")):
            answer = await browser.request(method, path, headers={"Origin": origin})
            assert_problem(answer, 403, "auth.forbidden")


async def test_an_unsafe_method_with_a_cookie_needs_an_origin_that_belongs_here(gateway, browser):
    body = {"pipeline": "words", "input": {"count": 0}}
    assert_problem(await browser.post("/runs", json=body), 403, "auth.forbidden")
    for origin in (gateway.url, "https://friend.example", "HTTPS://FRIEND.example"):
        assert (await browser.post("/runs", json=body, headers={"Origin": origin})).status_code == 201


async def test_a_websocket_with_a_cookie_needs_an_origin_that_belongs_here(gateway):
    cookie = {"Cookie": f"{COOKIE}={token()}"}
    async with websockets.connect(gateway.ws, additional_headers=cookie, origin=gateway.url) as ws:
        assert (await heard(ws))["type"] == "hello"
        assert (await asked(ws, type="ping"))["ok"]
    async with websockets.connect(gateway.ws, additional_headers=cookie) as ws:
        assert await closed(ws) == 4003
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(gateway.ws, additional_headers=cookie, origin="https://evil.example")
    assert refused.value.response.status_code == 403


async def test_one_credential_counts_and_a_bad_one_is_never_passed_over(gateway, browser):
    assert_problem(await browser.get("/runs", headers={"Authorization": "Bearer no"}), 401, "auth.invalid")
    async with httpx.AsyncClient(base_url=gateway.url, cookies={COOKIE: "nonsense"}) as bad:
        assert_problem(await bad.get("/runs"), 401, "auth.invalid")
        assert (await bad.get("/runs", headers=bearer())).status_code == 200
    async with httpx.AsyncClient(base_url=gateway.url, cookies={COOKIE: token(ttl_s=-9)}) as old:
        assert_problem(await old.get("/runs"), 401, "auth.expired")


async def test_a_cookie_is_no_credential_where_none_is_named(tmp_path):
    with served(tmp_path) as plain:
        async with httpx.AsyncClient(base_url=plain.url, cookies={COOKIE: token(), "token": token()}) as browser:
            assert_problem(await browser.get("/runs"), 401, "auth.missing")


def run_token(*arguments: str, **settings: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNCAST_")}
    environment |= {f"RUNCAST_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "gateway", "token", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=15, check=False)


async def test_the_token_command_makes_tokens_that_the_server_takes(gateway):
    made = run_token("--sub", "alice", "--scope", "runs:start runs:read", "--ttl", "60", jwt_secret=SECRET)
    assert made.returncode == 0, made.stderr
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    assert httpx.get(f"{gateway.url}/runs", headers=headers).status_code == 200
    assert_problem(httpx.post(f"{gateway.url}/runs/x/cancel", headers=headers), 403, "auth.forbidden")


@pytest.mark.parametrize("arguments", [[], ["--sub", ""], ["--sub", "a", "--ttl", "0"], ["--sub", "a", "--ttl", "nan"]])
async def test_a_wrong_token_command_is_exit_status_2_without_a_traceback(arguments):
    refused = run_token(*arguments, jwt_secret=SECRET)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Traceback" not in refused.stderr


async def test_without_a_usable_secret_the_token_command_is_one_line():
    for settings in ({}, {"jwt_secret": "short"}):
        refused = run_token("--sub", "a", **settings)
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: RUNCAST_JWT_SECRET")
        assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "fitting", "foreign"),
    [
        (rsa.generate_private_key(65537, 2048), ["RS256", "PS512"], []),
        (ec.generate_private_key(ec.SECP256R1()), ["ES256"], []),
        (ed25519.Ed25519PrivateKey.generate(), ["EdDSA"], []),
    ],
    ids=["rsa", "ec", "ed25519"],
)
async def test_a_public_key_takes_its_own_algorithms_and_no_hmac(tmp_path, key, fitting, foreign):
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = {"sub": "alice", "scope": ALL_SCOPES, "exp": time.time() + 60, "iss": "here", "aud": "us"}
    settings = {"jwt_secret": None, "jwt_public_key": public.decode(), "jwt_issuer": "here", "jwt_audience": "us"}
    with served(tmp_path, **settings) as gateway:

        def status(token: str) -> int:
            return httpx.get(f"{gateway.url}/runs", headers={"Authorization": f"Bearer {token}"}).status_code

        for algorithm in fitting:
            assert status(jwt.encode(claims, key, algorithm)) == 200
            for wrong in ({"iss": "there"}, {"aud": "them"}, {"iss": None}, {"aud": None}):
                left = {name: value for name, value in {**claims, **wrong}.items() if value is not None}
                assert status(jwt.encode(left, key, algorithm)) == 401
        assert status(signed_with_the_public_key(claims, public)) == 401
        assert status(jwt.encode(claims, None, "none")) == 401
        assert status(token()) == 401


def signed_with_the_public_key(claims: dict, public: bytes) -> str:
    """An HMAC token whose secret is the published key: the classic confusion. PyJWT itself refuses to make one."""
    import base64
    import hashlib
    import hmac

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    signed = f"{part(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(hmac.new(public, signed.encode(), hashlib.sha256).digest())}"


async def test_the_console_token_is_given_to_the_console_on_this_machine_and_to_nobody_else(tmp_path):
    with served(tmp_path, "--dev") as gateway:
        asks = ("GET", "/console/token")
        here = f"Host: 127.0.0.1:{gateway.port}"

        def status(*lines: str, host: str = here, kept: str = "keep-alive") -> bytes:
            lines = (f"Connection: {kept}", *lines)
            request = head(*asks, *lines).replace(b"Host: 127.0.0.1\r\n", f"{host}\r\n".encode(), 1)
            return exchange(gateway, request, until=b"\r\n").split()[1]

        same = "Sec-Fetch-Site: same-origin"
        assert status(same) == b"200"
        assert status(same, host=f"Host: localhost:{gateway.port}") == b"200"
        assert status() == b"404"
        for site in ("cross-site", "same-site", "none", ""):
            assert status(f"Sec-Fetch-Site: {site}") == b"404"
        for host in ("example.org", "192.168.0.1:80", "127.0.0.1.example.org", "localhost.example.org", "", "[::2]:80"):
            assert status(same, host=f"Host: {host}") == b"404"
        for forwarded in (
            "X-Forwarded-For: 127.0.0.1",
            "Forwarded: for=127.0.0.1",
            "X-Forwarded-Host: localhost",
            "Via: 1.1 p",
            "X-Real-IP: 127.0.0.1",
            "X-Forwarded-Server: p",
            "X-Original-URL: /console/token",
            "CF-Connecting-IP: 127.0.0.1",
            "forwarded: ",
        ):
            assert status(same, forwarded) == b"404"
        old = head(*asks, same, version="1.0").replace(b"Host: 127.0.0.1\r\n", f"{here}\r\n".encode(), 1)
        assert exchange(gateway, old).split()[1] == b"404"
        # As nginx speaks to what it passes on to, when it is told nothing else.
        assert status(same, kept="close") == b"404"
        given = httpx.get(f"{gateway.url}/console/token", headers={"Sec-Fetch-Site": "same-origin"}).json()
        headers = {"Authorization": f"Bearer {given['token']}"}
        assert httpx.get(f"{gateway.url}/runs", headers=headers).status_code == 200
        assert given["token"] not in gateway.output


async def test_without_dev_there_is_no_console_token(gateway):
    answer = httpx.get(f"{gateway.url}/console/token", headers={"Sec-Fetch-Site": "same-origin", **STREAM})
    assert_problem(answer, 404, "not_found")
