"""Hypercorn, with the socket within reach: listener, connections, signals, the order of the end.

Rule 1: the only file that knows Hypercorn's insides. It is pinned to a minor release, and a contract test fails when
what is used here moves.
Rule 2: the end has an order. A signal drains the gateway while the listener still answers; only then does the listener
close, and what is left is cut.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

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
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.typing import ASGIFramework, ConnectionState
from hypercorn.utils import parse_socket_addr
from wsproto.events import Message

from gateway.app import Gateway
from gateway.settings import Settings
from gateway.transports.direct import STATE_KEY, Wire

log = structlog.get_logger(__name__)

BACKLOG = 4096
KEEP_ALIVE_S = 75
SEND_BUFFER_BYTES = 256 * 1024
CLOSING_S = 1.0
MAX_READ = 65_536
GC_THRESHOLD = 20_000
MAX_UNAWAITED = 256
MAX_UNSENT = 4 << 20


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


class Connection(TCPServer):
    """One accepted socket. Its stream writer is put where the app finds it: in its copy of the lifespan state."""

    async def run(self) -> None:
        accepted = self.writer.get_extra_info("socket")
        try:
            client = parse_socket_addr(accepted.family, accepted.getpeername())
            server = parse_socket_addr(accepted.family, accepted.getsockname())
            self._wire = Wire(self.writer, self.loop.time(), pipelined=self._pipelined)
            state = ConnectionState({**self.state, STATE_KEY: self._wire})
            async with TaskGroup(self.loop) as task_group:
                self._task_group = task_group
                self.protocol = Http1Wrapper(
                    self.app, self.config, self.context, task_group, state, False, client, server,
                    self.protocol_send, "http/1.1",
                )  # fmt: skip
                await self.protocol.initiate()
                await self.idle_task.restart(task_group, self._idle_timeout)
                await self._read_data()
        except* OSError:
            pass  # the client went away
        finally:
            await self._close()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated) and event.idle and self.reader.at_eof():
            return
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
        except OSError:
            pass  # the client went away
        if self._wire.on_lost is not None:
            self._wire.on_lost()
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
            task = cast("asyncio.Task[None]", asyncio.current_task())
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            writer.transport.set_write_buffer_limits(high=self._high_water)
            _notice_the_dead(writer, within_s=settings.stall_timeout_s)
            # A connection that is cut is no fault, at the end or by the kernel, and asyncio would log it as one.
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await Connection(app, loop, self._config, self._context, state, reader, writer)

        server = await asyncio.start_server(accepted, sock=listening, backlog=BACKLOG)
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
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_until_signalled(Server(gateway), listening))
        left = [task for task in asyncio.all_tasks(runner.get_loop()) if not task.done()]
        if left:
            # A pipeline that will not stop must not keep the process: everything else has been closed in order.
            log.warning("ending with tasks that would not stop", tasks=[task.get_name() for task in left])
            os._exit(0)


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
