"""The listener: arriving connections, signals, the order of the end.

Rule 1: a plain request is answered in the `lane`, a plain WebSocket in the `socket_lane`. What comes first that is
neither is for Hypercorn (`http1`), and so is all that follows on that connection.
Rule 2: the end has an order. A signal drains the gateway while the listener still answers; only then does the listener
close, and what is left is cut.

Longer than others: a connection's arrival, its turn and its end are one order, which is read in one piece.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, cast

import structlog
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from gateway.app import Gateway
from gateway.errors import Unavailable
from gateway.http1 import MAX_READ, Connection
from gateway.lane import Head, Lane, head_of
from gateway.routes import grouped
from gateway.settings import Settings
from gateway.socket_lane import SocketLane, opening_of
from gateway.wire import json

log = structlog.get_logger(__name__)

BACKLOG = 4096
KEEP_ALIVE_S = 75
SEND_BUFFER_BYTES = 256 * 1024
CLOSING_S = 1.0
IN_A_TURN = 32  # requests that are begun before the loop looks at anything else
SPARE = 1000  # sockets beyond the streams, for requests; of one address a tenth of that
# A collection holds the loop, 0.4 µs for each object of its generation: many small ones, and hardly ever a full one.
GC_THRESHOLDS = 5_000, 2, 1_000

_FULL_BODY = json.dumps(Unavailable("server.busy", retry_after_ms=5000).document())
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n"
    b"Retry-After: 5\r\nConnection: close\r\n\r\n%b" % (len(_FULL_BODY), _FULL_BODY)
)


class Arrival(asyncio.Protocol):
    """A connection between requests: of what comes in next nothing is known yet."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._data = b""
        self._head: Head | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._late = self._in(self._server.patience_s, self._cut_late)
        self._server.arrived(self._transport)

    def wait_on(self, transport: asyncio.Transport, data: bytes) -> None:
        """A request was answered, and this is what came in behind it."""
        self._transport = transport
        self._late = self._in(KEEP_ALIVE_S, transport.close)
        transport.set_protocol(self)
        transport.resume_reading()
        if data:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        first = not self._data
        self._data += data
        if first:
            self._head = head_of(data)
        missing = self._head.size + self._head.length - len(self._data) if self._head else 0
        if missing <= 0:
            self._late.cancel()
            self._server.begin(self._transport, self._data, self._head if missing == 0 else None)
        elif first:
            # The body often comes behind its head.
            self._late.cancel()
            self._late = self._in(self._server.patience_s, self._cut_late)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._late.cancel()
        self._server.gone(self._transport)

    @staticmethod
    def _in(delay_s: float, then: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, then)

    def _cut_late(self) -> None:
        self._server.sockets.late += 1
        self._transport.abort()


class Server:
    """Serves one gateway on one listening socket until it is told to stop."""

    def __init__(self, gateway: Gateway) -> None:
        settings = gateway.settings
        self.patience_s = settings.request_timeout_s
        self.sockets = gateway.sockets
        self._gateway = gateway
        self._app = ASGIWrapper(cast("ASGIFramework", gateway.app))
        self._state: dict[str, Any] = {}
        self._config = Config()
        self._config.keep_alive_timeout = KEEP_ALIVE_S
        self._config.websocket_max_message_size = settings.max_body_bytes
        self._config.include_server_header = False
        self._config.h11_max_incomplete_size = MAX_READ  # the bound itself is MAX_HEAD
        self._config.accesslog = None
        self._config.errorlog = None
        self._context = WorkerContext(None)
        self._open: dict[asyncio.Transport, str] = {}  # and of which address
        self._queued: deque[Coroutine[Any, Any, None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._addresses: Counter[str] = Counter()
        # Above this much unsent the transport tells its writers to wait; a frame may still go on top of it.
        self._high_water = settings.max_buffer_bytes // 2

    async def run(self, listening: socket.socket, stop: Callable[[], Awaitable[object]]) -> None:
        """Serve until `stop` returns, then end in order. Raises what start-up raises."""
        loop, settings = asyncio.get_running_loop(), self._gateway.settings
        lifespan = Lifespan(self._app, self._config, loop, self._state)
        lifespan_task = loop.create_task(lifespan.handle_lifespan())
        await lifespan.wait_for_startup()
        if lifespan_task.done():
            failure = lifespan_task.exception()
            raise (failure and failure.__context__) or failure or RuntimeError("the app did not start")

        server = await loop.create_server(lambda: Arrival(self), sock=listening, backlog=BACKLOG)
        host, port = listening.getsockname()[:2]
        log.info("listening", url=f"http://{host}:{port}")
        try:
            await stop()
            log.info("draining", connections=self._gateway.hub.connections)
            try:
                await asyncio.wait_for(self._gateway.drain(), settings.drain_s)
            except TimeoutError:
                log.warning("not everything ended in time", connections=self._gateway.hub.connections)
        finally:
            await self._context.terminated.set()
            server.close()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=CLOSING_S)
            for task in tuple(self._tasks):
                task.cancel()
            for serving in self._queued:
                serving.close()
            for transport in tuple(self._open):
                transport.abort()
            await lifespan.wait_for_shutdown()
            lifespan_task.cancel()
            await asyncio.wait([lifespan_task])

    def arrived(self, transport: asyncio.Transport) -> None:
        """A new connection, which may be one too many."""
        address = self._address(transport)
        if self._full(address):
            self.sockets.refused += 1
            transport.write(_FULL)
            transport.close()
            return
        self.sockets.open += 1
        self._open[transport] = address
        self._addresses[address] += 1
        transport.set_write_buffer_limits(high=self._high_water)

    def begin(self, transport: asyncio.Transport, data: bytes, head: Head | None) -> None:
        """A request is here. With a `head` it is a plain one, and these bytes are the whole of it."""
        app = cast("Any", self._gateway.app.asgi_app)
        if head is not None:
            lane = Lane(transport, self.gone)
            self._queue(self._in_lane(lane, partial(lane.answer, app, head, data[head.size :], self._state)))
        elif (opening := opening_of(data)) is not None:
            socket = SocketLane(transport, self.gone, max_message_bytes=self._gateway.settings.max_body_bytes)
            self._queue(self._in_lane(socket, partial(socket.serve, app, opening, self._state)))
        else:
            self._queue(self._serve(self._connection(transport, data)))

    def gone(self, transport: asyncio.Transport) -> None:
        address = self._open.pop(transport, None)
        if address is not None:
            self.sockets.open -= 1
            self._addresses[address] -= 1
            if self._addresses[address] <= 0:
                del self._addresses[address]

    def _queue(self, serving: Coroutine[Any, Any, None]) -> None:
        """To be served in its turn: when a crowd comes back at once, the loop must not be held until all are in."""
        self._queued.append(serving)
        if len(self._queued) == 1:
            asyncio.get_running_loop().call_soon(self._start_some)

    def _start_some(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(min(len(self._queued), IN_A_TURN)):
            task = loop.create_task(self._queued.popleft())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._queued:
            loop.call_soon(self._start_some)

    async def _in_lane(self, lane: Lane, answer: Callable[[], Awaitable[None]]) -> None:
        answering = answer()
        del answer  # and with it the head
        try:
            await answering
        except OSError:
            pass  # the client went away
        except Exception:
            log.exception("a request was not answered")
        if lane.reusable:
            Arrival(self).wait_on(lane.transport, lane.early)
        else:
            lane.transport.close()

    def _connection(self, transport: asyncio.Transport, data: bytes) -> Connection:
        return Connection(
            self._app, self._config, self._context, self._state, transport=transport, data=data,
            patience_s=self.patience_s, sockets=self.sockets, gone=self.gone,
        )  # fmt: skip

    async def _serve(self, connection: Connection) -> None:
        # A connection that is cut is no fault, at the end or by the kernel, and asyncio would log it as one.
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await connection

    def _address(self, transport: asyncio.Transport) -> str:
        """Whose socket it is; "" for a proxy's, which speaks for many."""
        peer = transport.get_extra_info("peername")
        return "" if not peer or self._gateway.addresses.is_proxy(peer[0]) else grouped(peer[0])

    def _full(self, address: str) -> bool:
        """Whether there are too many, in all or of one address. Streams meet their own limits before."""
        settings = self._gateway.settings
        if len(self._open) >= settings.max_connections + SPARE:
            return True
        return address != "" and self._addresses[address] >= settings.max_connections_per_address + SPARE // 10


def listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises OSError."""
    host, port = settings.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Bounds what the kernel takes for a client that does not read; accepted sockets inherit it.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Lets the kernel give up on a peer that acknowledges nothing, as heartbeats alone would go on for a long time.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(settings.stall_timeout_s * 1000))
    listening.bind((host, port))
    listening.setblocking(False)
    return listening


def serve(gateway: Gateway, listening: socket.socket) -> None:
    """Run the event loop until SIGINT or SIGTERM; a second one ends it at once."""
    # What start-up made stays for good: the collector need not look at it again and again. Streams make few cycles.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    _allow_files(gateway.settings.max_connections + SPARE)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_until_signalled(Server(gateway), listening))
        left = [task for task in asyncio.all_tasks(runner.get_loop()) if not task.done()]
        if left:
            # A pipeline that will not stop must not keep the process: everything else has been closed in order.
            log.warning("ending with tasks that would not stop", tasks=[task.get_name() for task in left])
            os._exit(0)


def _allow_files(count: int) -> None:
    """Every connection is an open file; what a shell allows by default is often a thousand."""
    try:
        import resource  # noqa: PLC0415 - where there is one
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else max(count, soft)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < count:
        log.warning("fewer files may be open than RUNCAST_MAX_CONNECTIONS needs", allowed=most, needed=count)


async def _until_signalled(server: Server, listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def signalled() -> None:
        if asked.is_set():
            log.warning("ending at once")
            os._exit(1)
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled)
    await server.run(listening, asked.wait)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - where it installs
    except ImportError:
        return None
    return uvloop.new_event_loop
