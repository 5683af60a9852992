"""A client's frames mean the same in whatever pieces they come, and are held against RFC 6455 without a server."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import websocket
from gateway.wire.frames import Closing, FrameReader, Passed, Ping
from tests.fuzz.cases import CASES, MAX_MESSAGE
from tests.fuzz.frames import BINARY, CONTINUES, PING, PONG, TEXT, close, frame

MAX = 50


def said(*pieces: bytes, room: int = MAX_MESSAGE) -> list:
    """What a reader makes of these pieces."""
    reader, found = FrameReader(room), []
    for piece in pieces:
        reader.feed(piece)
        while (item := reader.next()) is not None:
            if not isinstance(item, Passed):
                found.append(item)
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, *(place for place in places if place < len(data)), len(data)})
    return [data[one:two] for one, two in pairwise(ends)]


@pytest.mark.parametrize("name", CASES)
def test_a_case_comes_out_as_it_should(name):
    case = CASES[name]
    found = said(case.first + case.sent)
    assert tuple(item.payload for item in found if isinstance(item, Ping)) == case.pongs
    messages = [item for item in found if isinstance(item, (str, bytes))]
    if case.closed == 1009 and not case.ends:
        assert len(messages[0]) > MAX_MESSAGE
    else:
        assert tuple(json.loads(text)["ref"] for text in messages[: len(case.refs)]) == case.refs
        assert len(messages) == len(case.refs) + len(case.refused)
    closing = [item for item in found if isinstance(item, Closing)]
    if case.ends or case.closed in (1002, 1007):
        assert [item.code for item in closing] == [case.closed]
        assert closing == found[-1:]
    else:
        assert closing == []


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case.sent) < 2000])
def test_pieces_of_one_byte_mean_what_the_whole_means(name):
    data = CASES[name].first + CASES[name].sent
    assert said(*cut(data, list(range(len(data))))) == said(data)


good = st.one_of(
    st.builds(lambda text: frame(TEXT, text.encode()), st.text(max_size=80)),
    st.builds(lambda data: frame(BINARY, data), st.binary(max_size=300)),
    st.builds(
        lambda text, at, between: frame(TEXT, text[:at], fin=False) + between + frame(CONTINUES, text[at:]),
        st.text(max_size=80).map(str.encode), st.integers(0, 80),
        st.sampled_from([b"", frame(PING, b"x"), frame(PONG)]),
    ),
    st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125)),
)  # fmt: skip
bad = st.one_of(
    st.builds(frame, st.integers(0, 15), st.binary(max_size=130), fin=st.booleans(), rsv=st.integers(0, 7)),
    st.builds(close, st.none() | st.integers(0, 65_535)),
    st.binary(max_size=20),
)


@given(st.lists(good, max_size=5), st.lists(bad, max_size=2), st.lists(st.integers(0, 1000), max_size=20))
def test_any_pieces_mean_what_the_whole_means(frames, more, places):
    data = b"".join((*frames, *more))
    assert said(*cut(data, places)) == said(data)


@given(st.text(max_size=120).map(str.encode), st.lists(st.integers(0, 480), max_size=8), st.data())
def test_a_message_that_is_too_long_comes_out_too_long_and_any_other_whole(text, places, data):
    parts = cut(text, places) or [b""]
    sent = b"".join(
        frame(CONTINUES if number else TEXT, part, fin=number == len(parts) - 1) for number, part in enumerate(parts)
    )
    (found,) = said(*cut(sent, data.draw(st.lists(st.integers(0, len(sent)), max_size=8))), room=MAX)
    assert text.startswith(found.encode())
    assert found.encode() == text if len(text) <= MAX else len(found.encode()) > MAX


def test_of_what_is_too_long_hardly_more_is_kept_than_a_message_may_have():
    reader = FrameReader(MAX)
    reader.feed(frame(TEXT, b"x", fin=False))
    while reader.next():
        pass
    for _ in range(10_000):
        reader.feed(frame(CONTINUES, b"x" * 20, fin=False))
        while reader.next():
            pass
    assert len(reader._message.buffer.getvalue()) <= MAX + 40
    assert reader._data == b""


def test_behind_the_end_nothing_is_read_or_kept():
    reader = FrameReader(MAX)
    reader.feed(close(1000) + frame(TEXT, b"late"))
    assert reader.next() == Closing(b"\x03\xe8")
    reader.feed(b"x" * 100_000)
    assert reader.next() is None
    assert reader._data == b""


def test_the_end_says_whether_it_is_the_client_s_or_ours():
    assert said(close(3000, b"bye")) == [Closing(b"\x0b\xb8bye")]
    assert said(close()) == [Closing(b"")]
    assert said(b"\xff\xff") == [Closing(b"\x03\xea", broken=True)]
    assert (Closing(b"").code, Closing(b"\x0b\xb8bye").code) == (None, 3000)


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_server_s_frame_says_its_length_as_short_as_can_be(size):
    head = websocket.frame(BINARY, bytes(size))[: -size or None]
    assert head[0] == 0x82
    assert head[1:] == (
        bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 65_536 else b"\x7f" + size.to_bytes(8)
    )


@pytest.mark.parametrize(
    "reason, told", [("", b""), ("a", b"a"), ("é" * 70, "é".encode() * 61), ("x" * 200, b"x" * 123)]
)
def test_a_reason_is_cut_at_a_character(reason, told):
    assert websocket.close(1000, reason) == bytes((0x88, 2 + len(told))) + b"\x03\xe8" + told
