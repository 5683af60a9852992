"""A credential is taken back: every connection that it opened ends within a second, and it opens no other.

Over 300 lines: what watches all that a credential can open is the half of it.
"""

import asyncio
import json
import secrets
import signal
import time

import httpx
import jwt
import pytest
import websockets

from tests.e2e.clients import (
    PATIENCE_S,
    STREAM,
    asked,
    assert_problem,
    caller,
    closed,
    eventually,
    finished,
    head,
    heard,
    opened,
    published,
    said,
    served,
    ticket,
)
from tests.e2e.process import ALL_SCOPES, SECRET, GatewayProcess, bearer, token

COOKIE = "session"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("gateway"), cookie=COOKIE) as running:
        yield running


@pytest.fixture
def who() -> str:
    """A subject of this test's own."""
    return f"subject-{secrets.token_hex(4)}"


@pytest.fixture
async def run(gateway, who):
    """A run of theirs that goes on."""
    async with caller(gateway, "maker") as maker:
        answer = await maker.post("/runs", json={"pipeline": "external", "owner": who})
        run = answer.json()["id"]

        async def going():
            return (await maker.get(f"/runs/{run}")).json()["status"] == "running"

        await eventually(going)
        yield run
        await finished(maker, run)


def named(sub: str, jti: str, **more) -> str:
    now = int(time.time())
    claims = {"sub": sub, "scope": ALL_SCOPES, "iat": now, "exp": now + 600, "jti": jti, **more}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, SECRET)


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def holder(gateway, token: str | None = None, **more) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gateway.url, headers=bearing(token) if token else {}, timeout=PATIENCE_S, **more)


async def revoked(gateway, **what) -> None:
    async with caller(gateway, "root", "admin") as admin:
        answer = await admin.post("/revocations", json=what)
        assert (answer.status_code, answer.content) == (204, b""), answer.text


class Watching:
    """Every way to watch a run, each with one credential, begun and then waited for."""

    def __init__(self, gateway, token: str, run: str) -> None:
        self.gateway, self.token, self.run = gateway, token, run
        self.begun = 0
        self.tasks: dict[str, asyncio.Task] = {}

    async def begin(self) -> None:
        async with holder(self.gateway, self.token) as client:
            events = f"/runs/{self.run}/events"
            ways = {
                "sse": self.sse(events),
                "sse in a dialect": self.sse(f"{events}?dialect=workflow"),
                "sse of several": self.sse(f"/events?run={self.run}"),
                "sse at an alias": self.sse(f"/api/autopilot/stream?taskId={self.run}"),
                "sse by ticket": self.sse(f"{events}?ticket={await ticket(client)}", headers={}),
                "sse by cookie": self.sse(events, headers={"Cookie": f"{COOKIE}={self.token}"}),
                "sse over HTTP/1.0": self.plain(events),
                "sse of a start": self.start_and_stream(),
                "websocket": self.socket(headers=bearing(self.token)),
                "websocket by ticket": self.socket(query=f"?ticket={await ticket(client)}"),
                "websocket by cookie": self.socket(
                    headers={"Cookie": f"{COOKIE}={self.token}"}, origin=self.gateway.url
                ),
                "websocket by frame": self.socket(first=self.token),
                "poll": self.poll(f"{events}?wait=30"),
                "poll by ticket": self.poll(f"{events}?wait=30&ticket={await ticket(client)}", headers={}),
                "run and wait": self.run_and_wait(),
            }
        self.tasks = {name: asyncio.create_task(way) for name, way in ways.items()}
        async with asyncio.timeout(PATIENCE_S):
            while self.begun < len(ways):
                for name, task in self.tasks.items():
                    assert not task.done(), (name, task.exception() or task.result())
                await asyncio.sleep(0.02)

    async def ended(self) -> dict[str, object]:
        async with asyncio.timeout(PATIENCE_S):
            return {name: await task for name, task in self.tasks.items()}

    async def sse(self, path: str, *, headers: dict | None = None) -> list[str]:
        headers = (bearing(self.token) if headers is None else headers) | STREAM
        async with holder(self.gateway) as client, client.stream("GET", path, headers=headers) as answer:
            return await self.lines(answer)

    async def plain(self, path: str) -> list[str]:
        """A stream that does not go straight to its socket."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        try:
            credential = f"Authorization: Bearer {self.token}"
            writer.write(head("GET", path, credential, "Accept: text/event-stream", version="1.0"))
            await reader.readuntil(b"\r\n\r\n")
            self.begun += 1
            return (await reader.read()).decode().splitlines()
        finally:
            writer.close()

    async def start_and_stream(self) -> list[str]:
        body = {"pipeline": "external"}
        async with (
            holder(self.gateway, self.token) as client,
            client.stream("POST", "/run/stream", json=body) as answer,
        ):
            return await self.lines(answer)

    async def lines(self, answer) -> list[str]:
        """Every line of a stream, to its end in order."""
        assert answer.status_code == 200
        seen: list[str] = []
        async for line in answer.aiter_lines():
            if not seen:
                self.begun += 1
            seen.append(line)
        return seen

    async def socket(self, *, query: str = "", first: str | None = None, **how) -> int:
        how["additional_headers"] = how.pop("headers", {})
        async with websockets.connect(self.gateway.ws + query, open_timeout=PATIENCE_S, **how) as ws:
            assert (await heard(ws))["type"] == "hello"
            if first:
                assert (await asked(ws, type="authenticate", token=first))["ok"]
            assert (await asked(ws, type="subscribe", run=self.run, replay="none"))["ok"]
            self.begun += 1
            return await closed(ws)

    async def poll(self, path: str, *, headers: dict | None = None) -> tuple[int, str]:
        headers = bearing(self.token) if headers is None else headers
        async with holder(self.gateway) as client:
            start = (await client.get(f"/runs/{self.run}/events", headers=bearer("maker"))).json()["cursor"]
            self.begun += 1
            answer = await client.get(f"{path}&after={start}", headers=headers)
            return answer.status_code, answer.json().get("code")

    async def run_and_wait(self) -> tuple[int, str]:
        async with holder(self.gateway, self.token) as client:
            self.begun += 1
            answer = await client.post("/run", json={"pipeline": "external"})
            return answer.status_code, answer.json().get("code")


@pytest.mark.parametrize("by", ["jti", "sub"])
async def test_whatever_a_credential_opened_ends_when_it_is_revoked(gateway, who, run, by):
    name = secrets.token_hex(8)
    theirs, others = Watching(gateway, named(who, name), run), Watching(gateway, token("maker"), run)
    await theirs.begin()
    await others.begin()
    async with holder(gateway, theirs.token) as client:
        unspent = [await ticket(client) for _ in range(2)]
        await revoked(gateway, **{by: {"jti": name, "sub": who}[by]})
        outcomes = await theirs.ended()
        for way, outcome in outcomes.items():
            if way.startswith("sse"):
                assert outcome[0].startswith(("retry:", "event: hello", ": hello")), (way, outcome)
                assert not any("run.completed" in line for line in outcome)
            elif way.startswith("websocket"):
                assert (way, outcome) == (way, 4001)
            else:
                assert (way, outcome) == (way, (401, "auth.revoked"))
        # Nothing opens any more, by no credential that came of it.
        for method, path in (("GET", "/runs"), ("POST", "/tickets"), ("GET", f"/runs/{run}/events"), ("POST", "/run")):
            assert_problem(await client.request(method, path), 401, "auth.revoked")
        streaming = await client.get(f"/runs/{run}/events", headers=STREAM)
        assert_problem(streaming, 401, "auth.revoked")
    async with holder(gateway, cookies={COOKIE: theirs.token}) as browser:
        assert_problem(await browser.get("/runs"), 401, "auth.revoked")
        assert_problem(await browser.get(f"/runs/{run}/events", params={"ticket": unspent[0]}), 401, "auth.revoked")
    async with websockets.connect(f"{gateway.ws}?ticket={unspent[1]}") as ws:
        assert await closed(ws) == 4001
        assert ws.close_reason == "auth.revoked"
    # Nobody else lost anything.
    async with caller(gateway, "maker") as maker:
        assert not any(task.done() for task in others.tasks.values())
        await published(maker, run, {"type": "x.after"})
        assert (await others.tasks["poll"])[0] == 200
    for task in others.tasks.values():
        task.cancel()
    await asyncio.wait(others.tasks.values())


async def test_a_fresh_token_of_the_subject_is_good_and_one_of_before_is_not(gateway, who):
    before = int(time.time())
    await revoked(gateway, sub=who)
    after = int(time.time()) + 1
    async with holder(gateway) as client:
        for issued_at, status in ((before, 401), (None, 401), (after, 200)):
            answer = await client.get("/runs", headers=bearing(named(who, "any", iat=issued_at)))
            assert (issued_at, answer.status_code) == (issued_at, status)


async def test_by_jti_no_other_token_of_the_subject_is_touched(gateway, who):
    one, other = secrets.token_hex(8), secrets.token_hex(8)
    await revoked(gateway, jti=one)
    async with holder(gateway) as client:
        assert_problem(await client.get("/runs", headers=bearing(named(who, one))), 401, "auth.revoked")
        for fine in (named(who, other), named(who, None)):
            assert (await client.get("/runs", headers=bearing(fine))).status_code == 200


async def test_a_socket_is_not_renewed_with_a_revoked_token_and_a_renewed_one_outlives_the_old(gateway, who, run):
    old, new, third = (secrets.token_hex(8) for _ in range(3))
    async with opened(gateway, headers=bearing(named(who, old))) as ws:
        await said(ws, type="subscribe", run=run, replay="none")
        assert (await heard(ws))["ok"]
        assert (await asked(ws, type="authenticate", token=named(who, new)))["ok"]
        await revoked(gateway, jti=old)
        async with caller(gateway, "maker") as maker:
            await published(maker, run, {"type": "x.still"})
        assert (await heard(ws))["type"] == "x.still"
        await revoked(gateway, jti=third)
        refused = await asked(ws, type="authenticate", token=named(who, third))
        assert refused["error"]["code"] == "auth.revoked"
        assert await closed(ws) == 4001


async def test_who_opens_while_it_is_revoked_does_not_stay(gateway, who, run):
    """Streams that are being opened all the while: none is left, whichever came first."""
    name = secrets.token_hex(8)
    headers = bearing(named(who, name)) | STREAM

    async def watch(client) -> int:
        async with client.stream("GET", f"/runs/{run}/events", headers=headers) as answer:
            async for _ in answer.aiter_lines():
                pass
            return answer.status_code

    async with asyncio.timeout(PATIENCE_S), holder(gateway) as client:
        watching = []
        for number in range(60):
            watching.append(asyncio.create_task(watch(client)))
            await asyncio.sleep(0.005)
            if number == 30:
                watching.append(asyncio.create_task(revoked(gateway, jti=name)))
        statuses = await asyncio.gather(*watching)
    assert set(statuses) <= {200, 401, None}
    assert statuses[-1] == 401


async def test_it_survives_a_restart_and_a_kill(tmp_path, who):
    before = int(time.time())
    with served(tmp_path) as first:
        await revoked(first, jti="gone")
        await revoked(first, sub=who)
    again = GatewayProcess(tmp_path).start()
    try:
        async with holder(again) as client:
            for bad in (named("anyone", "gone"), named(who, "any", iat=before)):
                assert_problem(await client.get("/runs", headers=bearing(bad)), 401, "auth.revoked")
            await revoked(again, jti="gone too")
        again.stop(signal.SIGKILL)
        again.start()
        async with holder(again) as client:
            for name, status in (("gone", 401), ("gone too", 401), ("other", 200)):
                answer = await client.get("/runs", headers=bearing(named("anyone", name)))
                assert (name, answer.status_code) == (name, status)
    finally:
        again.stop(signal.SIGKILL)


@pytest.mark.parametrize(
    "body",
    [{}, {"jti": "a", "sub": "b"}, {"jti": ""}, {"sub": ""}, {"jti": 1}, {"sub": ["a"]}, {"jti": None}, {"exp": 1},
     {"sub": "a" * 256}, {"jti": "a", "more": 1}, [], "jti"],
    ids=str,
)  # fmt: skip
async def test_what_revokes_nothing_or_two_things_is_input_invalid(gateway, body):
    async with caller(gateway, "root", "admin") as admin:
        assert_problem(await admin.post("/revocations", json=body), 422, "input.invalid")


async def test_it_takes_the_scope_admin_and_can_be_said_twice(gateway, who):
    async with caller(gateway, "root", ALL_SCOPES) as client:
        assert_problem(await client.post("/revocations", json={"sub": who}), 403, "auth.forbidden")
    for _ in range(2):
        await revoked(gateway, jti=who)
    audited = [json.loads(line) for line in gateway.output.splitlines() if '"revoke"' in line]
    outcomes = [(line["outcome"], line["subject"]) for line in audited]
    assert ("auth.forbidden", "root") in outcomes
    assert ("ok", "root") in outcomes


async def test_in_memory_it_counts_as_long_as_everything_else(tmp_path, who):
    with served(tmp_path, broker="memory:") as plain:
        await revoked(plain, sub=who)
        async with holder(plain) as client:
            answer = await client.get("/runs", headers=bearing(named(who, "any", iat=None)))
            assert_problem(answer, 401, "auth.revoked")
