"""Heads of HTTP requests at random, with all that has ever been used to make two readers disagree."""

import random

from tests.e2e.process import token


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

    def handshake(self) -> bytes:
        """A WebSocket's, most of them plain but for a line or two."""
        rng = self._rng
        target = rng.choices((b"/ws", b"/ws?x=%ff&a", b"/ws/", b"/wsx", b"/%77s", b"http://a/ws"), (80, 9, 1, 1, 1, 1))[
            0
        ]
        lines = [
            *rng.choices(([b"Connection: Upgrade"], [b"Connection: keep-alive, Upgrade"], []), (70, 20, 5))[0],
            *rng.choices(([b"Upgrade: websocket"], [b"upgrade:WebSocket "], []), (70, 20, 5))[0],
            *rng.choices(([b"Sec-WebSocket-Version: 13"], [b"Sec-WebSocket-Version: 013"], []), (80, 5, 5))[0],
            *rng.choices(([b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], [b"Sec-WebSocket-Key: a"], []), (80, 5, 5))[
                0
            ],
            *rng.choices(
                ([], [b"Sec-WebSocket-Protocol: a, runcast.v1"], [b"Sec-WebSocket-Protocol: \xff"]), (80, 9, 5)
            )[0],
            *rng.choices(([], [b"Sec-WebSocket-Extensions: permessage-deflate"]), (80, 9))[0],
            *([self._odd()] if rng.random() < 0.4 else []),
            b"Host: 127.0.0.1",
        ]
        rng.shuffle(lines)
        data = b"\r\n".join((b"GET " + target + b" HTTP/1.1", *lines, b"", b""))
        if rng.random() < 0.1:
            data = self._broken(data)
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
