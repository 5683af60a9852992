"""Heads of HTTP requests as nobody should send them, each through both ways of the server.

A head in one piece may be taken by the lane; in two pieces it always goes to Hypercorn. The answers must be the same.
"""

import asyncio
import contextlib
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import h11

from tests.e2e.clients import PATIENCE_S, caller, finished, published, started
from tests.e2e.process import GatewayProcess, token

AT_ONCE = 64
# A request that never becomes whole is cut off after this: what an answer would tell, its lack tells then.
SETTINGS = {"request_timeout_s": 4}
# Drawn anew for each answer, or told of the time it was given.
DRAWN = re.compile(rb'"connection":"[0-9a-f]+"|"(?:after_ms|retry_after_ms)":\d+|retry: \d+')
OWN = frozenset({"date", "x-request-id"})
KNOWN = frozenset({
    "access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods",
    "access-control-allow-origin", "access-control-expose-headers", "access-control-max-age", "allow", "cache-control",
    "connection", "content-length", "content-security-policy", "content-type", "date", "location", "referrer-policy",
    "retry-after", "sec-websocket-accept", "sec-websocket-protocol", "transfer-encoding", "upgrade", "vary",
    "www-authenticate", "x-accel-buffering", "x-content-type-options", "x-frame-options", "x-request-id", "x-run-id",
})  # fmt: skip
STATUSES = frozenset({101, 200, 201, 204, 400, 401, 403, 404, 405, 409, 411, 413, 414, 417, 422, 431, 501, 503})


@dataclass
class Answer:
    """`status` 0: none came. `whole`: to the end of its body. `kept`: the connection may be used again."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    kept: bool = False

    def comparable(self) -> tuple[int, dict[str, str], bytes, bool, bool]:
        headers = {name: value for name, value in self.headers.items() if name not in OWN}
        # What is wrong and too long is refused for what was seen first.
        status = 400 if self.status == 431 else self.status
        return status, headers, DRAWN.sub(b"", self.body), self.whole, self.kept


@dataclass
class Compared:
    """`statuses` of what came through the first way; `wrong`: heads whose answers differ or must not be."""

    statuses: Counter[int] = field(default_factory=Counter)
    streams: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(self.statuses.items()))
        return f"{self.statuses.total()} heads, {self.streams} of them streamed, {len(self.wrong)} wrong; {told}"


class Heads:
    """Makes heads at random, most of them nearly right."""

    def __init__(self, rng: random.Random, run: str, cursor: str) -> None:
        self._rng = rng
        self._run = run
        self._cursor = cursor
        self._bearer = token("heads", ttl_s=36_000)

    def one(self) -> bytes:
        rng = self._rng
        end = rng.choices((b"\r\n", b"\n", b"\r", b"\r\r\n", b" \r\n", b"\n\r"), (90, 4, 2, 1, 2, 1))[0]
        lines = [self._first(), *self._headers()]
        data = end.join(lines) + end + end
        if rng.random() < 0.1:
            data = self._broken(data)
        if rng.random() < 0.05:
            data = rng.choice((b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\x00", b"\x16\x03\x01")) + data
        return data + rng.choices((b"", self._behind()), (85, 15))[0]

    def _first(self) -> bytes:
        rng = self._rng
        method = rng.choices(
            (b"GET", b"HEAD", b"POST", b"OPTIONS", b"get", b"G\x00T", b"PRI", b"CONNECT", b"TRACE", b"X" * 300, b""),
            (150, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1),
        )[0]
        version = rng.choices(
            (
                b"HTTP/1.1",
                b"HTTP/1.0",
                b"HTTP/2.0",
                b"HTTP/0.9",
                b"HTTP/1.2",
                b"http/1.1",
                b"HTTP/1.1 ",
                b"HTTP/11",
                b"",
            ),
            (150, 6, 2, 2, 2, 2, 2, 1, 1),
        )[0]
        space = rng.choices((b" ", b"  ", b"\t", b"\x0b"), (150, 2, 2, 1))[0]
        return method + space + self._target() + b" " + version

    def _target(self) -> bytes:
        rng = self._rng
        run = self._run.encode()
        path = rng.choices(
            (
                b"/runs/" + run + b"/events", b"/runs/x/events", b"/events", b"/runs", b"/ws", b"/nothing", b"/",
                b"/runs//events", b"/runs/" + run + b"/events/", b"/../runs", b"/%2e%2e/a", b"/runs/%2f/events",
                b"/runs/%00/events", b"/runs/%zz/events", b"/runs/%ff/events", b"/runs/\xff/events", b"/runs/\xc3\xa9",
                b"http://other/runs", b"http://127.0.0.1/runs/" + run + b"/events", b"*", b"", b"//a/b", b"/a b",
                b"/runs/" + run + b"/events#x", b"/\x7f", b"/\x01", b"/" + b"x" * 5000, b"other:443", b"?", b"/;a=1",
                b"/runs/" + run + b"%2Fevents", b"/runs/" + run.upper() + b"/events", b"/runs/%C3%A9/events",
            ),
            (60, 3, 8, *[1] * 30),
        )[0]  # fmt: skip
        if rng.random() < 0.5:
            return path
        names = ("after", "replay", "types", "dialect", "run", "ticket", "wait", "x", "")
        query = "&".join(f"{rng.choice(names)}={self._value()}" for _ in range(rng.randint(1, 4)))
        return path + b"?" + query.encode("latin-1", "replace")

    def _value(self) -> str:
        return self._rng.choice(
            (
                self._run, self._cursor, "0", "", "full", "folded", "none", "native", "content", "plain", "workflow",
                "delta,progress", "x.a%0d%0aid:1", "%0d%0aX-Injected:%201", "%00", "%ff", "%", "+", "a&b", "~", "é",
                f"{self._cursor}~{self._cursor}", "9" * 30, "x" * 2000, "\x85", "?", "/", "%E2%80%A8", "ey.ey.ey",
            )
        )  # fmt: skip

    def _headers(self) -> list[bytes]:
        rng = self._rng
        lines = [b"Host: 127.0.0.1"] if rng.random() < 0.95 else []
        if rng.random() < 0.9:
            lines.append(b"Accept: text/event-stream")
        if rng.random() < 0.9:
            lines.append(f"Authorization: Bearer {self._bearer}".encode())
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
            lines.insert(rng.randint(0, len(lines)), self._odd())
        if rng.random() < 0.03:
            lines += [b"X-%d: %d" % (number, number) for number in range(rng.choice((50, 100, 500, 3000)))]
        rng.shuffle(lines)
        return lines

    def _odd(self) -> bytes:
        rng = self._rng
        odd = rng.choice(ODD)
        return rng.choice((odd, odd, odd, odd.replace(b": ", b":"), odd.replace(b": ", b": \t ") + b" ", odd.lower()))

    def _broken(self, data: bytes) -> bytes:
        rng = self._rng
        place = rng.randrange(len(data))
        byte = bytes((rng.choice((0, 9, 10, 11, 13, 32, 58, 127, 128, 255, rng.randrange(256))),))
        return rng.choice((data[:place] + byte + data[place:], data[:place] + byte + data[place + 1 :], data[:place]))

    def _behind(self) -> bytes:
        plain = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        return self._rng.choice(
            (plain, plain * 20, b"x", b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"\x00" * 9)
        )


ODD = [
    *(b"Accept: " + value for value in (
        b"*/*", b"TEXT/EVENT-STREAM", b"text/event-stream;q=0", b"application/json", b"text/html, text/event-stream",
        b"", b"text/event-stream, " * 50,
    )),
    *(b"Content-Length: " + value for value in (
        b"0", b"1", b"5", b"-1", b"+0", b"1, 1", b"0x0", b" 0", b"00", b"9" * 40, b"", b"a",
    )),
    b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: 0\r\nTransfer-Encoding: chunked",
    *(b"Transfer-Encoding: " + value for value in (
        b"chunked", b"identity", b"gzip, chunked", b"chunked, chunked", b"xchunked", b"\x0bchunked", b"",
        b"chunked\x00",
    )),
    b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked", b"Transfer_Encoding: chunked",
    *(b"Connection: " + value for value in (
        b"close", b"keep-alive", b"Keep-Alive", b"upgrade", b"close, keep-alive", b"keep-alive, close", b"", b"TE",
        b"host", b"authorization",
    )),
    *(b"Upgrade: " + value for value in (b"h2c", b"websocket", b"HTTP/2.0", b"TLS/1.0", b"h2c, websocket")),
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    *(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: " + value for value in (
        b"13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"13",
    )),
    b"Expect: 100-continue", b"Expect: something", b"TE: trailers", b"TE: chunked", b"Trailer: Host",
    *(b"Host: " + value for value in (b"other", b"", b"a b", b"a,b", b"\xff", b"[::1", b"127.0.0.1:99999", b"a@b")),
    *(b"Last-Event-ID: " + value for value in (
        b"0", b"k3f-1", b"x\ty", b"\xc3\xa9", b"\xff\xfe", b"a~b~c", b"x" * 3000, b"\x01", b"\x7f", b"", b"\x85",
    )),
    *(b"X-Request-Id: " + value for value in (b"mine", b"a b", b"x" * 65, b"\xff", b"a\x0bb", b"", b"a\x00b")),
    *(b"Origin: " + value for value in (b"null", b"http://127.0.0.1", b"http://a\tb", b"\xff", b"*", b"")),
    *(b"Authorization: " + value for value in (b"Bearer x", b"Basic YTpi", b"", b"Bearer \xff", b"Bearer")),
    *(b"X-Forwarded-For: " + value for value in (b"1.2.3.4", b"a", b"::1, 1.2.3.4", b"\xff")),
    b"Cookie: a=b; a=c",
    b"X-Name: V\r\n folded", b"X-Name: V\r\n\tfolded", b"X-Name: V\nX-Other: 1", b"X-Name: V\rX: 1",
    b"X Name: v", b": v", b"no colon", b"X-Name\x00: v", b"X-Name: \x00", b"X-Name: \x1f", b"X-Name: \x80", b"X(: v",
    b"X-Large: " + b"x" * 17_000, b"X-Large: " + b"x" * 70_000, b"\xff: v", b"X-Name:", b"X-Name: :", b'"X": 1',
    b"HTTP/1.1: x", b"GET / HTTP/1.1", b"Accept-Encoding: gzip", b"Range: bytes=0-1", b"If-None-Match: *",
    b"Via: 1.0 a",
    b"X-HTTP-Method-Override: DELETE", b"X-Original-URL: /healthz", b"Forwarded: for=1.2.3.4", b"Upgrade-Insecure: 1",
]  # fmt: skip


class Ways:
    """Sends heads in one piece and in two."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._port = gateway.port
        self._free: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.LifoQueue()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while not self._free.empty():
            await _gone(self._free.get_nowait()[1])

    async def answer(self, data: bytes, *, cut: int | None) -> Answer:
        """What comes back for these bytes, sent in one piece or cut in two."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            if cut is None:
                writer.write(data)
            else:
                writer.write(data[:cut])
                await self._seen()
                writer.write(data[cut:])
            return await asyncio.wait_for(_read(reader, data), PATIENCE_S)
        finally:
            await _gone(writer)

    async def _seen(self) -> None:
        """A round trip beside: the gateway's one loop has by then read what was sent before."""
        if self._free.empty():
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        else:
            reader, writer = self._free.get_nowait()
        writer.write(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        self._free.put_nowait((reader, writer))


async def _gone(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, data: bytes) -> Answer:
    """The first final answer, by h11's reading of it; raises h11.RemoteProtocolError for what is none."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    method = "HEAD" if data.lstrip().startswith(b"HEAD ") else "GET"
    upgrades = [("Connection", "upgrade"), ("Upgrade", "websocket")]
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "a"), *upgrades]))
    parser.send(h11.EndOfMessage())
    found = Answer()
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            received = b""
            with contextlib.suppress(ConnectionResetError):
                received = await reader.read(65536)
            try:
                parser.receive_data(received)
            except h11.RemoteProtocolError:
                return found
            if not received:
                with contextlib.suppress(h11.RemoteProtocolError):
                    rest = parser.next_event()
                    found.whole = isinstance(rest, h11.EndOfMessage)
                return found
        elif isinstance(event, h11.Response) or getattr(event, "status_code", 0) == 101:
            found.status = event.status_code
            found.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            if found.status == 101:
                found.whole = True
                return found
        elif isinstance(event, h11.Data):
            found.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            found.whole = True
            found.kept = parser.their_state is h11.DONE
            return found
        elif isinstance(event, h11.ConnectionClosed):
            return found


async def compared(gateway: GatewayProcess, *, seed: int, count: int) -> Compared:
    """Send `count` heads both ways. What they speak of is a run that has ended, whose stream ends by itself."""
    rng, found = random.Random(seed), Compared()
    async with caller(gateway, "heads") as client:
        run = await started(client, "external")
        cursor = (await published(client, run, *({"type": "x.a", "n": n} for n in range(3)))).json()["cursor"]
        await finished(client, run)
    heads, places = Heads(rng, run, cursor), asyncio.Semaphore(AT_ONCE)

    async def both(ways: Ways, data: bytes, cut: int) -> None:
        async with places:
            await _compare(ways, data, cut, found)

    async with Ways(gateway) as ways:
        for _ in range(0, count, 1000):
            made = [heads.one() for _ in range(min(count, 1000))]
            await asyncio.gather(*(both(ways, data, rng.randint(1, max(1, len(data) - 1))) for data in made))
    return found


async def _compare(ways: Ways, data: bytes, cut: int, found: Compared) -> None:
    try:
        one, two = await ways.answer(data, cut=None), await ways.answer(data, cut=cut)
    except (h11.RemoteProtocolError, TimeoutError) as error:
        found.wrong.append(f"{error!r}: {data[:1500]!r}")
        return
    found.statuses[one.status] += 1
    found.streams += one.headers.get("content-type", "").startswith("text/event-stream")
    if one.comparable() != two.comparable():
        found.wrong.append(f"{one.comparable()}\n is not\n{two.comparable()}\ncut at {cut}: {data[:1500]!r}")
    for each in (one, two):
        if each.status and (each.status not in STATUSES or not each.headers.keys() <= KNOWN):
            found.wrong.append(f"answered {each.status} {each.headers} to {data[:1500]!r}")
