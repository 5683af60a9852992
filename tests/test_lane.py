"""The short way of a plain request: what it takes, and that nobody can tell it from the long one."""

import asyncio
import os
import socket
import stat
import struct
from typing import Self

import pytest
import uvloop

from gateway.http1 import Connection
from gateway.lane import MAX_BODY, MAX_EARLY, MAX_HEAD, Lane, head_of
from gateway.tally import Sockets
from gateway.transports.direct import STATE_KEY

HEAD = b"GET /runs/1/events?after=a-1 HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nX-Name: V a\r\n\r\n"


POST = HEAD.replace(b"GET", b"POST").replace(b"X-Name: V a", b"Content-Length: 5")


def test_a_plain_request_is_taken():
    head = head_of(HEAD)
    assert (head.method, head.size, head.length) == ("GET", len(HEAD), 0)
    assert head.target == b"/runs/1/events?after=a-1"
    assert head.headers == [(b"host", b"a"), (b"accept", b"text/event-stream"), (b"x-name", b"V a")]
    assert head_of(HEAD.replace(b"X-Name: V a", b"Connection: Keep-Alive")) is not None


@pytest.mark.parametrize("body", [b"", b"12", b"12345", b"123456789"])
def test_a_head_says_how_much_belongs_to_it(body):
    head = head_of(POST + body)
    assert (head.method, head.size, head.length) == ("POST", len(POST), 5)


@pytest.mark.parametrize("length", [b"0", b"00005", b"%d" % MAX_BODY])
def test_a_small_body_is_taken(length):
    assert head_of(POST.replace(b": 5", b": " + length)).length == int(length)
    assert head_of(POST.replace(b"Content-Length: 5\r\n", b"")).length == 0


@pytest.mark.parametrize("written", [b":V a", b": V a \t ", b":\t V a"])
def test_blanks_around_a_value_are_no_part_of_it(written):
    assert head_of(HEAD.replace(b": V a", written)).headers == head_of(HEAD).headers


@pytest.mark.parametrize(
    "data",
    [
        HEAD[:-1],
        HEAD[:-4],
        HEAD.replace(b"GET", b"HEAD"),
        HEAD.replace(b"GET /", b"GET http://a/"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/2.0"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.1 x"),
        HEAD.replace(b"HTTP/1.1", b" HTTP/1.1"),
        HEAD.replace(b"HTTP/1.1", b"RTSP/1.1"),
        HEAD.replace(b"Host: a\r\n", b""),
        HEAD.replace(b"Host: a\r\n", b"Host: a\r\nHost: b\r\n"),
        HEAD.replace(b"X-Name: V a", b"Content-Length: 0"),
        HEAD.replace(b"X-Name: V a", b"Content-Length: 5"),
        HEAD.replace(b"X-Name: V a", b"Transfer-Encoding: chunked"),
        POST.replace(b": 5", b": %d" % (MAX_BODY + 1)),
        POST.replace(b": 5", b": 000005"),
        POST.replace(b": 5", b": +5"),
        POST.replace(b": 5", b": 5, 5"),
        POST.replace(b": 5", b": "),
        POST.replace(b": 5", b": 5\r\nContent-Length: 5"),
        POST.replace(b": 5", b": 5\r\nContent-Length: 6"),
        POST.replace(b": 5", b": 5\r\nTransfer-Encoding: chunked"),
        POST.replace(b"POST", b"PUT"),
        POST.replace(b"POST", b"DELETE"),
        HEAD.replace(b"X-Name: V a", b"Transfer-Encoding : chunked"),
        HEAD.replace(b"X-Name: V a", b"Connection: close"),
        HEAD.replace(b"X-Name: V a", b"Connection: Upgrade\r\nUpgrade: websocket"),
        HEAD.replace(b"X-Name: V a", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c"),
        HEAD.replace(b"X-Name: V a", b"Expect: 100-continue"),
        HEAD.replace(b"X-Name: V a", b"X-Name: V\r\n folded"),
        HEAD.replace(b"X-Name: V a", b"X-Name: V\n\tfolded"),
        HEAD.replace(b"X-Name: V a", b"X-Name: V\nX-Other: b"),
        HEAD.replace(b"X-Name: V a", b"X-Name: V\0"),
        HEAD.replace(b"X-Name: V a", b"X Name: V"),
        HEAD.replace(b"X-Name: V a", b": V"),
        HEAD.replace(b"X-Name: V a", b"no colon"),
        HEAD.replace(b"V a", b"V" * MAX_HEAD),
        b"",
        b"\r\n" + HEAD,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        os.urandom(300),
    ],
)  # fmt: skip
def test_anything_else_is_left_to_the_server(data):
    assert head_of(data) is None


class Taken:
    """A listener whose connections run in a lane, with an app of the test's."""

    def __init__(self, app) -> None:
        self.app = app
        self.lost = []
        self.lane: asyncio.Future[Lane] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        taken = self

        class First(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                lane = Lane(self.transport, taken.lost.append)
                taken.task = asyncio.ensure_future(lane.answer(taken.app, head_of(data), b"", {"of": "the lifespan"}))
                taken.lane.set_result(lane)

        self.server = await asyncio.get_running_loop().create_server(First, "127.0.0.1", 0)
        self.reader, self.writer = await asyncio.open_connection(*self.server.sockets[0].getsockname()[:2])
        self.writer.write(HEAD)
        await self.lane
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        (await self.lane).transport.abort()
        self.server.close()
        await asyncio.wait([self.task], timeout=5)
        await asyncio.sleep(0.01)


def answering(*bodies: bytes, status: int = 200, headers=()):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, body in enumerate(bodies, start=1):
            await send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})

    return app


async def test_the_app_sees_what_it_would_see_elsewhere():
    seen = []

    async def app(scope, receive, send):
        seen.extend([scope, await receive()])
        await answering(b"")(scope, receive, send)
        seen.append(await receive())

    async with Taken(app) as taken:
        await taken.reader.readuntil(b"0\r\n\r\n")
        taken.writer.close()
        await taken.task
    scope, first, last = seen
    assert (first, last) == (
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    )
    assert (scope["method"], scope["path"], scope["raw_path"], scope["query_string"]) == (
        "GET", "/runs/1/events", b"/runs/1/events", b"after=a-1"
    )  # fmt: skip
    assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
    assert scope["state"]["of"] == "the lifespan"
    assert isinstance(scope["state"][STATE_KEY], Lane)


@pytest.mark.parametrize(
    "app, end",
    [
        (answering(b"ab", b"", b"c", b""), b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        (answering(b"ab", headers=[(b"Content-Length", b"2")], status=404), b"\r\n\r\nab"),
        (answering(b"", status=204), b"\r\n\r\n"),
    ],
)
async def test_an_answer_is_framed_as_its_head_says(app, end):
    async with Taken(app) as taken:
        await taken.task
        lane = await taken.lane
        assert lane.reusable
        data = await taken.reader.read(10_000)
        assert data.startswith(b"HTTP/1.1 ")
        assert b"\r\ndate: " in data
        assert data.endswith(end)


@pytest.mark.parametrize("value", [b"a\r\nx: b", b"a\nx: b", b"a\rb"])
async def test_a_header_cannot_become_two(value):
    async with Taken(answering(b"", headers=[(b"x", value)])) as taken:
        with pytest.raises(ValueError, match="line break"):
            await taken.task


async def test_whoever_sends_on_and_on_while_being_answered_is_not_read():
    answered = asyncio.Event()

    async def never(scope, receive, send):
        await answered.wait()
        await answering(b"")(scope, receive, send)

    async with Taken(never) as taken:
        lane = await taken.lane
        taken.writer.write(b"x" * 10)
        while not lane.early:
            await asyncio.sleep(0.001)
        assert lane.pipelined()
        taken.writer.write(b"x" * 40 * MAX_EARLY)
        while lane.transport.is_reading():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert len(lane.early) < 10 * MAX_EARLY
        answered.set()
        await asyncio.wait_for(taken.task, 5)
        assert lane.reusable


async def test_a_client_with_nothing_to_say_may_not_speak():
    async def stream(scope, receive, send):
        scope["state"][STATE_KEY].one_way = True
        await answering(b"a", b"")(scope, receive, send)
        await receive()
        await receive()

    async with Taken(stream) as taken:
        await taken.reader.readuntil(b"\r\n0\r\n\r\n")
        taken.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await taken.reader.read() == b""


async def test_an_answer_waits_for_a_client_that_does_not_read():
    size = 8_000_000

    async def much(scope, receive, send):
        await answering(b"a" * size, b"b" * size, b"")(scope, receive, send)

    async with Taken(much) as taken:
        await taken.lane
        await asyncio.sleep(0.05)
        assert not taken.task.done()
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += await taken.reader.read(1 << 20)
        await asyncio.wait_for(taken.task, 5)
    assert data.count(b"a" * 1000) + data.count(b"b" * 1000) == 2 * size // 1000


def in_lane(transport: asyncio.Transport) -> Lane:
    return Lane(transport, lambda _transport: None)


def in_server(transport: asyncio.Transport) -> Connection:
    return Connection(None, None, None, {}, transport=transport, data=b"", patience_s=1, sockets=Sockets(),
                      gone=lambda _transport: None)  # fmt: skip


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("wire", [in_lane, in_server])
@pytest.mark.parametrize("end", ["closed", "reset", "aborted"])
def test_an_owner_hears_of_the_end_while_the_descriptor_is_still_its_own(loop_factory, wire, end):
    """Later it may be another client's, and what is written to it would come before that one's head."""

    async def check() -> None:
        heard = asyncio.get_running_loop().create_future()

        class Owner:
            def __init__(self, file: int) -> None:
                self.file = file

            def lost(self) -> None:
                if not heard.done():
                    heard.set_result(os.fstat(self.file))

        class First(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                made = wire(self.transport)
                made.owner = Owner(self.transport.get_extra_info("socket").fileno())
                if end == "aborted":
                    self.transport.abort()
                elif end == "closed":
                    self.transport.close()

        server = await asyncio.get_running_loop().create_server(First, "127.0.0.1", 0)
        async with server:
            with socket.create_connection(server.sockets[0].getsockname()[:2]) as client:
                client.sendall(b"x")
                await asyncio.sleep(0.02)
                if end == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.close()
                assert stat.S_ISSOCK((await asyncio.wait_for(heard, 5)).st_mode)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(check())
