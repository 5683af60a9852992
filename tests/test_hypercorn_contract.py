"""What `http1` and `server` stand on inside Hypercorn: when a release moves one of these, this says which."""

import asyncio
import inspect
from importlib.metadata import version

import h11
import pytest
from h11 import Request as H11Request
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import AsyncioSingleTask, EventWrapper, WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr
from wsproto.events import TextMessage

from gateway import http1, server
from tests.broker.doubles import in_loop

# What the subclasses add of their own.
OURS = ("pipelined", "at_end", "drain", "_lost", "_time_request", "_cut_late", "owes_request")


def parameters(function) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_release_is_the_one_that_this_was_written_for():
    assert version("hypercorn").startswith("0.18.")


@pytest.mark.parametrize(
    "function, names",
    [
        (TCPServer.__init__, ["app", "loop", "config", "context", "state", "reader", "writer"]),
        (ProtocolWrapper.__init__,
         ["app", "config", "context", "task_group", "state", "ssl", "client", "server", "send", "alpn_protocol"]),
        (H11Protocol.__init__,
         ["app", "config", "context", "task_group", "connection_state", "ssl", "client", "server", "send"]),
        (H11Protocol._check_protocol, ["event"]),
        (H11Protocol._create_stream, ["request"]),
        (H11Protocol._send_error_response, ["status_code"]),
        (TCPServer.protocol_send, ["event"]),
        (TCPServer._read_data, []),
        (TCPServer._idle_timeout, []),
        (TCPServer._close, []),
        (ProtocolWrapper.initiate, []),
        (ProtocolWrapper.handle, ["event"]),
        (Lifespan.__init__, ["app", "config", "loop", "lifespan_state"]),
        (Lifespan.handle_lifespan, []),
        (Lifespan.wait_for_startup, []),
        (Lifespan.wait_for_shutdown, []),
        (WorkerContext.__init__, ["max_requests"]),
        (EventWrapper.set, []),
        (TaskGroup.__init__, ["loop"]),
        (AsyncioSingleTask.restart, ["task_group", "action"]),
        (AsyncioSingleTask.stop, []),
        (WSStream.__init__,
         ["app", "config", "context", "task_group", "ssl", "client", "server", "send", "stream_id"]),
        (WSStream.handle, ["event"]),
        (WSStream.app_send, ["message"]),
        (WSStream._handle_events, []),
        (WSStream._send_wsproto_event, ["event"]),
        (WebsocketBuffer.__init__, ["max_length"]),
        (WebsocketBuffer.extend, ["event"]),
        (ASGIWrapper.__init__, ["app"]),
        (parse_socket_addr, ["family", "address"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)  # fmt: skip
def test_a_function_that_is_called_or_replaced_has_its_parameters(function, names):
    assert parameters(function) == names


@pytest.mark.parametrize(
    "function",
    [
        H11Protocol._check_protocol,
        H11Protocol._create_stream,
        H11Protocol._send_error_response,
        WSStream.handle,
        WSStream.app_send,
        WSStream._handle_events,
        WSStream._send_wsproto_event,
        TCPServer.run,
        TCPServer.protocol_send,
        TCPServer._read_data,
        TCPServer._idle_timeout,
        TCPServer._close,
        ProtocolWrapper.initiate,
        ProtocolWrapper.handle,
        Lifespan.handle_lifespan,
        Lifespan.wait_for_startup,
        Lifespan.wait_for_shutdown,
        EventWrapper.set,
        AsyncioSingleTask.restart,
        AsyncioSingleTask.stop,
    ],
    ids=lambda function: function.__qualname__,
)
def test_what_is_awaited_can_be(function):
    assert inspect.iscoroutinefunction(function)


def test_the_overridden_are_still_called_where_they_were():
    """An override that nobody calls any more would fail in silence."""
    handled = inspect.getsource(H11Protocol)
    assert "self._check_protocol(" in handled
    assert "self._create_stream(" in handled
    assert "self._handle_events(" in inspect.getsource(WSStream.handle)
    assert "self.app_send" in inspect.getsource(WSStream.handle)
    reading = inspect.getsource(WSStream._handle_events)
    for step in ("self.buffer.extend(", "self.app_put(", "self.buffer.clear(", "event.response(", "StreamClosed("):
        assert step in reading, step
    assert "self.protocol_send" in inspect.getsource(TCPServer)
    assert "__await__" in vars(TCPServer)
    for ours, theirs in [
        (http1.Http1, H11Protocol),
        (http1.Http1Wrapper, ProtocolWrapper),
        (http1.Connection, TCPServer),
        (http1.Frames, WSStream),
        (http1.Truncated, WebsocketBuffer),
    ]:
        for name in vars(ours):
            if not name.startswith("__") or name == "__init__":
                assert hasattr(theirs, name) or name in OURS, f"{theirs.__name__}.{name}"


def test_the_settings_that_are_made_exist_and_default_to_something_else_or_are_needed():
    config = Config()
    for name in ("keep_alive_timeout", "websocket_max_message_size", "include_server_header", "accesslog", "errorlog",
                 "h11_max_incomplete_size"):  # fmt: skip
        assert hasattr(config, name), name
    assert config.keep_alive_timeout < server.KEEP_ALIVE_S
    assert config.read_timeout is None


def test_a_connection_keeps_what_is_reached_into():
    in_loop(_connection())


async def _connection() -> None:
    loop = asyncio.get_running_loop()
    context = WorkerContext(None)
    assert isinstance(context.terminated, EventWrapper)
    connection = TCPServer(None, loop, Config(), context, {}, None, None)
    for name in ("app", "config", "context", "loop", "reader", "writer", "state", "idle_task"):
        assert hasattr(connection, name), name
    async with TaskGroup(loop) as group:
        state = ConnectionState({"a": 1})
        address = ("127.0.0.1", 1)
        wrapper = ProtocolWrapper(None, Config(), context, group, state, False, address, address, print, "http/1.1")
        for name in ("app", "config", "context", "task_group", "state", "ssl", "client", "server", "send"):
            assert hasattr(wrapper, name), name
        assert type(wrapper.protocol) is H11Protocol
        assert hasattr(wrapper.protocol, "config")
        assert hasattr(wrapper.protocol, "stream")
        assert (wrapper.protocol.keep_alive_requests, wrapper.protocol.connection.their_state) == (0, h11.IDLE)


def test_a_request_is_owed_from_its_first_byte_to_its_last_and_by_a_new_connection_at_once():
    class Probe(http1.Http1):
        def __init__(self) -> None:
            self.keep_alive_requests = 0
            self.connection = h11.Connection(h11.SERVER)

        def take(self, data: bytes) -> bool:
            self.connection.receive_data(data)
            while (event := self.connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                self.keep_alive_requests += isinstance(event, h11.Request)
            return self.owes_request()

    probe = Probe()
    assert probe.owes_request()
    assert probe.take(b"POST / HT")
    assert probe.take(b"TP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
    assert probe.take(b"{")
    assert not probe.take(b"}")
    probe.connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
    probe.connection.send(h11.EndOfMessage())
    probe.connection.start_next_cycle()
    assert not probe.owes_request()
    assert probe.take(b"G")
    probe.connection = H11WSConnection(probe.connection)
    assert not probe.owes_request()


def test_events_have_their_fields():
    assert RawData(b"x").data == b"x"
    assert Updated(idle=True).idle
    assert Closed() == Closed()


def test_a_websocket_message_that_is_too_long_raises_and_ours_keeps_what_it_has():
    theirs = WebsocketBuffer(10)
    with pytest.raises(FrameTooLargeError):
        theirs.extend(TextMessage("a" * 11, message_finished=True))
    ours = http1.Truncated(10)
    for _ in range(1000):
        ours.extend(TextMessage("a" * 8, message_finished=False))
    assert 10 < ours.length <= 24
    assert ours.max_length == 10


def test_ours_refuses_what_would_turn_into_another_protocol():
    in_loop(_other_protocols())


async def _other_protocols() -> None:
    answers = []

    class Probe(http1.Http1):
        def __init__(self) -> None:
            pass

        async def _send_error_response(self, status_code: int) -> None:
            answers.append(status_code)

    def request(method: bytes, **headers: bytes) -> H11Request:
        given = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
        return H11Request(method=method, target=b"/", headers=[(b"host", b"h"), *given])

    for method in (b"PRI", b"CONNECT"):
        with pytest.raises(ConnectionResetError):
            await Probe()._check_protocol(request(method))
    assert answers == [405, 405]
    upgrade = request(b"GET", connection=b"Upgrade, HTTP2-Settings", upgrade=b"h2c", http2_settings=b"AAMAAABk")
    await Probe()._check_protocol(upgrade)
    assert len(answers) == 2
