"""Those who mean ill, in a process of their own: `python -m tests.faults.attackers PORT JSON`.

They come from addresses of their own, so what they do must be nobody else's loss. Prints what became of them as JSON.
"""

import asyncio
import contextlib
import json
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Iterable
from typing import NamedTuple

from tests.e2e.process import token
from tests.faults import crowd

AT_ONCE = 200
PER_WRITE = 500
PATIENCE_S = 30
JUNK = (b"nonsense", b"{}", b"[" * 50, b'{"type":"no such"}', b'{"type":"ping"', b"\xff\xfe")


class Attack(NamedTuple):
    """`connections` of one subject to `run`, `frames` of junk, `drips`: handshakes that come in byte by byte."""

    run: str
    connections: int
    frames: int
    drips: int
    seed: int


async def connections(port: int, attack: Attack) -> Counter[str]:
    """Ask for streams and sockets as one subject, keep what is given, and count how each was answered."""
    bearer, found, kept = token("mallory", runs=[attack.run]), Counter[str](), []
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        kind = ("sse", "websocket")[number % 2]
        # Many addresses, or the rate of one would hide the limit of the subject.
        asks = _from(f"198.51.{number % 200}.1", crowd.request(attack.run, kind, bearer=bearer, replay="none"))
        async with places:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(asks)
                outcome = await asyncio.wait_for(_outcome(reader), PATIENCE_S)
            except (OSError, asyncio.IncompleteReadError):
                outcome = "reset"
            found[outcome] += 1
            if outcome == "open":
                kept.append(writer)

    await _all(one(number) for number in range(attack.connections))
    for writer in kept:
        writer.transport.abort()
    return found


async def _outcome(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
    if head == b"101":
        first, size = await reader.readexactly(2)
        payload = await reader.readexactly(int.from_bytes(await reader.readexactly(2)) if size == 126 else size)
        return "open" if first == 0x81 else str(int.from_bytes(payload[:2]))
    if head != b"200":
        return head.decode()
    await reader.readuntil(b"\n\n")  # hello
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            if b"event: reconnect" in await reader.readuntil(b"\n\n"):
                return "reconnect"
    return "open"


async def junk(port: int, attack: Attack) -> Counter[str]:
    """Write frames that are no commands as fast as they go, and see the socket closed each time."""
    rng, bearer, found = random.Random(attack.seed), token("mallory-junk"), Counter[str]()
    left = attack.frames
    while left > 0:
        count = min(left, PER_WRITE)
        left -= count
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        handshake = crowd.request(attack.run, "websocket", bearer=bearer, replay="none")
        writer.write(_from(f"203.0.{rng.randrange(200)}.1", handshake))
        try:
            await asyncio.wait_for(reader.readuntil(b"retry_ms"), PATIENCE_S)
            writer.write(b"".join(crowd.masked(rng.choice((1, 1, 1, 2)), rng.choice(JUNK)) for _ in range(count)))
            told = await asyncio.wait_for(reader.read(), PATIENCE_S)
            found["4000" if (4000).to_bytes(2) in told[-40:] else "cut"] += 1
        except (OSError, asyncio.IncompleteReadError):
            found["cut"] += 1
        found["frames"] += count
        writer.transport.abort()
    return found


async def drips(port: int, attack: Attack) -> Counter[str]:
    """Open handshakes that never end, each a byte now and then, until the gateway cuts them."""
    found = Counter[str]()

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Drip: ")
        ended = asyncio.ensure_future(reader.read())
        async with asyncio.timeout(PATIENCE_S):
            while not ended.done():
                writer.write(b"x")
                await asyncio.wait({ended}, timeout=0.25)
        with contextlib.suppress(ConnectionResetError):
            ended.result()
        found["cut"] += 1
        writer.transport.abort()

    await _all(one(number) for number in range(attack.drips))
    return found


async def _all(work: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*work)


def _from(address: str, request: bytes) -> bytes:
    return request.replace(b"\r\n", b"\r\nX-Forwarded-For: %b\r\n" % address.encode(), 1)


async def main(port: int, attack: Attack) -> None:
    """All three at the same time."""
    outcomes = await asyncio.gather(connections(port, attack), junk(port, attack), drips(port, attack))
    print(json.dumps(dict(zip(("connections", "junk", "drips"), outcomes, strict=True))))


if __name__ == "__main__":
    crowd.allow_files()
    asyncio.run(main(int(sys.argv[1]), Attack(**json.loads(sys.argv[2]))))
