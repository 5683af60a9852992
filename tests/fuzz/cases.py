"""What a WebSocket server must make of frames: a table after RFC 6455, by the sections of its framing and its closes.

Each case sends its bytes; where they leave the connection open, the client's own close (1000) follows and is returned.
"""

from typing import Any, NamedTuple

from tests.fuzz.frames import BINARY, CLOSE, CONTINUES, PING, PONG, TEXT, close, fragmented, frame, ping_command, told

MAX_MESSAGE = 1 << 20
GOOD, BAD, NOT_TEXT, TOO_BIG = 1000, 1002, 1007, 1009


class Case(NamedTuple):
    """`refs`: the commands that are replied to; `refused`: codes of the other replies; `closed`: the server's code.

    `first` is sent before, and its reply waited for. `ends`: a close is among what is sent.
    """

    sent: bytes
    closed: int | None = GOOD
    refs: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    pongs: tuple[bytes, ...] = ()
    first: bytes = b""
    ends: bool = False


CASES: dict[str, Case] = {}


def case(name: str, sent: bytes, closed: int | None = GOOD, **expected: Any) -> None:
    assert name not in CASES, name
    CASES[name] = Case(sent, closed, **expected)


def padded(size: int) -> bytes:
    return ping_command("padded").ljust(size)


# 1 Framing: lengths in all their spellings (section 5.2)
for size in (0, 1, 30, 31, 32):
    text = "é" * size
    case(f"1 text of {size} characters", told(text), refs=(text,))
for size in (125, 126, 127, 128, 65_535, 65_536, 65_537, 300_000, MAX_MESSAGE):
    case(f"1 text of {size} bytes", frame(TEXT, padded(size)), refs=("padded",))
case("1 length in two bytes that one would tell", frame(TEXT, ping_command("x"), size=2), BAD)
case("1 length in eight bytes that one would tell", frame(TEXT, ping_command("x"), size=8), BAD)
case("1 length in eight bytes that two would tell", frame(TEXT, padded(300), size=8), BAD)
case("1 length with its highest bit set", frame(TEXT, b"", size=8, told=1 << 63), BAD)
case("1 length of all ones", frame(TEXT, b"", size=8, told=(1 << 64) - 1), BAD)
for size in (0, 1, 125, 126, 65_536):
    case(f"1 binary of {size} bytes", frame(BINARY, b"\xfe" * size), refused=("frame.invalid",))
case("1 empty text", frame(TEXT), refused=("frame.invalid",))
case("1 text over the limit", frame(TEXT, padded(MAX_MESSAGE + 1)), TOO_BIG)
case("1 text over the limit in fragments", fragmented(padded(MAX_MESSAGE + 1), 7, 70_000), TOO_BIG)
case("1 binary over the limit", frame(BINARY, bytes(MAX_MESSAGE + 1)), TOO_BIG)
case("1 not masked", frame(TEXT, ping_command("x"), mask=False), BAD)
case("1 ping not masked", frame(PING, b"x", mask=False), BAD)
case("1 close not masked", frame(CLOSE, b"\x03\xe8", mask=False), BAD)
case("1 a hundred messages", b"".join(told(str(n)) for n in range(100)), refs=tuple(str(n) for n in range(100)))

# 2 Pings and pongs (sections 5.5.2, 5.5.3)
for payload in (b"", b"hello", b"\x00\xff\xfe\xfd", b"\xfe" * 125):
    case(f"2 ping of {payload[:4]!r} and {len(payload)} bytes", frame(PING, payload), pongs=(payload,))
case("2 ping of 126 bytes", frame(PING, b"x" * 126), BAD)
case("2 ping of 1000 bytes", frame(PING, b"x" * 1000), BAD)
case("2 pong of 126 bytes", frame(PONG, b"x" * 126), BAD)
case("2 pong that nobody asked for", frame(PONG))
case("2 pong with a payload that nobody asked for", frame(PONG, b"unasked"))
case("2 pong that nobody asked for, and a ping", frame(PONG, b"a") + frame(PING, b"b"), pongs=(b"b",))
many = tuple(b"%d" % n for n in range(50))
case("2 fifty pings", b"".join(frame(PING, each) for each in many), pongs=many)
case("2 ping in fragments", frame(PING, b"a", fin=False) + frame(CONTINUES, b"b"), BAD)
case("2 pong in fragments", frame(PONG, b"a", fin=False) + frame(CONTINUES, b"b"), BAD)
case("2 ping and text", frame(PING, b"p") + told("t"), refs=("t",), pongs=(b"p",))

# 3 Reserved bits (section 5.2): no extension is ever agreed on
for rsv in range(1, 8):
    case(f"3 text with reserved bits {rsv}", frame(TEXT, ping_command("x"), rsv=rsv), BAD)
    case(f"3 ping with reserved bits {rsv}", frame(PING, b"x", rsv=rsv), BAD)
case("3 close with a reserved bit", frame(CLOSE, b"\x03\xe8", rsv=4), BAD)
case("3 binary with a reserved bit", frame(BINARY, b"x", rsv=4), BAD)
case("3 a continuation with a reserved bit", frame(TEXT, b"{", fin=False) + frame(CONTINUES, b"}", rsv=4), BAD)
case("3 good text, then a reserved bit", frame(TEXT, b"x", rsv=4), BAD, first=told("before"), refs=("before",))

# 4 Opcodes (section 5.2)
for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
    case(f"4 opcode {opcode}", frame(opcode), BAD)
    case(f"4 opcode {opcode} with a payload", frame(opcode, b"x"), BAD)
case("4 good text, then an opcode that is none", frame(3), BAD, first=told("before"), refs=("before",))

# 5 Fragmentation (section 5.4)
whole = ping_command("whole")
case("5 text in two", fragmented(whole, 5), refs=("whole",))
case("5 text in single bytes", fragmented(whole, *range(1, len(whole))), refs=("whole",))
case("5 text in two with an empty fragment between", fragmented(whole, 5, 5), refs=("whole",))
case("5 text whose first and last fragments are empty", fragmented(whole, 0, len(whole)), refs=("whole",))
case("5 text of empty fragments", fragmented(b"", 0, 0), refused=("frame.invalid",))
case(
    "5 text in two with a ping between", fragmented(whole, 5, between=frame(PING, b"p")), refs=("whole",), pongs=(b"p",)
)
case("5 text in two with a pong between", fragmented(whole, 5, between=frame(PONG, b"p")), refs=("whole",))
case(
    "5 text in ten with pings between", fragmented(whole, *range(1, 10), between=frame(PING, b"p")),
    refs=("whole",), pongs=(b"p",) * 9,
)  # fmt: skip
case("5 binary in two", frame(BINARY, b"a", fin=False) + frame(CONTINUES, b"b"), refused=("frame.invalid",))
case("5 a continuation of nothing", frame(CONTINUES, b"x"), BAD)
case("5 an open continuation of nothing", frame(CONTINUES, b"x", fin=False), BAD)
case("5 an empty continuation of nothing", frame(CONTINUES), BAD)
case("5 a continuation after a whole message", frame(CONTINUES, b"x"), BAD, first=told("before"), refs=("before",))
case("5 text within a text", frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), BAD)
case("5 binary within a text", frame(TEXT, b"{", fin=False) + frame(BINARY, b"}"), BAD)
case("5 text within a binary", frame(BINARY, b"{", fin=False) + frame(TEXT, b"}", fin=False), BAD)
case("5 a close within a text", frame(TEXT, b"{", fin=False) + close(1000), ends=True)
case("5 a close in fragments", frame(CLOSE, b"\x03", fin=False) + frame(CONTINUES, b"\xe8"), BAD)
case("5 two messages in two each", fragmented(whole, 3) + fragmented(whole, 9), refs=("whole", "whole"))

# 6 UTF-8 (section 8.1), and that it fails before the message is whole
for name, text in {
    "two bytes": "é", "three bytes": "κόσμε", "four bytes": "😀", "the first of three": "\u0800",
    "last before surrogates": "\ud7ff", "first after surrogates": "\ue000", "replacement": "\ufffd",
    "no character": "\ufffe\uffff", "the first of four": "\U00010000", "the last of all": "\U0010ffff",
    "line separators": "\u2028\u2029\x85", "combined": "e\u0301", "right to left": "\u202eabc", "delete": "\x7f",
}.items():  # fmt: skip
    case(f"6 {name}", told(text), refs=(text,))
    data = ping_command(text)
    place = data.index(text.encode()) + 1
    case(f"6 {name}, cut within", fragmented(data, place), refs=(text,))
for name, bad in {
    "a lone continuation": b"\x80", "continuations alone": b"\x80\xbf\x80", "a lone first byte": b"\xc3 ",
    "two bytes too long": b"\xc0\xaf", "three bytes too long": b"\xe0\x80\xaf",
    "four bytes too long": b"\xf0\x80\x80\xaf",
    "a null too long": b"\xc0\x80", "a high surrogate": b"\xed\xa0\x80", "a low surrogate": b"\xed\xbf\xbf",
    "a pair of surrogates": b"\xed\xa1\x8c\xed\xbe\xb4", "above the last": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "six bytes": b"\xfc\x84\x80\x80\x80\x80", "fe": b"\xfe", "ff": b"\xff", "latin-1": "é".encode("latin-1") + b"x",
    "utf-16": "\ufeffa".encode("utf-16-le"),
}.items():  # fmt: skip
    case(f"6 {name}", frame(TEXT, b'{"type":"ping","ref":"' + bad + b'"}'), NOT_TEXT)
    case(f"6 {name}, and the message is not whole", frame(TEXT, b"{" + bad, fin=False), NOT_TEXT)
case("6 good text, cut off within a character", frame(TEXT, b'"\xc3'), NOT_TEXT)
case(
    "6 cut off within a character by the last fragment",
    frame(TEXT, b'"', fin=False) + frame(CONTINUES, b"\xe2\x82"),
    NOT_TEXT,
)
case("6 wrong in the second fragment", frame(TEXT, b'"', fin=False) + frame(CONTINUES, b"\xff", fin=False), NOT_TEXT)
case("6 wrong in a frame that is not whole", frame(TEXT, b"\xff" + bytes(10), told=500), NOT_TEXT)
case("6 not UTF-8 in a binary", frame(BINARY, b"\xff\xfe"), refused=("frame.invalid",))
case("6 not UTF-8 in a ping", frame(PING, b"\xff\xfe"), pongs=(b"\xff\xfe",))

# 7 Closes (sections 5.5.1, 7.4)
case("7 close without a code", close(), None, ends=True)
for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999):
    case(f"7 close {code}", close(code), code, ends=True)
for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535):
    case(f"7 close {code} that nobody may send", close(code), BAD, ends=True)
case("7 close with half a code", frame(CLOSE, b"\x03"), BAD, ends=True)
case("7 close with a reason", close(1000, b"goodbye"), GOOD, ends=True)
case("7 close with the longest reason", close(1000, b"x" * 123), GOOD, ends=True)
case("7 close with a reason too long", close(1000, b"x" * 124), BAD, ends=True)
case("7 close with a reason that is not UTF-8", close(1000, b"\xff"), NOT_TEXT, ends=True)
case("7 close with a reason cut within a character", close(1000, "é".encode()[:1]), NOT_TEXT, ends=True)
case("7 two closes", close(1001) + close(1000), 1001, ends=True)
case("7 text after a close", close(1000) + told("late"), GOOD, ends=True)
case("7 a ping after a close", close(1000) + frame(PING, b"late"), GOOD, ends=True)
case("7 nonsense after a close", close(1000) + b"\xff" * 100, GOOD, ends=True)
case("7 a frame that is none after a close", close(4321) + frame(3), 4321, ends=True)
