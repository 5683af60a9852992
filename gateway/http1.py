"""One connection of Hypercorn's, with its socket within reach.

Rule 1: this file and `server` are the only ones that know Hypercorn's insides, hence its length. Hypercorn is pinned to
a minor release, and a contract test fails when what is used here moves.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, cast

import h11
from h11 import Request as H11Request
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Data, Request, StreamClosed
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr
from wsproto.connection import ConnectionState as SocketState
from wsproto.events import CloseConnection, Message, Ping

from gateway.tally import Sockets
from gateway.transports.direct import MAX_UNSENT, STATE_KEY, Owner

MAX_READ = 65_536
MAX_HEAD = 16_384
MAX_UNAWAITED = 256
MAX_AT_ONCE = 500  # events of one WebSocket before others have a turn
_LISTS = frozenset({b"connection", b"sec-websocket-protocol"})


class Http1(H11Protocol):
    """HTTP/1.1 and nothing that would turn into something else.

    No `Upgrade: h2c` and no prior-knowledge HTTP/2, whose streams have no backpressure here; no WebSocket extensions,
    as deflate inflates without bound. A request that says its length in two ways is refused (RFC 9112, section 6.1).
    """

    async def _check_protocol(self, event: H11Request) -> None:
        refusal = _refusal(event)
        if refusal is not None:
            await self._send_error_response(refusal)
            raise ConnectionResetError

    async def _create_stream(self, request: H11Request) -> None:
        opens = _opens_socket(request)
        # Hypercorn goes by the last `Upgrade` of several, and would make another kind of WebSocket of it.
        dropped = (b"sec-websocket-extensions",) if opens else (b"sec-websocket-extensions", b"upgrade")
        kept = [header for header in request.headers if header[0] not in dropped]
        target, version = request.target, request.http_version
        plain = H11Request(method=request.method, headers=kept, target=target, http_version=version)
        if not opens:
            await super()._create_stream(plain)
            return
        self.stream = Frames(
            self.app, self.config, self.context, self.task_group, self.ssl, self.client, self.server,
            self.stream_send, STREAM_ID,
        )  # fmt: skip
        self.connection = H11WSConnection(cast("h11.Connection", self.connection))
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=kept,
                http_version=min(version, b"1.1").decode(),  # any later one is HTTP/2 to Hypercorn, which needs no key
                method="GET",
                raw_path=plain.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
        await self.context.mark_request()

    def owes_request(self) -> bool:
        """Whether a request has begun to come in, or is the first, and is not complete: head and body."""
        connection = self.connection
        if isinstance(connection, H11WSConnection):
            return False
        if connection.their_state is h11.SEND_BODY:
            return True
        first = self.keep_alive_requests == 0
        return connection.their_state is h11.IDLE and (first or bool(connection.trailing_data[0]))


class Frames(WSStream):
    """A WebSocket whose messages are bounded, and whose client is told by a close frame what was wrong.

    Hypercorn's own way ends the connection without a code where a frame is none (RFC 6455, section 7.1.7).
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.buffer = Truncated(self.config.websocket_max_message_size)
        self._answered = asyncio.Event()

    async def handle(self, event: Any) -> None:
        if isinstance(event, Data) and not self.closed:
            # What comes behind a handshake, before its answer, waits for that; Hypercorn would take it for no HTTP.
            # One that is refused at once never gets to the app.
            await self._answered.wait()
            if not self.handshake.accepted:
                return
        await super().handle(event)

    async def app_send(self, message: Any) -> None:
        try:
            await super().app_send(message)
        finally:
            self._answered.set()

    async def _handle_events(self) -> None:
        for count, event in enumerate(self.connection.events(), start=1):
            if count % MAX_AT_ONCE == 0:
                await asyncio.sleep(0)  # to answer what has come in already waits for nothing
            if isinstance(event, Message):
                self.buffer.extend(event)
                if event.message_finished:
                    await cast("Any", self.app_put)(self.buffer.to_message())
                    self.buffer.clear()
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                if self.connection.state is SocketState.REMOTE_CLOSING:
                    await self._send_wsproto_event(event.response())
                elif self.connection.state is SocketState.OPEN:
                    await self._send_wsproto_event(CloseConnection(code=event.code))
                await self.send(StreamClosed(stream_id=self.stream_id))


def _opens_socket(request: H11Request) -> bool:
    """Whether a WebSocket is asked for; whether rightly, its handshake is to say."""
    named: dict[bytes, list[bytes]] = {b"connection": [], b"upgrade": []}
    for name, value in request.headers:
        named.get(name, []).extend(token.strip().lower() for token in value.split(b","))
    return request.method == b"GET" and b"upgrade" in named[b"connection"] and named[b"upgrade"] == [b"websocket"]


def _refusal(request: H11Request) -> int | None:
    """The status for what never gets to the app."""
    if request.method in (b"PRI", b"CONNECT"):
        return 405
    # h11 bounds a head only as long as it is incomplete: one that came in one piece may be longer.
    if len(request.target) + sum(len(name) + len(value) + 3 for name, value in request.headers) > MAX_HEAD:
        return 431
    # Whoever stands in between may have gone by the other length (RFC 9112, section 6.1).
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in request.headers}:
        return 400
    # Lists of tokens, which Hypercorn decodes without a look.
    if _opens_socket(request) and any(name in _LISTS and not value.isascii() for name, value in request.headers):
        return 400
    # A path begins with a slash (RFC 9112, section 3.2); no app could say what another one means.
    return None if request.target.lower().startswith((b"/", b"http://", b"https://", b"*")) else 400


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


class Heard(asyncio.StreamReaderProtocol):
    """Tells when the client is gone, before the socket is closed and its descriptor given to another."""

    def __init__(self, reader: asyncio.StreamReader, lost: Callable[[], None]) -> None:
        super().__init__(reader)
        self._tell = lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell()
        super().connection_lost(exc)


class Connection(TCPServer):
    """One accepted socket; implements Wire, and puts itself where the app finds it: in a copy of the lifespan state.

    `patience_s`: how long a request may take to come in. `data`: what has come in. `gone` is called when the
    connection is lost.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        *,
        transport: asyncio.Transport,
        data: bytes,
        patience_s: float,
        sockets: Sockets,
        gone: Callable[[asyncio.Transport], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        heard = Heard(reader, self._lost)
        transport.set_protocol(heard)
        heard.connection_made(transport)
        reader.feed_data(data)
        self.transport = transport
        self.heard_at = loop.time()
        self.owner: Owner | None = None
        self.one_way = False
        self._patience_s = patience_s
        self._sockets = sockets
        self._gone = gone
        self._late: asyncio.TimerHandle | None = None
        writer = asyncio.StreamWriter(transport, heard, reader, loop)
        super().__init__(app, loop, config, context, state, reader, writer)

    async def run(self) -> None:
        accepted = self.writer.get_extra_info("socket")
        try:
            client = parse_socket_addr(accepted.family, accepted.getpeername())
            server = parse_socket_addr(accepted.family, accepted.getsockname())
            state = ConnectionState({**self.state, STATE_KEY: self})
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
        self.transport.abort()

    def _lost(self) -> None:
        if self.owner is not None:
            self.owner.lost()
        self._gone(self.transport)

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated) and event.idle and self.reader.at_eof():
            return
        if self.owner is not None:
            self.owner.preceded()
        roomy = not self.transport.is_closing() and self.transport.get_write_buffer_size() < MAX_UNSENT
        if roomy and isinstance(event, RawData) and len(event.data) <= MAX_UNAWAITED:
            # A pong, most often: to wait until the client takes it would end the reading, and with it a cancel.
            self.writer.write(event.data)
        else:
            await super().protocol_send(event)

    def pipelined(self) -> bool:
        http1 = cast("Http1", self.protocol.protocol)
        return bool(http1.connection.trailing_data[0])

    def at_end(self) -> bool:
        return self.reader.at_eof()

    async def drain(self) -> None:
        await self.writer.drain()

    async def _read_data(self) -> None:
        try:
            while data := await self.reader.read(MAX_READ):
                self.heard_at = self.loop.time()
                if self.one_way:
                    self.transport.abort()
                    break
                await self.protocol.handle(RawData(data))
                self._time_request()
        except OSError:
            pass  # the client went away
        if self.owner is not None:
            self.owner.lost()
        await self.protocol.handle(Closed())
        # Nobody will ask again: the wait for a next request would keep the socket for the whole of it.
        await self.idle_task.stop()
