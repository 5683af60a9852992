"""Heads of requests that nobody should send: both ways of the server answer them alike, and nothing is left of them."""

import asyncio

import pytest

from tests.e2e.clients import UPGRADE, authorization, exchange, head, served
from tests.faults.check import seed_of
from tests.fuzz.beside import ROOMY, unharmed
from tests.fuzz.heads import SETTINGS, Ways, compared

STREAM = "Accept: text/event-stream"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("heads"), **ROOMY, **SETTINGS) as gateway:
        yield gateway


async def test_a_head_is_answered_alike_in_one_piece_and_in_two(gateway):
    async with unharmed(gateway) as beside:
        found = await compared(gateway, seed=seed_of(11), count=800)
    print(found, beside)
    assert not found.wrong, found.wrong[0]
    assert not beside.wrong
    assert found.streams > 50
    assert {0, 200, 400, 401, 404, 405, 422, 431, 501} <= found.statuses.keys()


async def test_a_handshake_is_answered_alike_in_one_piece_and_in_two(gateway):
    async with unharmed(gateway) as beside:
        found = await compared(gateway, seed=seed_of(12), count=400, handshakes=True)
    print(found, beside)
    assert not found.wrong, found.wrong[0]
    assert not beside.wrong
    assert found.statuses[101] > 100
    assert {0, 101, 400, 404} <= found.statuses.keys()


@pytest.mark.parametrize("size, status", [(10_000, 200), (17_000, 431), (60_000, 431)])
@pytest.mark.parametrize("lines", [(STREAM,), ()], ids=["stream", "plain"])
async def test_how_long_a_head_may_be_does_not_hang_on_how_it_comes(gateway, lines, size, status):
    data = head("GET", "/healthz", *lines, f"X-Large: {'x' * size}")
    async with Ways(gateway) as ways:
        answers = [await ways.answer(data, cut=cut) for cut in (None, 100, len(data) // 2, len(data) - 1)]
    assert [answer.status for answer in answers] == [status] * 4


@pytest.mark.parametrize("target", ["", "?", "?after=1", "runs", "x:1", "??run=1"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_target_that_is_no_path_is_refused(gateway, method, target):
    assert exchange(gateway, head(method, target, STREAM, authorization())).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "data",
    [
        head("GET", "/runs", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        head("OPTIONS", "*", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        head("GET", "/runs", "Connection: Upgrade", "Upgrade: HTTP/2.0"),
        head("GET", "/ws", "Connection: Upgrade", "Upgrade: h2c, websocket"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"PRI * HTTP/1.1\r\nHost: a\r\n\r\nSM\r\n\r\n",
    ],
    ids=["h2c", "h2c-options", "http2", "h2c-websocket", "prior-knowledge", "pri-1.1"],
)
async def test_nothing_becomes_http_2(gateway, data):
    async with Ways(gateway) as ways:
        for cut in (None, 3, len(data) // 2, len(data) - 1):
            answer = await ways.answer(data, cut=cut)
            assert answer.status not in (0, 101)
            assert "upgrade" not in answer.headers


@pytest.mark.parametrize(
    "upgrades",
    [("x", "websocket"), ("websocket", "x"), ("websocket", "websocket"), ("x, websocket",), ("websocket, x",)],
    ids=str,
)
@pytest.mark.parametrize("offered", [b"runcast.v1", b"\xff"], ids=["plain", "not-ascii"])
async def test_a_handshake_that_asks_for_more_than_a_websocket_opens_none(gateway, upgrades, offered):
    """Whatever a library behind makes of it: a WebSocket of its own kind would have no bounds."""
    lines = [line for line in UPGRADE if not line.startswith("Upgrade:")] + [f"Upgrade: {each}" for each in upgrades]
    data = head("GET", "/ws", *lines)[:-2] + b"Sec-WebSocket-Protocol: %b\r\n\r\n" % offered
    async with Ways(gateway) as ways:
        for cut in (None, 3, len(data) - 1):
            assert (await ways.answer(data, cut=cut)).status in (400, 422)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "2.0"])
@pytest.mark.parametrize("keyed", [True, False])
async def test_a_handshake_of_a_later_version_is_one_of_this(gateway, version, keyed):
    """Whatever it calls itself: over this connection no other is spoken."""
    data = head("GET", "/ws", *UPGRADE[: 4 if keyed else 3], version=version)
    async with Ways(gateway) as ways:
        for cut in (None, 3, len(data) - 1):
            assert (await ways.answer(data, cut=cut)).status == (101 if keyed and version != "1.0" else 400)


def test_a_tls_hello_is_no_http_so_no_protocol_is_chosen_by_it(gateway):
    alpn = b"\x00\x10\x00\x0e\x00\x0c\x02h2\x08http/1.1"
    hello = b"\x01\x00\x00\x40\x03\x03" + bytes(32) + b"\x00\x00\x02\x13\x01\x01\x00" + len(alpn).to_bytes(2) + alpn
    answer = exchange(gateway, b"\x16\x03\x01" + len(hello).to_bytes(2) + hello)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"h2" not in answer


@pytest.mark.parametrize("inner", ["GET", "POST"])
def test_nothing_gets_in_behind_connect(gateway, inner):
    """A proxy that takes CONNECT's answer for a tunnel must not find one: the bytes behind it are no request."""
    behind = head(inner, "/runs", authorization())
    answer = exchange(gateway, head("CONNECT", "127.0.0.1:80", "Connection: keep-alive") + behind)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 6", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 6"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding: chunked\x0b",),
        ("Content-Length: 6", "Content-Length: 5"),
        ("Content-Length: +6",),
        ("Content-Length: 6\x00",),
    ],
)
def test_a_request_cannot_hide_in_a_body_whose_length_is_in_doubt(gateway, lines):
    hidden = head("GET", "/healthz", "Connection: keep-alive")
    answer = exchange(gateway, head("POST", "/runs", "Connection: keep-alive", *lines) + b"0\r\n\r\n" + hidden)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b'"status":"ok"' not in answer


async def test_a_pipelined_request_is_answered_after_the_first_and_once(gateway):
    plain = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
    answer = await asyncio.to_thread(exchange, gateway, (plain + b"\r\n") * 9 + plain + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 ") == answer.count(b'{"status":"ok"') == 10


@pytest.mark.parametrize("name", ["Last-Event-ID", "X-Request-Id", "Origin", "Idempotency-Key", "Cookie"])
@pytest.mark.parametrize(
    "way", ["\r\nX-Injected: 1", "\nX-Injected: 1", "\rX-Injected: 1", "%0d%0aX-Injected: 1", "\x85X"]
)
def test_what_a_header_holds_is_never_a_header_of_the_answer(gateway, name, way):
    for lines in ((STREAM,), ()):
        answer = exchange(gateway, head("GET", "/runs", *lines, authorization(), f"{name}: a{way}"))
        assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
        assert b"injected" not in answer.partition(b"\r\n\r\n")[0].lower()


@pytest.mark.parametrize("value", ["a%0d%0adata:x", "%0a%0aevent:%20x", "a%00", "%E2%80%A8", "x.a%0Aid:%201"])
@pytest.mark.parametrize("name", ["after", "types", "dialect", "replay", "run"])
async def test_what_a_query_holds_never_ends_a_line_of_the_stream(gateway, name, value):
    run = "00000000-0000-7000-8000-000000000000"
    async with Ways(gateway) as ways:
        for path in (f"/runs/{run}/events", "/events"):
            answer = await ways.answer(head("GET", f"{path}?{name}={value}", STREAM, authorization()), cut=None)
            assert answer.status in (404, 422)
            assert b"\n" not in answer.body
