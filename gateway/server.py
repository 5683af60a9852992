"""Hypercorn, with the socket within reach: listener, connections, signals, the order of the end.

Rule 1: the only file that knows Hypercorn's insides. It is pinned to a minor release, and a contract test fails when
what is used here moves.
Rule 2: the end has an order. A signal drains the gateway while the listener still answers; only then does the listener
close, and what is left is cut.

Longer than others because of rule 1.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

import h11
import structlog
from h11 import Request as H11Request
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.typing import ASGIFramework, ConnectionState
from hypercorn.utils import parse_socket_addr
from wsproto.events import Message

from gateway.app import Gateway
from gateway.errors import Unavailable
from gateway.routes import grouped
from gateway.settings import Settings
from gateway.tally import Sockets
from gateway.transports.direct import STATE_KEY, Wire
from gateway.wire import json

log = structlog.get_logger(__name__)

BACKLOG = 4096
KEEP_ALIVE_S = 75
SEND_BUFFER_BYTES = 256 * 1024
CLOSING_S = 1.0
SPARE = 1000  # sockets beyond the streams, for requests; of one address a tenth of that
MAX_READ = 65_536
GC_THRESHOLD = 20_000
MAX_UNAWAITED = 256
MAX_UNSENT = 4 << 20


_FULL_BODY = json.dumps(Unavailable("server.busy", retry_after_ms=5000).document())
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n"
    b"Retry-After: 5\r\nConnection: close\r\n\r\n%b" % (len(_FULL_BODY), _FULL_BODY)
)


class Http1(H11Protocol):
    """HTTP/1.1 and nothing that would turn into something else.

    No `Upgrade: h2c` and no prior-knowledge HTTP/2, whose streams have no backpressure here; no WebSocket extensions,
    as deflate inflates without bound. A request that says its length in two ways is refused (RFC 9112, section 6.1).
    """

    async def _check_protocol(self, event: H11Request) -> None:
        if event.method in (b"PRI", b"CONNECT"):
            await self._send_error_response(405)
            raise ConnectionResetError
        # A length that a proxy may have believed, and chunks that we would: each sees another request behind it.
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
            await self._send_error_response(400)
            raise ConnectionResetError

    async def _create_stream(self, request: H11Request) -> None:
        kept = [(name, value) for name, value in request.headers if name.lower() != b"sec-websocket-extensions"]
        plain = H11Request(
            method=request.method, headers=kept, target=request.target, http_version=request.http_version
        )
        await super()._create_stream(plain)
        if isinstance(self.stream, WSStream):
            self.stream.buffer = Truncated(self.config.websocket_max_message_size)

    def owes_request(self) -> bool:
        """Whether a request has begun to come in, or is the first, and is not complete: head and body."""
        connection = self.connection
        if isinstance(connection, H11WSConnection):
            return False
        if connection.their_state is h11.SEND_BODY:
            return True
        first = self.keep_alive_requests == 0
        return connection.their_state is h11.IDLE and (first or bool(connection.trailing_data[0]))


class Truncated(WebsocketBuffer):
    """Keeps a little more than a message may have and drops the rest; the app sees that it is too much.

    Hypercorn's own way closes at once, without telling the app and without reading on to the client's answer.
    """

    def extend(self, event: Message[Any]) -> None:
        if self.length <= self.max_length:
            with contextlib.suppress(FrameTooLargeError):
                super().extend(event)


class Http1Wrapper(ProtocolWrapper):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.protocol = Http1(
            self.app, self.config, self.context, self.task_group, self.state, self.ssl, self.client, self.server,
            self.send,
        )  # fmt: skip


class Arrival(asyncio.StreamReaderProtocol):
    """Tells a wire's owner that the client is gone before the socket is closed, and its descriptor given to another."""

    wire: Wire | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self.wire is not None and self.wire.owner is not None:
            self.wire.owner.lost()
        super().connection_lost(exc)


class Connection(TCPServer):
    """One accepted socket. Its stream writer is put where the app finds it: in its copy of the lifespan state.

    `patience_s`: how long a request may take to come in.
    """

    def __init__(self, *args: Any, patience_s: float, sockets: Sockets) -> None:
        super().__init__(*args)
        self._patience_s = patience_s
        self._sockets = sockets

    async def run(self) -> None:
        accepted = self.writer.get_extra_info("socket")
        try:
            client = parse_socket_addr(accepted.family, accepted.getpeername())
            server = parse_socket_addr(accepted.family, accepted.getsockname())
            self._late: asyncio.TimerHandle | None = None
            self._wire = Wire(self.writer, self.loop.time(), pipelined=self._pipelined)
            cast("Arrival", self.writer.transport.get_protocol()).wire = self._wire
            state = ConnectionState({**self.state, STATE_KEY: self._wire})
            async with TaskGroup(self.loop) as task_group:
                self._task_group = task_group
                self.protocol = Http1Wrapper(
                    self.app, self.config, self.context, task_group, state, False, client, server,
                    self.protocol_send, "http/1.1",
                )  # fmt: skip
                await self.protocol.initiate()
                await self.idle_task.restart(task_group, self._idle_timeout)
                self._time_request()
                await self._read_data()
        except* OSError:
            pass  # the client went away
        finally:
            if self._late is not None:
                self._late.cancel()
            await self._close()

    def _time_request(self) -> None:
        """A request has its time from its first byte to its last, and a new connection from its first moment."""
        http1 = cast("Http1", self.protocol.protocol)
        if http1.owes_request():
            if self._late is None:
                self._late = self.loop.call_later(self._patience_s, self._cut_late)
        elif self._late is not None:
            self._late.cancel()
            self._late = None

    def _cut_late(self) -> None:
        self._sockets.late += 1
        self.writer.transport.abort()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated) and event.idle and self.reader.at_eof():
            return
        if self._wire.owner is not None:
            self._wire.owner.preceded()
        socket = self.writer.transport
        roomy = not socket.is_closing() and socket.get_write_buffer_size() < MAX_UNSENT
        if roomy and isinstance(event, RawData) and len(event.data) <= MAX_UNAWAITED:
            # A pong, most often: to wait until the client takes it would end the reading, and with it a cancel.
            self.writer.write(event.data)
        else:
            await super().protocol_send(event)

    def _pipelined(self) -> bool:
        """Whether the client sent more behind the request that is being answered."""
        http1 = cast("Http1", self.protocol.protocol)
        return bool(http1.connection.trailing_data[0])

    async def _read_data(self) -> None:
        try:
            while data := await self.reader.read(MAX_READ):
                self._wire.heard_at = self.loop.time()
                if self._wire.one_way:
                    self.writer.transport.abort()
                    break
                await self.protocol.handle(RawData(data))
                self._time_request()
        except OSError:
            pass  # the client went away
        if self._wire.owner is not None:
            self._wire.owner.lost()
        await self.protocol.handle(Closed())
        # Nobody will ask again: the wait for a next request would keep the socket for the whole of it.
        await self.idle_task.stop()


class Server:
    """Serves one gateway on one listening socket until it is told to stop."""

    def __init__(self, gateway: Gateway) -> None:
        settings = gateway.settings
        self._gateway = gateway
        self._config = Config()
        self._config.keep_alive_timeout = KEEP_ALIVE_S
        self._config.websocket_max_message_size = settings.max_body_bytes
        self._config.include_server_header = False
        self._config.accesslog = None
        self._config.errorlog = None
        self._context = WorkerContext(None)
        self._connections: set[asyncio.Task[None]] = set()
        self._addresses: Counter[str] = Counter()
        # Above this much unsent the transport tells its writers to wait; a frame may still go on top of it.
        self._high_water = settings.max_buffer_bytes // 2

    async def run(self, listening: socket.socket, stop: Callable[[], Awaitable[object]]) -> None:
        """Serve until `stop` returns, then end in order. Raises what start-up raises."""
        loop, settings = asyncio.get_running_loop(), self._gateway.settings
        app = ASGIWrapper(cast("ASGIFramework", self._gateway.app))
        state: dict[str, Any] = {}
        lifespan = Lifespan(app, self._config, loop, state)
        lifespan_task = loop.create_task(lifespan.handle_lifespan())
        await lifespan.wait_for_startup()
        if lifespan_task.done():
            failure = lifespan_task.exception()
            raise (failure and failure.__context__) or failure or RuntimeError("the app did not start")

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            address = self._address(writer)
            if self._full(address):
                self._gateway.sockets.refused += 1
                writer.write(_FULL)
                writer.close()
                return
            task = cast("asyncio.Task[None]", asyncio.current_task())
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            self._count(address, 1)
            task.add_done_callback(lambda _: self._count(address, -1))
            writer.transport.set_write_buffer_limits(high=self._high_water)
            _notice_the_dead(writer, within_s=settings.stall_timeout_s)
            # A connection that is cut is no fault, at the end or by the kernel, and asyncio would log it as one.
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await Connection(
                    app, loop, self._config, self._context, state, reader, writer,
                    patience_s=settings.request_timeout_s, sockets=self._gateway.sockets,
                )  # fmt: skip

        def arrival() -> Arrival:
            return Arrival(asyncio.StreamReader(loop=loop), accepted, loop=loop)

        server = await loop.create_server(arrival, sock=listening, backlog=BACKLOG)
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
            if self._connections:
                await asyncio.wait(self._connections, timeout=CLOSING_S)
            for task in tuple(self._connections):
                task.cancel()
            await lifespan.wait_for_shutdown()
            lifespan_task.cancel()
            await asyncio.wait([lifespan_task])

    def _address(self, writer: asyncio.StreamWriter) -> str:
        """Whose socket it is; "" for a proxy's, which speaks for many."""
        peer = writer.get_extra_info("peername")
        return "" if not peer or self._gateway.addresses.is_proxy(peer[0]) else grouped(peer[0])

    def _full(self, address: str) -> bool:
        """Whether there are too many, in all or of one address. Streams meet their own limits before."""
        settings = self._gateway.settings
        if len(self._connections) >= settings.max_connections + SPARE:
            return True
        return address != "" and self._addresses[address] >= settings.max_connections_per_address + SPARE // 10

    def _count(self, address: str, change: int) -> None:
        self._gateway.sockets.open += change
        self._addresses[address] += change
        if self._addresses[address] <= 0:
            del self._addresses[address]


def listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises OSError."""
    host, port = settings.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Bounds what the kernel takes for a client that does not read; accepted sockets inherit it.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    listening.bind((host, port))
    listening.setblocking(False)
    return listening


def _notice_the_dead(writer: asyncio.StreamWriter, *, within_s: float) -> None:
    """Let the kernel give up on a peer that acknowledges nothing, as heartbeats alone would go on for a long time."""
    accepted = writer.get_extra_info("socket")
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(within_s * 1000))


def serve(gateway: Gateway, listening: socket.socket) -> None:
    """Run the event loop until SIGINT or SIGTERM; a second one ends it at once."""
    # What start-up made stays for good: the collector need not look at it again and again. Streams make few cycles.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)
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
