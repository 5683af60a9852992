"""The short way of a WebSocket: which handshakes it takes, and that nobody can tell it from the long one.

Longer than others: one client and one app stand for all that a handshake, a frame, an end and a flood can do to it.
"""

import asyncio
import contextlib
import math
import socket
from typing import Self

import pytest
import uvloop

from gateway import socket_lane
from gateway.lane import MAX_HEAD
from gateway.socket_lane import MAX_MESSAGES, SocketLane, opening_of
from gateway.transports.direct import STATE_KEY
from tests.fuzz.frames import BINARY, CLOSE, CONTINUES, PING, PONG, TEXT, close, frame

HEAD = (
    b"GET /ws?a=b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Name: V a\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MAX_MESSAGE = 1000
LOOPS = pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])


def other(old: bytes, new: bytes) -> bytes:
    assert old in HEAD
    return HEAD.replace(old, new)


@pytest.mark.parametrize(
    "data",
    [
        HEAD,
        other(b"/ws?a=b", b"/ws"),
        other(b"n: Upgrade", b"n: keep-alive, Upgrade"),
        other(b"n: Upgrade", b"n: upgrade,Keep-Alive"),
        other(b": websocket", b":WebSocket "),
        other(b"Host", b"host"),
    ],
)
def test_a_plain_handshake_is_taken(data):
    opening = opening_of(data)
    assert (opening.key, opening.subprotocols, opening.behind) == (b"dGhlIHNhbXBsZSBub25jZQ==", [], b"")
    assert opening.head.target in (b"/ws", b"/ws?a=b")
    assert (b"x-name", b"V a") in opening.head.headers


def test_subprotocols_are_told_extensions_are_not_and_what_comes_behind_is_kept():
    offers = b"X-Name: V\r\nSec-WebSocket-Protocol: a, runcast.v1 ,b\r\nSec-WebSocket-Extensions: permessage-deflate"
    opening = opening_of(other(b"X-Name: V a", offers) + b"\x89\x80abcd")
    assert opening.subprotocols == ["a", "runcast.v1", "b"]
    assert opening.behind == b"\x89\x80abcd"
    assert b"sec-websocket-extensions" not in dict(opening.head.headers)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD[:-1],
        HEAD[:-2],
        b"\r\n" + HEAD,
        other(b"GET", b"POST"),
        other(b"GET", b"get"),
        other(b"GET /ws", b"GET http://a/ws"),
        other(b"/ws?", b"/wsx?"),
        other(b"/ws?", b"/ws/?"),
        other(b"/ws?", b"//ws?"),
        other(b"/ws?", b"/%77s?"),
        other(b"HTTP/1.1", b"HTTP/1.0"),
        other(b"HTTP/1.1", b"HTTP/2.0"),
        other(b"HTTP/1.1", b" HTTP/1.1"),
        other(b"HTTP/1.1", b"RTSP/1.1"),
        other(b"Host: a\r\n", b""),
        other(b"Host: a\r\n", b"Host: a\r\nHost: b\r\n"),
        other(b"n: Upgrade", b"n: close"),
        other(b"n: Upgrade", b"n: close, Upgrade"),
        other(b"n: Upgrade", b"n: Upgrade, HTTP2-Settings"),
        other(b"n: Upgrade", b"n: Upgrade\r\nConnection: keep-alive"),
        other(b"Connection: Upgrade\r\n", b""),
        other(b": websocket", b": h2c"),
        other(b": websocket", b": websocket, h2c"),
        other(b": websocket", b": websocket\r\nUpgrade: websocket"),
        other(b"Upgrade: websocket\r\n", b""),
        other(b": 13", b": 8"),
        other(b": 13", b": 13, 8"),
        other(b": 13", b": 013"),
        other(b": 13", b": 13\r\nSec-WebSocket-Version: 13"),
        other(b"ZQ==", b"ZQ="),
        other(b"ZQ==", b"ZR=="),
        other(b"ZQ==", b"ZQAA"),
        other(b"ZQ==", b"ZQ==, ZQ=="),
        other(b"ZQ==", b"ZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        other(b"X-Name: V a", b"Content-Length: 0"),
        other(b"X-Name: V a", b"Transfer-Encoding: chunked"),
        other(b"X-Name: V a", b"Expect: 100-continue"),
        other(b"X-Name: V a", b"TE: trailers"),
        other(b"X-Name: V a", b"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b"),
        other(b"X-Name: V a", b"Sec-WebSocket-Protocol: \xe9"),
        other(b"X-Name: V a", b"X-Name: V\r\n folded"),
        other(b"X-Name: V a", b"X-Name: V\nX-Other: b"),
        other(b"X-Name: V a", b"X-Name: V\0"),
        other(b"X-Name: V a", b"X Name: V"),
        other(b"V a", b"V" * MAX_HEAD),
    ],
)  # fmt: skip
def test_any_other_handshake_is_left_to_the_server(data):
    assert opening_of(data) is None


async def until(true) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.001)


class Taken:
    """A listener whose connections run in the lane, with an app of the test's, and one client of it."""

    def __init__(self, app, *, behind: bytes = b"", small: bool = False) -> None:
        self.app = app
        self.behind = behind
        self.small = small
        self.lost = []
        self.lane: SocketLane
        self.task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        taken = self
        arrived = asyncio.get_running_loop().create_future()

        class First(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
                if taken.small:
                    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                    transport.set_write_buffer_limits(high=4096)

            def data_received(self, data):
                taken.lane = SocketLane(self.transport, taken.lost.append, max_message_bytes=MAX_MESSAGE)
                taken.task = asyncio.ensure_future(taken._serve(opening_of(data)))
                arrived.set_result(None)

        self.server = await asyncio.get_running_loop().create_server(First, "127.0.0.1", 0)
        client = socket.socket()
        if self.small:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(self.server.sockets[0].getsockname()[:2])
        self.reader, self.writer = await asyncio.open_connection(sock=client)
        self.writer.write(HEAD + self.behind)
        await arrived
        return self

    async def _serve(self, opening) -> None:
        await self.lane.serve(self.app, opening, {"of": "the lifespan"})
        self.lane.transport.close()

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        if not self.lost:
            self.lane.transport.abort()
        self.server.close()
        await asyncio.wait([self.task], timeout=5)
        await until(lambda: self.lost)
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def accepted(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)

    async def rest(self) -> bytes:
        """What comes up to the end."""
        return await asyncio.wait_for(self.reader.read(), 5)


class App:
    """Accepts, and keeps what it hears until it hears of the end. `holds`: it takes nothing until `go` is set."""

    def __init__(self, *, holds: bool = False) -> None:
        self.heard = []
        self.scope = None
        self.go = asyncio.Event()
        if not holds:
            self.go.set()

    async def __call__(self, scope, receive, send):
        self.scope = scope
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": None, "headers": [(b"x-a", b"b")]})
        await self.go.wait()
        while (message := await receive())["type"] == "websocket.receive":
            self.heard.append(message["bytes"] if message["text"] is None else message["text"])
        self.heard.append(message)
        await send({"type": "websocket.send", "text": "late"})
        await send({"type": "websocket.close", "code": 1000})


def ended(code: int) -> dict:
    return {"type": "websocket.disconnect", "code": code}


async def test_the_app_sees_what_it_would_see_elsewhere():
    app = App()
    async with Taken(app) as taken:
        answer = await taken.accepted()
        assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        for line in (b"upgrade: WebSocket", b"connection: Upgrade", b"x-a: b",
                     b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="):  # fmt: skip
            assert b"\r\n" + line + b"\r\n" in answer
        taken.writer.write(frame(TEXT, "é".encode()) + frame(BINARY, b"\xff") + frame(TEXT) + close(3000, b"bye"))
        assert await taken.rest() == b"\x88\x05\x0b\xb8bye"
        await taken.task
    assert app.heard == ["é", b"\xff", "", ended(3000)]
    scope = app.scope
    assert (scope["type"], scope["scheme"], scope["http_version"]) == ("websocket", "ws", "1.1")
    assert (scope["path"], scope["query_string"], scope["subprotocols"]) == ("/ws", b"a=b", [])
    assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert scope["state"]["of"] == "the lifespan"
    assert isinstance(scope["state"][STATE_KEY], SocketLane)


@pytest.mark.parametrize(
    "said, answer, code",
    [
        (close(1000), b"\x88\x02\x03\xe8", 1000),
        (close(), b"\x88\x00", 1005),
        (close(4999), b"\x88\x02\x13\x87", 4999),
        (close(1005), b"\x88\x02\x03\xea", 1002),
        (frame(3), b"\x88\x02\x03\xea", 1002),
        (frame(TEXT, b"a", mask=False), b"\x88\x02\x03\xea", 1002),
        (frame(TEXT, b"\xff"), b"\x88\x02\x03\xef", 1007),
        (frame(CLOSE, b"\x03\xe8\xff"), b"\x88\x02\x03\xef", 1007),
    ],
    ids=["1000", "no code", "4999", "1005", "no opcode", "not masked", "not text", "no reason"],
)
async def test_the_client_ends_it(said, answer, code):
    app = App()
    async with Taken(app) as taken:
        await taken.accepted()
        taken.writer.write(said + frame(TEXT, b"late") + b"\xff" * 100)
        assert await taken.rest() == answer
        taken.writer.close()
        await asyncio.wait_for(taken.task, 5)
    assert app.heard == [ended(code)]


@pytest.mark.parametrize(
    "message, sent",
    [
        ({"type": "websocket.close"}, b"\x88\x02\x03\xe8"),
        ({"type": "websocket.close", "code": 4100, "reason": "é" * 100}, b"\x88\x7c\x10\x04" + "é".encode() * 61),
        ({"type": "websocket.send", "text": "é"}, b"\x81\x02\xc3\xa9\x88\x02\x03\xf3"),
        ({"type": "websocket.send", "bytes": b"x" * 70_000}, b"\x82\x7f" + (70_000).to_bytes(8) + b"x" * 70_000
         + b"\x88\x02\x03\xf3"),
    ],
)  # fmt: skip
async def test_what_the_app_sends_goes_out_and_an_app_that_just_stops_has_failed(message, sent):
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        await send(message)

    async with Taken(app) as taken:
        await taken.accepted()
        assert (await taken.rest()).ljust(len(sent)) == sent


async def test_behind_its_own_close_the_app_sends_nothing_and_still_hears_the_client():
    heard = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1001})
        await send({"type": "websocket.send", "text": "late"})
        await send({"type": "websocket.close", "code": 1002})
        heard.extend([await receive() for _ in range(3)])

    async with Taken(app) as taken:
        await taken.accepted()
        taken.writer.write(frame(PING, b"x") + frame(TEXT, b"last") + close(1001))
        assert await taken.rest() == b"\x88\x02\x03\xe9"
    assert heard == [{"type": "websocket.receive", "text": "last", "bytes": None}, ended(1001), ended(1001)]


async def refusing(scope, receive, send):
    headers = [(b"content-length", b"2"), (b"x-a", b"b")]
    await send({"type": "websocket.http.response.start", "status": 403, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"no", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"", "more_body": False})


async def closing(scope, receive, send):
    await send({"type": "websocket.close"})


async def silent(scope, receive, send):
    await receive()


@pytest.mark.parametrize(
    "app, status, end",
    [
        (refusing, b"403 Forbidden", b"x-a: b\r\n\r\nno"),
        (closing, b"403 Forbidden", b"connection: close\r\n\r\n"),
        (silent, b"500 Internal Server Error", b"connection: close\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("behind", [b"", frame(PING, b"x")], ids=["alone", "with a ping behind"])
async def test_a_handshake_may_be_refused_and_the_connection_ends(app, status, end, behind):
    async with Taken(app, behind=behind) as taken:
        answer = await taken.rest()
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert answer.endswith(end)
    assert answer.count(b"HTTP/1.1") == 1


async def test_an_app_that_fails_closes_with_1011_and_what_it_raised_is_the_caller_s():
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        raise ZeroDivisionError

    async with Taken(app) as taken:
        await taken.accepted()
        assert await asyncio.wait_for(taken.reader.readexactly(4), 5) == b"\x88\x02\x03\xf3"
        with pytest.raises(ZeroDivisionError):
            await taken.task


async def test_what_comes_before_the_answer_waits_for_it():
    decided = asyncio.Event()

    async def app(scope, receive, send):
        await decided.wait()
        await App()(scope, receive, send)

    async with Taken(app, behind=frame(PING, b"1")) as taken:
        taken.writer.write(frame(PING, b"2") + close(1000))
        await asyncio.sleep(0.02)
        assert taken.reader._buffer == b""
        assert taken.lane.heard_at == math.inf
        decided.set()
        await taken.accepted()
        assert await taken.rest() == b"\x8a\x011\x8a\x012\x88\x02\x03\xe8"


async def test_a_pong_is_noticed_and_wakes_nobody():
    app = App()
    async with Taken(app) as taken:
        await taken.accepted()
        before = taken.lane.heard_at
        waiting = taken.lane._closed
        taken.writer.write(frame(PONG, b"x"))
        await until(lambda: taken.lane.heard_at > before)
        assert taken.lane._closed is waiting
        assert not waiting.done()


async def test_a_client_that_says_more_than_the_app_takes_is_not_read_from():
    app = App(holds=True)
    async with Taken(app) as taken:
        await taken.accepted()
        said = [f"{number:04}" for number in range(4 * MAX_MESSAGES)]
        taken.writer.write(b"".join(frame(TEXT, text.encode()) for text in said) + frame(PING, b"end") + close(1000))
        await until(lambda: taken.lane.heard_at == math.inf)
        assert len(taken.lane._messages) == MAX_MESSAGES
        assert not taken.lane.transport.is_reading()
        app.go.set()
        assert await taken.rest() == b"\x8a\x03end\x88\x02\x03\xe8"
    assert app.heard == [*said, ended(1000)]


@LOOPS
def test_pings_of_a_client_that_takes_no_pongs_stay_in_its_own_socket(loop_factory, monkeypatch):
    monkeypatch.setattr(socket_lane, "MAX_UNSENT", 20_000)
    count, ping = 20_000, frame(PING, b"x" * 120)

    async def flood() -> None:
        app = App()
        async with Taken(app, small=True) as taken:
            answer = await taken.accepted()
            assert answer.startswith(b"HTTP/1.1 101 ")
            taken.reader._transport.pause_reading()
            taken.writer.write(ping * count + frame(TEXT, b"after") + close(1000))
            await until(lambda: taken.lane.heard_at == math.inf)
            for _ in range(100):
                await asyncio.sleep(0)
                # One turn's pongs may come on top of what is unsent.
                assert taken.lane.transport.get_write_buffer_size() <= 20_000 + socket_lane.MAX_AT_ONCE * 122
            assert app.heard == []
            taken.reader._transport.resume_reading()
            assert await taken.rest() == b"\x8a\x78" + (b"x" * 120 + b"\x8a\x78") * (count - 1) + b"x" * 120 + (
                b"\x88\x02\x03\xe8"
            )
        assert app.heard == ["after", ended(1000)]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(flood())


async def test_many_frames_in_one_piece_leave_others_their_turn():
    """What one client sends at once is dealt with in turns; the others' wait is a turn and not all of it."""
    turns = 0
    app = App()
    async with Taken(app) as taken:
        await taken.accepted()
        lane, count = taken.lane, 10 * socket_lane.MAX_AT_ONCE
        lane._frames.feed(frame(PONG) * count + frame(TEXT, b"after"))
        lane._take()
        while not app.heard:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 10
    assert app.heard[0] == "after"


@pytest.mark.parametrize("end", ["reset", "closed", "half-closed"])
@pytest.mark.parametrize("holds", [False, True], ids=["waiting", "busy"])
@LOOPS
def test_a_client_that_is_lost_is_told_to_the_owner_at_once_and_to_the_app_in_its_turn(loop_factory, end, holds):
    async def check() -> None:
        lost = asyncio.Event()

        class Owner:
            def lost(self) -> None:
                lost.set()

        app = App(holds=holds)
        async with Taken(app) as taken:
            await taken.accepted()
            taken.lane.owner = Owner()
            taken.writer.write(frame(TEXT, b"last"))
            if end == "half-closed":
                taken.writer.write_eof()
            elif end == "closed":
                taken.writer.close()
            else:
                await until(lambda: taken.lane._messages or app.heard)
                taken.writer.transport.abort()
            await asyncio.wait_for(lost.wait(), 5)
            app.go.set()
            await asyncio.wait_for(taken.task, 5)
            if end == "half-closed":
                assert await taken.rest() == b""
        assert app.heard == ["last", ended(1006)]
        assert taken.lost == [taken.lane.transport]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(check())


async def test_nothing_of_the_owner_s_goes_out_behind_a_close_frame():
    told = []

    class Owner:
        def lost(self) -> None:
            told.append(("lost", taken.lane.transport.get_write_buffer_size()))

        def preceded(self) -> None:
            told.append("preceded")

    async with Taken(App()) as taken:
        await taken.accepted()
        taken.lane.owner = Owner()
        taken.writer.write(frame(PING, b"") + close(1000))
        assert await taken.rest() == b"\x8a\x00\x88\x02\x03\xe8"
        assert told[:3] == ["preceded", ("lost", 0), "preceded"]


async def test_what_is_no_frame_does_not_cost_the_client_its_close_frame():
    """A client that goes on sending would be answered by a reset: so it is read to its end, for a while."""
    async with Taken(App()) as taken:
        await taken.accepted()
        taken.writer.write(frame(3))
        assert await asyncio.wait_for(taken.reader.readexactly(4), 5) == b"\x88\x02\x03\xea"
        assert await taken.reader.read() == b""
        taken.writer.write(b"x" * 100_000)
        await asyncio.wait_for(taken.writer.drain(), 5)
        assert not taken.task.done()
        taken.writer.write_eof()
        await asyncio.wait_for(taken.task, 5)


async def test_who_stays_after_it_was_told_what_is_wrong_is_left(monkeypatch):
    monkeypatch.setattr(socket_lane, "LINGER_S", 0.01)
    async with Taken(App()) as taken:
        await taken.accepted()
        taken.writer.write(frame(3))
        await asyncio.wait_for(taken.task, 5)


async def test_a_message_in_fragments_that_is_too_long_is_cut_off_where_the_app_sees_it():
    app = App()
    async with Taken(app) as taken:
        await taken.accepted()
        pieces = [frame(TEXT, b"x" * 400, fin=False), *[frame(CONTINUES, b"x" * 400, fin=False)] * 100]
        taken.writer.write(b"".join(pieces) + frame(CONTINUES) + close(1000))
        assert await taken.rest() == b"\x88\x02\x03\xe8"
    assert MAX_MESSAGE < len(app.heard[0]) < 2 * MAX_MESSAGE


@pytest.mark.parametrize("value", [b"a\r\nx: b", b"a\nx: b"])
async def test_a_header_cannot_become_two(value):
    async def app(scope, receive, send):
        await send({"type": "websocket.accept", "headers": [(b"x", value)]})

    async with Taken(app) as taken:
        assert (await taken.accepted()).startswith(b"HTTP/1.1 500 ")
        with pytest.raises(ValueError, match="line break"):
            await taken.task
