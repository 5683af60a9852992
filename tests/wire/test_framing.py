"""Frames: the bytes of events on each transport, read back by parsers of another hand."""

import json

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from gateway.wire import control, websocket
from gateway.wire.framing import SSE, SSE_CHUNKED, WEBSOCKET
from tests.wire.doubles import BOUNDED, FEW, RUN, sealed, streams
from tests.wire.sse_parser import parse

SIZES = [0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537, 200_000]


def dechunk(data: bytes) -> bytes:
    """The body of a chunked response, as h11 reads it; the response is not over afterwards."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    assert isinstance(client.next_event(), h11.Response)
    body = b""
    while (event := client.next_event()) is not h11.NEED_DATA:
        assert isinstance(event, h11.Data)
        body += event.data
    return body


def ws_texts(data: bytes) -> list[str]:
    """Text messages as wsproto's client side reads them."""
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(data)
    texts, open_ = [], ""
    for frame in protocol.received_frames():
        assert frame.opcode is Opcode.TEXT
        open_ += frame.payload
        if frame.message_finished:
            texts, open_ = [*texts, open_], ""
    assert open_ == ""
    return texts


@given(streams)
@BOUNDED
def test_any_stream_as_sse_is_read_back_by_a_strict_parser(stream):
    parsed = parse(SSE.events(stream))
    assert [message.event for message in parsed.messages] == [event.type for event in stream]
    assert [message.last_event_id for message in parsed.messages] == [event.id for event in stream]
    assert [message.data.encode() for message in parsed.messages] == [event.json for event in stream]
    assert (parsed.comments, parsed.retries, parsed.rest) == ([], [], "")


def test_an_event_as_sse_has_exactly_the_form_of_the_protocol():
    event = sealed(17, "run.started", {})
    assert SSE.events([event]) == b"id: k3f-17\nevent: run.started\ndata: " + event.json + b"\n\n"


def test_a_control_frame_as_sse_has_no_id_and_says_when_to_come_back():
    assert SSE.control(control.heartbeat(5)) == b'event: heartbeat\ndata: {"type":"heartbeat","ts":5}\n\n'
    leaving = SSE.control(control.reconnect(after_ms=700, reason="server.draining"))
    assert leaving.startswith(b"retry: 700\nevent: reconnect\n")
    hello = parse(SSE.control(control.hello(connection="c", heartbeat_ms=15000, retry_ms=900, resume="start")))
    assert hello.retries == [900]
    assert json.loads(hello.messages[0].data)["resume"] == "start"


def test_a_control_frame_leaves_the_last_event_id_as_it_was():
    wire = SSE.events([sealed(3, "run.started", {})]) + SSE.control(control.heartbeat(1))
    assert [message.last_event_id for message in parse(wire).messages] == ["k3f-3", "k3f-3"]


@given(streams)
@FEW
def test_chunks_hold_the_same_bytes_and_never_end_the_response(stream):
    assert dechunk(SSE_CHUNKED.events(stream)) == SSE.events(stream)


def test_nothing_to_say_is_no_chunk():
    assert SSE_CHUNKED.events([]) == b""
    assert SSE.events([]) == b""
    assert WEBSOCKET.events([]) == b""


def test_a_control_frame_is_one_chunk():
    frame = control.gap(run=RUN, after="k3f-1", first="k3f-9")
    assert dechunk(SSE_CHUNKED.control(frame)) == SSE.control(frame)


@given(streams)
@FEW
def test_each_event_is_one_websocket_message(stream):
    frames = WEBSOCKET.events(stream)
    assert [text.encode() for text in ws_texts(frames)] == [event.json for event in stream]
    assert list(websocket.payloads(frames)) == [event.json.decode() for event in stream]


@pytest.mark.parametrize("size", SIZES)
def test_a_websocket_frame_of_any_size_is_read_back(size):
    payload = b"a" * size
    frame = websocket.text(payload)
    assert ws_texts(frame) == [payload.decode()]
    assert list(websocket.payloads(frame * 2)) == [payload.decode()] * 2


@given(st.lists(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(SIZES).map("é".__mul__))))
@FEW
def test_frames_one_after_the_other_come_apart_again(texts):
    frames = b"".join(websocket.text(text.encode()) for text in texts)
    assert list(websocket.payloads(frames)) == texts
    assert ws_texts(frames) == texts


def test_the_same_json_goes_out_on_every_transport():
    event = sealed(2, "delta", {"block": "b", "delta": "ä\n\u2028"})
    by_sse = parse(SSE.events([event])).messages[0].data
    assert by_sse == ws_texts(WEBSOCKET.events([event]))[0]
    assert by_sse.encode() == event.json
