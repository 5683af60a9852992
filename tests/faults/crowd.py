"""Crowds of clients: readers that only measure delay, and clients that never read."""

import asyncio
import re
import resource
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

from tests.e2e.process import GatewayProcess, token

_TICK = re.compile(rb'"block":"now","delta":"([0-9.]+)"')
STUCK_RECEIVE_BYTES = 4096


def request(run: str, kind: str, *, bearer: str, replay: str) -> bytes:
    """The bytes that open a stream; for a WebSocket with its subscription behind them."""
    if kind == "sse":
        lines = [f"GET /runs/{run}/events?{urlencode({'replay': replay})} HTTP/1.1", "Accept: text/event-stream"]
        return _head(lines, bearer)
    return _head(
        [
            "GET /ws HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ],
        bearer,
    )  # fmt: skip


def _head(lines: Sequence[str], bearer: str) -> bytes:
    return ("\r\n".join([*lines, "Host: 127.0.0.1", f"Authorization: Bearer {bearer}"]) + "\r\n\r\n").encode()


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's WebSocket frame of less than 64 KiB; the mask is zero, which masks nothing."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes((0x80 | opcode,)) + length + bytes(4) + payload


def subscribe(run: str, replay: str) -> bytes:
    return masked(1, b'{"type":"subscribe","run":"%b","replay":"%b"}' % (run.encode(), replay.encode()))


class Reader(asyncio.Protocol):
    """Reads all that comes. `delays` in seconds, of every tick that came while `measuring`."""

    def __init__(self, run: str, kind: str, bearer: str, *, replay: str) -> None:
        self.delays: list[float] = []
        self.measuring = False
        self.received = 0
        self.ended = asyncio.get_running_loop().create_future()
        self.ticked = asyncio.Event()
        self._run = run
        self._kind = kind
        self._replay = replay
        self._request = request(run, kind, bearer=bearer, replay=replay)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.received == 0 and self._kind == "websocket":
            self.transport.write(subscribe(self._run, self._replay))
        self.received += len(data)
        ticks = _TICK.findall(data)
        if ticks:
            self.ticked.set()
        if ticks and self.measuring:
            now = time.time()
            self.delays += [now - float(tick) for tick in ticks]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(error)


async def readers(gateway: GatewayProcess, run: str, count: int, *, replay: str = "none") -> list[Reader]:
    """Half SSE, half WebSocket, all of them at the live edge."""
    loop, bearer = asyncio.get_running_loop(), token()
    made = []
    for index in range(count):
        kind = ("sse", "websocket")[index % 2]
        _, reader = await loop.create_connection(
            lambda kind=kind: Reader(run, kind, bearer, replay=replay), "127.0.0.1", gateway.port
        )
        made.append(reader)
    for reader in made:
        async with asyncio.timeout(30):
            await reader.ticked.wait()
    return made


async def stuck(
    gateway: GatewayProcess, run: str, count: int, *, kinds: Sequence[str] = ("sse", "websocket")
) -> list[socket.socket]:
    """Clients that ask for everything and take nothing. A WebSocket's handshake is still read."""
    loop, bearer = asyncio.get_running_loop(), token()
    made = []
    for index in range(count):
        kind = kinds[index % len(kinds)]
        bare = socket.socket()
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STUCK_RECEIVE_BYTES)
        bare.setblocking(False)
        await loop.sock_connect(bare, ("127.0.0.1", gateway.port))
        await loop.sock_sendall(bare, request(run, kind, bearer=bearer, replay="full"))
        if kind == "websocket":
            async with asyncio.timeout(10):
                heard = b""
                while b'"hello"' not in heard:
                    heard += await loop.sock_recv(bare, 1024)
            await loop.sock_sendall(bare, subscribe(run, "full"))
        made.append(bare)
    return made


def measure(crowd: Sequence[Reader]) -> None:
    """Begin anew."""
    for reader in crowd:
        reader.delays.clear()
        reader.measuring = True


async def measured(crowd: Sequence[Reader], measure_s: float) -> float:
    """The delay that one in a hundred ticks exceeds, over this time."""
    measure(crowd)
    await asyncio.sleep(measure_s)
    for reader in crowd:
        reader.measuring = False
    return p99(crowd)


def allow_files() -> None:
    """As many open files as the system lets this process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def p99(crowd: Sequence[Reader]) -> float:
    delays = sorted(delay for reader in crowd for delay in reader.delays)
    return delays[int(len(delays) * 0.99)]


def rss_bytes(gateway: GatewayProcess) -> int:
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def sockets(gateway: GatewayProcess) -> int:
    """How many sockets the gateway has open."""
    found = 0
    for place in Path(f"/proc/{gateway.process.pid}/fd").iterdir():
        try:
            found += str(place.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue
    return found
