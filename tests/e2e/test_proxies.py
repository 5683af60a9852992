"""Behind real proxies, with the configurations of docs/proxies.md: what works directly works through each of them.

Over 300 lines, because every case passes through the same proxies, which take long to start.
"""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

import httpx
import pytest
import websockets
from h2.exceptions import ProtocolError
from httpx_sse import aconnect_sse

from tests.e2e.clients import (
    PATIENCE_S,
    STREAM,
    asked,
    assert_problem,
    caller,
    eventually,
    finished,
    heard,
    log_of,
    published,
    served,
    started,
    terminals,
    until_end,
)
from tests.e2e.process import bearer
from tests.e2e.proxies import Certificate, Edit, Proxy, certificate, documented

HEARTBEAT_S = 0.3
CONNECTIONS = 6
# A proxy that has no gateway answers 502, which `watched` asserts it does not; httpx lets h2's own exception through.
BROKEN = (httpx.TransportError, ProtocolError, StopAsyncIteration, AssertionError)
TIRED_S = 1  # the proxy's patience with silence where a case is about that
PLAIN, PORTLESS = "nginx-proxy_pass-alone", "nginx-always-upgrade"
WAYS: dict[str, tuple[str, tuple[Edit, ...]]] = {
    "nginx": ("nginx", ()),
    PLAIN: ("nginx", (Edit(r"^ +proxy_(?!pass).*\n", ""),)),
    PORTLESS: (
        "nginx",
        (Edit(r"Connection +\$\w+", 'Connection "upgrade"'), Edit(r"Host +\$http_host", "Host $host")),
    ),
    "haproxy": ("haproxy", ()),
    "caddy": ("caddy", ()),
    "caddy-encode": ("caddy", (Edit(r"^(?= +reverse_proxy)", documented("caddy-encode")),)),
    "apache": ("apache", ()),
}
UPGRADING = [way for way in WAYS if way != PLAIN]
AT_HOME = [way for way in UPGRADING if way != PORTLESS]
IMPATIENT = {
    "nginx": (Edit(r"(?=^ +proxy_pass)", f"proxy_read_timeout {TIRED_S}s;\nproxy_send_timeout {TIRED_S}s;\n"),),
    "haproxy": (Edit(r"timeout (client|server) .*", rf"timeout \1 {TIRED_S}s"),),
    "apache": (Edit(r"\AProtocols", f"Timeout {TIRED_S}\nProxyTimeout {TIRED_S}\nProtocols"),),
}
COMPRESSING = {
    "nginx": Edit(r"(?=^ +proxy_pass)", "gzip on; gzip_proxied any; gzip_types *;\n"),
    "apache": Edit(r"(?=^ +ProxyPass )", "SetOutputFilter DEFLATE\n"),
}


class Line(NamedTuple):
    """From the client to the proxy."""

    tls: bool
    http2: bool


LINES = CLEAR, TLS, HTTP2 = Line(False, False), Line(True, False), Line(True, True)
lines = pytest.mark.parametrize("line", LINES, ids=["clear", "tls", "http2"])
through_upgrading = pytest.mark.parametrize("front", UPGRADING, indirect=True, scope="module")
lines_of_sockets = pytest.mark.parametrize("line", LINES[:2], ids=["clear", "tls"])


class Front(NamedTuple):
    """A proxy as clients come to it."""

    proxy: Proxy
    made: Certificate

    def caller(self, line: Line = CLEAR, *who, **more) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.proxy.url(tls=line.tls),
            verify=self.made.trusted if line.tls else True,
            http2=line.http2,
            headers=bearer(*who, **more),
            timeout=PATIENCE_S,
        )

    @asynccontextmanager
    async def socket(
        self, line: Line = CLEAR, headers: dict | None = None, **more
    ) -> AsyncIterator[websockets.ClientConnection]:
        """A WebSocket whose `hello` has come."""
        async with websockets.connect(
            self.proxy.url(tls=line.tls).replace("http", "ws", 1) + "/ws",
            ssl=self.made.trusted if line.tls else None,
            additional_headers=headers or bearer(),
            open_timeout=PATIENCE_S,
            **more,
        ) as ws:
            assert (await heard(ws))["type"] == "hello"
            yield ws


@asynccontextmanager
async def watched(client: httpx.AsyncClient, run: str, *, compressed: bool = False, **params):
    """What gives the next frame of a run's stream; StopAsyncIteration at its proper end."""
    path = f"/runs/{run}/events"
    async with aconnect_sse(client, "GET", path, params={"replay": "full", **params}) as source:
        assert source.response.status_code == 200, source.response
        assert ("content-encoding" in source.response.headers) is compressed
        async with aclosing(source.aiter_sse()) as events:

            async def frame() -> dict:
                async with asyncio.timeout(PATIENCE_S):
                    return json.loads((await anext(events)).data)

            yield frame


async def next_event(frame) -> dict:
    """The next of the run's own events, past heartbeats."""
    while "id" not in (found := await frame()):
        pass
    return found


async def follow(front: Front, line: Line, run: str, seen: list[dict]) -> None:
    """Collect a run's events by SSE, coming back with the cursor whenever the way breaks, until its end."""
    while not terminals(seen):
        after = {"after": seen[-1]["id"]} if seen else {}
        with contextlib.suppress(*BROKEN):
            async with front.caller(line) as client, watched(client, run, **after) as frame:
                while not terminals(seen):
                    seen.append(await next_event(frame))
        await asyncio.sleep(0.02)


def has(seen: list[dict], type: str):
    async def ask() -> bool:
        return any(event["type"] == type for event in seen)

    return ask


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(
        tmp_path_factory.mktemp("gateway"), heartbeat_s=HEARTBEAT_S, max_connections_per_subject=CONNECTIONS
    ) as running:
        yield running


@pytest.fixture(scope="module", params=WAYS)
def front(request, gateway, made, tmp_path_factory):
    kind, edits = WAYS[request.param]
    with Proxy(kind, tmp_path_factory.mktemp(request.param), gateway.port, made, *edits) as proxy:
        yield Front(proxy, made)


@pytest.fixture
async def client(gateway):
    """Past the proxy."""
    async with caller(gateway) as client:
        yield client


@lines
async def test_an_event_is_seen_before_the_next_is_made(front, client, line):
    run = await started(client, "external")
    async with front.caller(line) as viewer, watched(viewer, run) as frame:
        assert (await frame())["type"] == "hello"
        assert [(await next_event(frame))["type"] for _ in range(2)] == ["run.queued", "run.started"]
        for number in range(3):
            await published(client, run, {"type": "x.go", "number": number})
            assert (await next_event(frame))["number"] == number
        await finished(client, run)
        assert (await next_event(frame))["type"] == "run.completed"
        with pytest.raises(StopAsyncIteration):
            await frame()


@pytest.mark.parametrize("kind", COMPRESSING)
async def test_a_stream_that_is_compressed_although_it_asked_not_to_be_is_live(gateway, client, made, tmp_path, kind):
    run = await started(client, "external")
    with Proxy(kind, tmp_path, gateway.port, made, COMPRESSING[kind]) as proxy:
        async with Front(proxy, made).caller() as viewer, watched(viewer, run, compressed=True) as frame:
            for number in range(3):
                await published(client, run, {"type": "x.go", "number": number})
                while (await next_event(frame)).get("number") != number:
                    pass
    await finished(client, run)


@lines
async def test_a_run_can_be_started_and_streamed_in_one_request(front, line):
    body = {"pipeline": "words", "input": {"count": 3}}
    async with front.caller(line) as viewer:
        answer = await viewer.post("/run/stream", json=body, headers=STREAM)
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        again = await viewer.get(answer.headers["location"] + "/events", headers=STREAM)
        assert answer.text.partition("\n\n")[2].endswith(again.text.rpartition("\n\nid:")[2])


@lines_of_sockets
@through_upgrading
async def test_a_socket_is_live_both_ways(front, client, line):
    run = await started(client, "external")
    async with front.socket(line) as ws:
        assert (await asked(ws, type="subscribe", run=run, replay="none"))["ok"]
        for number in range(3):
            await published(client, run, {"type": "x.go", "number": number})
            while (found := await heard(ws)).get("number") != number:
                assert found["type"] == "heartbeat"
        assert (await asked(ws, type="cancel", run=run))["ok"]
        assert (await until_end(ws))[-1]["type"] == "run.cancelled"


@pytest.mark.parametrize("front", AT_HOME, indirect=True, scope="module")
async def test_a_page_of_the_same_host_may_open_a_socket_and_a_foreign_one_not(front):
    at_home = front.proxy.url(tls=True)
    async with front.socket(TLS, origin=at_home) as ws:
        assert (await asked(ws, type="ping"))["ok"]
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with front.socket(TLS, origin="https://elsewhere.example"):
            pass
    assert refused.value.response.status_code == 403


async def test_without_upgrade_the_socket_is_refused_and_nothing_hangs(gateway, made, tmp_path):
    kind, edits = WAYS[PLAIN]
    with Proxy(kind, tmp_path, gateway.port, made, *edits) as proxy:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with Front(proxy, made).socket():
                pass
        assert 400 <= refused.value.response.status_code < 500


@lines
async def test_a_long_poll_waits_for_what_happens(front, client, line):
    run = await started(client, "external")
    async with front.caller(line) as viewer:
        first = (await viewer.get(f"/runs/{run}/events")).json()
        query = {"after": first["cursor"], "wait": 30}
        waiting = asyncio.create_task(viewer.get(f"/runs/{run}/events", params=query))
        # A second request overtakes the one that waits: it has reached the gateway by then, or will find the event.
        assert (await viewer.get(f"/runs/{run}")).json()["status"] == "running"
        await published(client, run, {"type": "x.go"})
        assert [event["type"] for event in (await waiting).json()["events"]] == ["x.go"]
    await finished(client, run)


@lines
async def test_a_cancel_ends_the_stream(front, client, line):
    run = await started(client, "forever")
    async with front.caller(line) as viewer, watched(viewer, run) as frame:
        await next_event(frame)
        answer = await viewer.post(f"/runs/{run}/cancel", json={"reason": "enough"})
        assert answer.status_code == 202
        while (last := await next_event(frame))["type"] != "run.cancelled":
            pass
        assert last["reason"] == "enough"


async def test_a_viewer_who_leaves_is_noticed(front, client, gateway, request):
    """As many connections as one subject may have; as many others are welcome once they have left."""
    run = await started(client, "external")
    who = request.node.name
    async with contextlib.AsyncExitStack() as viewing:
        for number in range(CONNECTIONS):
            viewer = await viewing.enter_async_context(front.caller(LINES[number % 3], who, runs=[run]))
            await next_event(await viewing.enter_async_context(watched(viewer, run)))
        assert not await welcome(gateway, who, run)
    await eventually(lambda: welcome(gateway, who, run), within_s=PATIENCE_S)
    await finished(client, run)


@through_upgrading
async def test_a_socket_that_leaves_is_noticed(front, client, gateway, request):
    run = await started(client, "external")
    who = request.node.name
    async with contextlib.AsyncExitStack() as viewing:
        for number in range(CONNECTIONS):
            ws = await viewing.enter_async_context(front.socket(LINES[number % 2], bearer(who, runs=[run])))
            assert (await asked(ws, type="subscribe", run=run))["ok"]
            if number % 2:
                viewing.callback(ws.transport.abort)
        assert not await welcome(gateway, who, run)
    await eventually(lambda: welcome(gateway, who, run), within_s=PATIENCE_S)
    await finished(client, run)


async def welcome(gateway, who: str, run: str) -> bool:
    """Whether a subject may open all of its connections now."""
    async with contextlib.AsyncExitStack() as viewing:
        client = await viewing.enter_async_context(caller(gateway, who, runs=[run]))
        frames = [await viewing.enter_async_context(watched(client, run)) for _ in range(CONNECTIONS)]
        return all([(await frame(), await frame())[1]["type"] != "reconnect" for frame in frames])


@pytest.fixture(scope="module")
def large(gateway):
    """A finished run of 3 MB, as it is streamed without a proxy, past its `hello`."""
    with httpx.Client(base_url=gateway.url, headers=bearer(), timeout=PATIENCE_S) as client:
        run = client.post("/runs", json={"pipeline": "external"}).json()["id"]
        for batch in range(4):
            events = [{"type": "x.large", "number": 800 * batch + each, "text": "é" * 500} for each in range(800)]
            assert client.post(f"/runs/{run}/events", json={"events": events}).status_code == 202
        client.post(f"/runs/{run}/finish", json={"status": "completed"})
        answer = client.get(f"/runs/{run}/events", params={"replay": "full"}, headers=STREAM)
        assert len(answer.content) > 3_000_000
        return run, after_hello(answer)


def after_hello(answer: httpx.Response) -> bytes:
    hello, _, rest = answer.content.partition(b"\n\n")
    assert b"event: hello" in hello
    return rest


@lines
async def test_a_large_replay_arrives_whole(front, large, line):
    run, whole = large
    async with front.caller(line) as viewer:
        answer = await viewer.get(f"/runs/{run}/events", params={"replay": "full"}, headers=STREAM)
    assert after_hello(answer) == whole


@lines
async def test_refusals_and_ends_arrive_as_they_are(front, client, line):
    run = await started(client, "words", count=1)
    async with front.caller(line) as viewer:
        assert_problem(await viewer.get("/runs/nothing/events", headers=STREAM), 404, "run.not_found")
        bare = await viewer.get(f"/runs/{run}/events", headers={**STREAM, "Authorization": "Bearer x"})
        assert_problem(bare, 401, "auth.invalid")
        async with watched(viewer, run) as frame:
            while (last := await next_event(frame))["type"] != "run.completed":
                pass
        done = await viewer.get(f"/runs/{run}/events", headers={**STREAM, "Last-Event-ID": last["id"]})
        assert done.status_code == 204


async def test_a_restart_of_the_proxy_loses_and_repeats_nothing(front, client):
    run = await started(client, "external")
    seen: dict[Line, list[dict]] = {CLEAR: [], TLS: [], HTTP2: []}
    async with asyncio.timeout(2 * PATIENCE_S), asyncio.TaskGroup() as following:
        for line, events in seen.items():
            following.create_task(follow(front, line, run, events))
        for events in seen.values():
            await eventually(has(events, "run.started"))
        restarting = asyncio.create_task(asyncio.to_thread(front.proxy.restart))
        number = 0
        while not restarting.done():
            number += 1
            await published(client, run, {"type": "x.meanwhile", "number": number})
            await asyncio.sleep(0.01)
        await restarting
        await published(client, run, {"type": "x.after"})
        for events in seen.values():
            await eventually(has(events, "x.after"), within_s=PATIENCE_S)
        await finished(client, run)
    whole = await log_of(client, run)
    assert len(whole) == number + 4
    assert all(events == whole for events in seen.values())


@pytest.mark.parametrize("kind", IMPATIENT)
async def test_heartbeats_keep_a_silent_stream_through_a_proxy_that_tires_of_silence(
    gateway, client, made, tmp_path, kind
):
    """And `POST /run`, which is silent until its end, is given up by the proxy, while the run goes on."""
    run = await started(client, "external")
    with Proxy(kind, tmp_path, gateway.port, made, *IMPATIENT[kind]) as proxy:
        front = Front(proxy, made)
        slow = {"pipeline": "words", "input": {"count": 1, "gap_s": 2 * TIRED_S}}
        async with front.caller() as viewer, watched(viewer, run) as frame, front.socket() as ws:
            waiting = asyncio.create_task(viewer.post("/run", json=slow))
            assert [(await next_event(frame))["type"] for _ in range(2)] == ["run.queued", "run.started"]
            beats = {"sse": 0, "socket": 0}
            while min(beats.values()) * HEARTBEAT_S < 1.5 * TIRED_S:
                assert (await frame())["type"] == "heartbeat"
                assert (await heard(ws))["type"] == "heartbeat"
                beats = {way: count + 1 for way, count in beats.items()}
            await finished(client, run)
            assert (await next_event(frame))["type"] == "run.completed"
            assert (await asked(ws, type="ping"))["ok"]
            assert (await waiting).status_code in (502, 504)
        newest = (await client.get("/runs", params={"limit": 1})).json()["runs"][0]

        async def completed():
            return (await client.get(f"/runs/{newest['id']}")).json()["status"] == "completed"

        await eventually(completed)


async def test_a_gateway_that_restarts_says_so_through_each_proxy_and_all_come_back(made, tmp_path):
    (tmp_path / "gateway").mkdir()
    seen: dict[str, list[dict]] = {kind: [] for kind in ("nginx", "haproxy", "caddy", "apache")}
    with contextlib.ExitStack() as running, served(tmp_path / "gateway", drain_s=1) as gateway:
        fronts = {}
        for kind in seen:
            (tmp_path / kind).mkdir()
            fronts[kind] = Front(running.enter_context(Proxy(kind, tmp_path / kind, gateway.port, made)), made)
        async with caller(gateway) as client, asyncio.timeout(2 * PATIENCE_S), contextlib.AsyncExitStack() as viewing:
            run = await started(client, "external")
            frames = []
            for kind in seen:
                viewer = await viewing.enter_async_context(fronts[kind].caller(HTTP2))
                frames.append(await viewing.enter_async_context(watched(viewer, run)))
                assert [(await next_event(frames[-1]))["type"] for _ in range(2)] == ["run.queued", "run.started"]
            assert await asyncio.to_thread(gateway.stop) == 0
            for frame in frames:
                while (told := await frame())["type"] == "heartbeat":
                    pass
                assert (told["type"], told["reason"]) == ("reconnect", "server.draining")
                with pytest.raises(StopAsyncIteration):
                    await frame()
            async with asyncio.TaskGroup() as following:
                for kind, events in seen.items():
                    following.create_task(follow(fronts[kind], HTTP2, run, events))
                await asyncio.to_thread(gateway.start)
                for events in seen.values():
                    await eventually(has(events, "run.started"), within_s=PATIENCE_S)
                # Now without a word.
                await asyncio.to_thread(gateway.stop, signal.SIGKILL)
                await asyncio.to_thread(gateway.start)
                await published(client, run, {"type": "x.after"})
                await finished(client, run)
            whole = await log_of(client, run)
            assert all(events == whole for events in seen.values())


async def test_a_development_token_does_not_leave_through_a_proxy(made, tmp_path):
    """Not even through one that says nothing of itself and calls the gateway by its loopback address."""
    (tmp_path / "gateway").mkdir()
    with served(tmp_path / "gateway", "--dev", jwt_secret=None) as gateway:
        asked = {"Sec-Fetch-Site": "same-origin", "Connection": "keep-alive"}
        edits = WAYS[PLAIN][1]
        with Proxy("nginx", tmp_path, gateway.port, made, *edits) as proxy, httpx.Client(headers=asked) as page:
            assert page.get(f"{gateway.url}/console/token").status_code == 200
            assert page.get(f"{proxy.url(tls=False)}/").status_code == 200
            assert_problem(page.get(f"{proxy.url(tls=False)}/console/token"), 404, "not_found")
