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
from tests.e2e.process import GatewayProcess
from tests.fuzz.odd import Heads

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
        return self.status, headers, DRAWN.sub(b"", self.body), self.whole, self.kept


@dataclass
class Compared:
    """`statuses` of what came through the first way; `wrong`: heads whose answers differ or must not be."""

    statuses: Counter[int] = field(default_factory=Counter)
    streams: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(self.statuses.items()))
        return f"{self.statuses.total()} heads, {self.streams} of them streamed, {len(self.wrong)} wrong; {told}"


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
        while not self._free.empty():
            reader, writer = self._free.get_nowait()
            if not reader.at_eof():
                break
            await _gone(writer)  # it was idle for so long that the gateway closed it
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
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


async def compared(gateway: GatewayProcess, *, seed: int, count: int, handshakes: bool = False) -> Compared:
    """Send `count` heads both ways; `handshakes`: all of them a WebSocket's.

    What they speak of is a run that has ended, whose stream ends by itself.
    """
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
            made = [heads.handshake() if handshakes else heads.one() for _ in range(min(count, 1000))]
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
    statuses = {one.status, two.status}
    if 431 in statuses and statuses <= {400, 431, 501}:
        # What is wrong and too long is refused for what was seen first.
        two.status = one.status
    if one.comparable() != two.comparable():
        found.wrong.append(f"{one.comparable()}\n is not\n{two.comparable()}\ncut at {cut}: {data[:1500]!r}")
    for each in (one, two):
        if each.status and (each.status not in STATUSES or not each.headers.keys() <= KNOWN):
            found.wrong.append(f"answered {each.status} {each.headers} to {data[:1500]!r}")
