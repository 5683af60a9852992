"""The client's parser of event streams, against a strict one and over any cut."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from runcast.sse import Message, SseParser
from tests.wire.doubles import BOUNDED
from tests.wire.sse_parser import parse

LINES = st.one_of(
    st.just(""),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(("data", "event", "id", "retry", "")),
        st.sampled_from((":", ": ", ":  ")),
        st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=8),
    ),
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from(("\n", "\r", "\r\n"))), max_size=12).map(
    lambda lines: "".join(line + ending for line, ending in lines if not line.startswith("retry") or line[6:].isdigit())
)


def cut(data: bytes, places) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@given(STREAMS, st.lists(st.integers(0, 1000), max_size=6), st.booleans())
@BOUNDED
def test_any_stream_in_any_pieces_gives_the_messages_of_the_whole(stream, places, marked):
    data = (b"\xef\xbb\xbf" if marked else b"") + stream.encode()
    # The strict one refuses fields that it does not know; the client must pass them by.
    expected = parse(data) if all(_known(line) for line in _lines(stream)) else None
    parser, whole = SseParser(), SseParser()
    found = [message for piece in cut(data, places) for message in parser.feed(piece)]
    assert found == whole.feed(data)
    if expected is not None:
        assert found == [Message(*message) for message in expected.messages]
        if expected.retries and len(str(expected.retries[-1])) < 15:
            assert parser.retry == expected.retries[-1]


def _lines(stream: str) -> list[str]:
    return stream.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _known(line: str) -> bool:
    name, _, value = line.partition(":")
    value = value.removeprefix(" ")
    return not (name == "id" and "\0" in value) and not (name == "retry" and not (value.isascii() and value.isdigit()))


def test_a_comment_is_no_message_also_after_an_id():
    """httpx-sse gives an empty event here, which is why there is a parser of our own."""
    parser = SseParser()
    assert parser.feed(b"id: a-1\ndata: {}\n\n: still here\n\n: and here\n\n") == [Message("message", "{}", "a-1")]


def test_a_message_comes_with_its_blank_line_and_not_before():
    parser = SseParser()
    assert parser.feed(b"data: one\r") == []
    assert parser.feed(b"\r") == [Message("message", "one", "")]
    assert parser.feed(b"\n\ndata: two") == []
    assert parser.feed(b"\n") == []


def test_what_waits_for_its_end_is_counted():
    """So that whoever feeds it can stop a stream whose message never ends."""
    parser = SseParser()
    for _ in range(3):
        parser.feed(b"data: 1234\n")
    assert parser.pending == 30
    parser.feed(b"\n: " + b"x" * 100)
    assert parser.pending == 102
    parser.feed(b"\n\n")
    assert parser.pending == 0


def test_bytes_that_are_no_text_end_nothing():
    parser = SseParser()
    assert parser.feed(b"data: \xff\xfe\n\n") == [Message("message", "\ufffd\ufffd", "")]
