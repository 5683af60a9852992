"""The Python client when something is wrong: nobody there, proxies, a killed server, lost history, tokens that end."""

import asyncio
import signal
import time
from contextlib import aclosing

import pytest

import runcast.follow
import runcast.policy
import runcast.transports
from runcast import Client, Gap, Unreachable
from tests.e2e.clients import PATIENCE_S, answering, caller, finished, published, served, started
from tests.e2e.following import TRANSPORTS, Seen, client_of, collected
from tests.e2e.middle import Middle
from tests.e2e.process import free_port, token
from tests.faults.check import log_of


async def test_nobody_there_is_told_after_the_retries():
    async with Client(f"http://127.0.0.1:{free_port()}", max_retries=2, attempts=1) as client:
        with pytest.raises(Unreachable):
            await client.start("words")
        with pytest.raises(Unreachable, match="2 failures"):
            await collected(client.run("any").events())


async def test_something_else_in_the_gateways_place_is_told():
    async with answering("hello") as port, Client(f"http://127.0.0.1:{port}", max_retries=1) as client:
        with pytest.raises(Unreachable, match="not in JSON"):
            await client.start("words")
        with pytest.raises(Unreachable):
            await collected(client.run("any").events())


async def test_a_stream_without_an_end_to_its_message_is_given_up(monkeypatch):
    monkeypatch.setattr(runcast.transports, "MAX_FRAME_BYTES", 100_000)
    sent = 0

    async def babble(reader, writer):
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ")
        while not writer.is_closing():
            writer.write(b"x" * 10_000)
            sent += 10_000
            await writer.drain()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Client(url, transports=["sse"], max_retries=1) as client:
        with pytest.raises(Unreachable):
            await collected(client.run("any").events())
    assert sent < 20_000_000  # what the sockets' buffers hold came too


@pytest.mark.parametrize("upgrades, expected", [(True, "websocket"), (False, "poll")])
async def test_behind_a_proxy_that_buffers_the_next_transport_is_taken(gateway, monkeypatch, upgrades, expected):
    monkeypatch.setattr(runcast.follow, "OPEN_TIMEOUT_MS", 500)
    async with client_of(gateway) as direct, caller(gateway) as http, Middle(gateway.port, upgrades=upgrades) as middle:
        run = await direct.start("words", {"count": 60, "gap_s": 0.02})
        async with Client(middle.url, token=token()) as client:
            connections = []
            seen = await collected(client.run(run.id).events(replay="full", on_connection=connections.append))
            assert seen == await log_of(http, run.id)
            assert {c.transport for c in connections if c.status == "connected"} == {expected}
            tried = middle.seen["sse"]
            assert tried == 1
            # What worked is remembered by the client: the buffering proxy costs its time once.
            assert (await client.run(run.id).wait()).status == "completed"
            assert middle.seen["sse"] == tried


async def test_a_killed_server_that_comes_back_costs_no_event(tmp_path, monkeypatch):
    monkeypatch.setattr(runcast.policy, "MAX_DELAY_MS", 200)
    with served(tmp_path, retry_ms=100) as gateway:
        async with caller(gateway) as http:
            run = await started(http, "external")
            clients = [client_of(gateway, transport, max_retries=100) for transport in TRANSPORTS]
            for client in clients:
                await client.__aenter__()
            streams = [Seen(client.run(run).events(replay="full")) for client in clients]
            await published(http, run, {"type": "x.one"})
            for stream in streams:
                await stream.until("x.one")
            await asyncio.to_thread(gateway.stop, signal.SIGKILL)
            await asyncio.to_thread(gateway.start)
            await published(http, run, {"type": "x.two"})
            await finished(http, run)
            log = await log_of(http, run)
            for stream in streams:
                assert await stream.ended() == log
            for client in clients:
                await client.__aexit__(None, None, None)


async def test_history_that_is_gone_is_told_by_a_gap(tmp_path):
    with served(tmp_path, max_events_per_run=50) as gateway:
        async with client_of(gateway) as client:
            run = await client.start("words", {"count": 400, "gap_s": 0.002})
            await run.wait()
            async with aclosing(run.events(replay="full")) as events:
                first = await anext(events)
                second = await anext(events)
            assert isinstance(first, Gap)
            assert (first.after, first.from_) == ("0", second.id)
            gone = run.events(after=f"{second.id.partition('-')[0]}-2")
            assert isinstance(await anext(gone), Gap)
            await gone.aclose()


class Issuer:
    """Tokens that soon run out; counts how many were asked for."""

    def __init__(self, ttl_s: float) -> None:
        self.issued = 0
        self._ttl_s = ttl_s

    def plain(self) -> str:
        self.issued += 1
        return token(ttl_s=self._ttl_s)

    async def awaited(self) -> str:
        return self.plain()


@pytest.mark.parametrize("transport, kind", [("sse", "plain"), ("websocket", "awaited"), ("poll", "plain")])
async def test_a_token_that_runs_out_is_renewed_and_nothing_is_lost(renewing, transport, kind):
    issuer = Issuer(2)
    connections = []
    async with caller(renewing) as http, client_of(renewing, transport, token=getattr(issuer, kind)) as client:
        run = await started(http, "external")
        seen = Seen(client.run(run).events(replay="full", on_connection=connections.append))
        end = time.monotonic() + PATIENCE_S
        number = 0
        while issuer.issued < 3 and time.monotonic() < end:
            await published(http, run, {"type": "x.tick", "number": number})
            number += 1
            await asyncio.sleep(0.05)
        await finished(http, run)
        assert await seen.ended() == await log_of(http, run)
        assert issuer.issued >= 3
        if transport == "websocket":
            # It renews on the connection that it has.
            assert [c.status for c in connections] == ["connecting", "connected", "disconnected"]


@pytest.fixture(scope="module")
def renewing(tmp_path_factory):
    """A gateway that looks at the clock often."""
    with served(tmp_path_factory.mktemp("renewing"), heartbeat_s=0.5, auth_warning_s=1, retry_ms=50) as running:
        yield running


async def test_a_request_with_a_token_that_ran_out_is_made_again_with_a_fresh_one(gateway):
    tokens = iter([token(ttl_s=-10), token()])
    async with client_of(gateway, token=lambda: next(tokens)) as client:
        assert await client.pipelines()


async def test_many_with_the_same_old_token_cause_one_call(gateway):
    issued = []

    def issue() -> str:
        issued.append(token(ttl_s=-10 if not issued else 600))
        return issued[-1]

    async with client_of(gateway, token=issue) as client:
        await asyncio.gather(*(client.pipelines() for _ in range(20)))
    assert len(issued) == 2


async def test_a_token_function_that_fails_is_asked_again(gateway):
    calls = []

    def issue() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("the identity provider is away")
        return token()

    async with client_of(gateway) as direct, client_of(gateway, token=issue) as client:
        run = await direct.start("words", {"count": 3})
        assert (await collected(client.run(run.id).events()))[-1]["type"] == "run.completed"
