"""Many viewers in one process: raw sockets, one epoll, and no parsing beyond the search for a stamp.

Rule 1: every message carries a stamp: when it was made (Unix ns) and its number. Each viewer must see the numbers
without a hole, a repetition or another order; what it costs a server to lose messages is nobody's business.
Rule 2: what is measured is the server. A viewer reads as soon as it can, but its delay includes the others' turns.
"""

import gc
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.bench.machine import Used, used

MARK = b'"bench":"'
STAMP = 19 + 1 + 9
AT_ONCE = 50  # connections in one lot, so that no backlog overflows
PATIENCE_S = 30
SILENCE_S = 3
PING, PONG = b"\x89\x00", b"\x8a\x80" + bytes(4)  # a server's ping, and a client's answer with a mask of zeros


class Step(NamedTuple):
    """Bytes to say when a connection opens, and those that must come before the next step."""

    says: bytes
    hears: bytes


class Source(NamedTuple):
    """Where messages are published: `post` makes the whole HTTP request out of a stamp. `rate`: a second."""

    port: int
    post: Callable[[bytes], bytes]
    rate: float


@dataclass
class Watched:
    """`expected`: deliveries, had nothing been lost. `wrong`: numbers that were missing, repeated or out of order."""

    viewers: int
    used: Used
    took_s: float
    published: int = 0
    delivered: int = 0
    expected: int = 0
    wrong: int = 0
    bytes_in: int = 0
    delays_ns: list[int] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, Any]:
        each = max(1, self.delivered)
        return {
            "viewers": self.viewers,
            "delivered": self.delivered,
            "expected": self.expected,
            "wrong": self.wrong,
            "cpu_us": round(self.used.cpu_s * 1e6 / each, 2),
            "bytes": round(self.bytes_in / each),
            **delays(self.delays_ns),
        }


def delays(nanoseconds: Sequence[int]) -> dict[str, float]:
    """The middle one and the one that a hundredth exceeds, in milliseconds."""
    ordered = sorted(nanoseconds) or [0]
    return {
        "p50_ms": round(ordered[len(ordered) // 2] / 1e6, 2),
        "p99_ms": round(ordered[int((len(ordered) - 1) * 0.99)] / 1e6, 2),
    }


def stamp(number: int) -> bytes:
    return b"%d.%09d" % (time.time_ns(), number)


class Viewer:
    __slots__ = ("last", "socket", "tail")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.tail = b""
        self.last = -1


class Viewers:
    """A crowd at one server that may grow. `pid`: the server's. `steps`: how the n-th one of them joins."""

    def __init__(self, pid: int, port: int, steps: Callable[[int], Sequence[Step]]) -> None:
        self._pid = pid
        self._port = port
        self._steps = steps
        self._all: dict[int, Viewer] = {}
        self._epoll = select.epoll()

    def grow(self, to: int) -> Used:
        """Let so many be there; what that cost the server."""
        before = self._settled()
        while len(self._all) < to:
            self._lot(range(len(self._all), min(to, len(self._all) + AT_ONCE)))
        return self._settled().since(before)

    def _settled(self) -> Used:
        """What the server has used, once it rests. With messages on the way it never does."""
        now = used(self._pid)
        for _ in range(10):
            before = now
            self.idle(0.1)
            now = used(self._pid)
            if now.cpu_s - before.cpu_s < 0.005:
                break
        return now

    def _lot(self, numbers: Sequence[int]) -> None:
        lot = []
        for _ in numbers:
            connected = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The end is a reset: ten thousand ports that wait for a last packet would be missing in the next round.
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            lot.append(Viewer(connected))
        heard = {}
        for steps in zip(*(self._steps(number) for number in numbers), strict=True):
            for viewer, step in zip(lot, steps, strict=True):
                viewer.socket.sendall(step.says)
            for viewer, step in zip(lot, steps, strict=True):
                heard[viewer] = until(viewer.socket, step.hears)
        nothing = Watched(0, Used(0, 0), 0)
        for viewer in lot:
            viewer.socket.setblocking(False)
            self._all[viewer.socket.fileno()] = viewer
            self._epoll.register(viewer.socket, select.EPOLLIN)
            _take(viewer, heard[viewer], nothing)

    def idle(self, seconds: float) -> Used:
        """Take what comes, and answer pings; what the server used in that time."""
        return self.watch(seconds).used

    def watch(
        self, seconds: float, source: Source | None = None, *, until: Callable[[], bool] = lambda: True
    ) -> Watched:
        """Take what comes for so long, and until something is true.

        With a source, publish to it at its rate, one after the other, and take all that was published.
        """
        gc.collect()
        gc.disable()
        try:
            return self._watch(seconds, source, until)
        finally:
            gc.enable()

    def _watch(self, seconds: float, source: Source | None, until: Callable[[], bool]) -> Watched:
        found = Watched(len(self._all), Used(0, 0), 0)
        publisher = None if source is None else _Publisher(source, self._epoll)
        before, began = used(self._pid), time.monotonic()
        heard_at = began
        while True:
            now = time.monotonic()
            publishing = now - began < seconds or not until()
            if publisher is not None:
                if publishing:
                    publisher.go_on(now)
                found.expected = publisher.published * found.viewers
            if not publishing and (found.delivered >= found.expected or now - heard_at > SILENCE_S):
                break
            for file, _ in self._epoll.poll(0.002):
                if publisher is not None and file == publisher.file:
                    publisher.take()
                    continue
                viewer = self._all[file]
                if not (data := viewer.socket.recv(65536)):
                    raise ConnectionError("the server ended a viewer's connection")
                found.bytes_in += len(data)
                _take(viewer, data, found)
                heard_at = now
        found.used, found.took_s = used(self._pid).since(before), time.monotonic() - began
        if publisher is None:
            found.expected = found.delivered + found.wrong
        else:
            found.published = publisher.published
            publisher.close()
        for viewer in self._all.values():
            viewer.last = viewer.last if publisher is None else -1
        return found

    def close(self) -> None:
        for viewer in self._all.values():
            viewer.socket.close()
        self._all.clear()
        self._epoll.close()


def _take(viewer: Viewer, data: bytes, found: Watched) -> None:
    """Count the stamps in what came; one that has not come whole is kept for the next time."""
    if PING in data:
        viewer.socket.send(PONG)
    if viewer.tail:
        data = viewer.tail + data
    now, end = time.time_ns(), 0
    while (at := data.find(MARK, end)) >= 0 and len(data) - at >= len(MARK) + STAMP:
        at += len(MARK)
        end = at + STAMP
        number = int(data[at + 20 : end])
        if number != viewer.last + 1 and viewer.last >= 0:
            found.wrong += 1
        viewer.last = number
        found.delivered += 1
        found.delays_ns.append(now - int(data[at : at + 19]))
    viewer.tail = data[max(end, len(data) - len(MARK) - STAMP) :]


class _Publisher:
    """One connection that is kept alive, and one request at a time on it."""

    def __init__(self, source: Source, epoll: select.epoll) -> None:
        self._source = source
        self._epoll = epoll
        self._socket = socket.create_connection(("127.0.0.1", source.port), timeout=PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self._socket.fileno()
        epoll.register(self._socket, select.EPOLLIN)
        self.published = 0
        self._answered = 0
        self._due = 0.0

    def go_on(self, now: float) -> None:
        if now < self._due or self._answered < self.published:
            return
        self._due = max(self._due + 1 / self._source.rate, now)
        self._socket.sendall(self._source.post(stamp(self.published)))
        self.published += 1

    def take(self) -> None:
        answer = self._socket.recv(65536)
        if answer.count(b"HTTP/1.1 ") != answer.count(b"HTTP/1.1 20"):
            raise ConnectionError(f"not published: {answer[:300]!r}")
        self._answered += answer.count(b"HTTP/1.1 ")

    def close(self) -> None:
        self._epoll.unregister(self._socket)
        self._socket.close()


def until(connected: socket.socket, hears: bytes) -> bytes:
    """What comes on a socket that waits, up to certain bytes and whatever came with them."""
    heard = b""
    while hears not in heard:
        part = connected.recv(65536)
        if not part:
            raise ConnectionError(f"ended after {heard[:300]!r}")
        heard += part
    return heard
