"""Sessions of a WebSocket at random: commands that are right, nearly right and none, broken frames, bare bytes."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway import errors
from tests.e2e.process import GatewayProcess
from tests.fuzz.drawn import drawn
from tests.fuzz.frames import BINARY, CLOSE, PING, PONG, TEXT, RawSocket, close, fragmented, frame

NOBODY = "00000000-0000-7000-8000-000000000000"
ENDS = frozenset({1000, 1001, 1002, 1007, 1009, 4000, 4001, 4003, 4108})

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
_texts = st.text(max_size=70) | st.sampled_from([NOBODY, "", "0", "k3f-1", "full", "none", "words", "external", "x.a"])


def _fields(runs: list[str]) -> dict[str, st.SearchStrategy[Any]]:
    """What a command's fields may be; half of it right."""
    wrong = _json | _texts
    return {
        "type": st.sampled_from(
            [
                "subscribe",
                "unsubscribe",
                "start",
                "cancel",
                "pause",
                "resume",
                "input",
                "ping",
                "authenticate",
                "nothing",
            ]
        ),
        "ref": _texts | wrong,
        "run": st.sampled_from([*runs, NOBODY]) | wrong,
        "after": st.sampled_from(["0", "", "k3f-1", "zzz-9"]) | wrong,
        "replay": st.sampled_from(["full", "folded", "none"]) | wrong,
        "types": st.lists(st.sampled_from(["delta", "progress", "x.a"]), max_size=3) | wrong,
        "pipeline": st.sampled_from(["words", "external", "nothing"]),
        "input": st.just({"count": 1}) | wrong,
        "options": st.just({"timeout_s": 5}) | wrong,
        "key": _texts | wrong,
        "reason": _texts | wrong,
        "input_id": _texts | wrong,
        "value": wrong,
        "token": _texts | wrong,
    }


def _right(runs: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    run = st.sampled_from(runs)
    replay = st.sampled_from(["full", "folded", "none"])
    return st.one_of(
        st.fixed_dictionaries({"type": st.just("ping")}, optional={"ref": st.text(max_size=64)}),
        st.fixed_dictionaries({"type": st.just("subscribe"), "run": run}, optional={"replay": replay}),
        st.fixed_dictionaries({"type": st.just("unsubscribe"), "run": run}),
        st.just({"type": "start", "pipeline": "words", "input": {"count": 1}}),
        st.fixed_dictionaries({"type": st.sampled_from(["pause", "resume"]), "run": run}),
    )


def _whole(runs: list[str]) -> st.SearchStrategy[bytes]:
    """One message or control frame."""
    fields = _fields(runs)
    command = st.fixed_dictionaries({"type": fields.pop("type")}, optional=fields)
    said = st.one_of(_right(runs), _right(runs), command, _json).map(lambda value: json.dumps(value).encode())
    texts = st.text(max_size=200).map(str.encode)
    return st.one_of(
        said.map(lambda payload: frame(TEXT, payload)),
        st.builds(lambda payload, cut: fragmented(payload, min(cut, len(payload))), said | texts, st.integers(0, 99)),
        texts.map(lambda payload: frame(TEXT, payload)),
        st.builds(frame, st.sampled_from([PING, PONG, BINARY]), st.binary(max_size=125)),
    )


def _broken() -> st.SearchStrategy[bytes]:
    """Frames that are none, that lie about their length, closes of all kinds, bare bytes."""
    return st.one_of(
        st.builds(
            frame, st.integers(0, 15), st.binary(max_size=200), fin=st.booleans(), rsv=st.integers(0, 7) | st.just(0),
            mask=st.booleans() | st.just(True), size=st.just(None), told=st.none() | st.integers(0, 125),
        ),
        st.builds(
            lambda told, size: frame(TEXT, b"x", size=size, told=told), st.integers(0, 65_535), st.sampled_from([2, 8])
        ),
        st.builds(close, st.integers(0, 65_535), st.binary(max_size=123)),
        st.just(frame(CLOSE, b"\x00")),
        st.binary(max_size=60),
    )  # fmt: skip


@dataclass
class Sessions:
    """What sessions came to: their replies' codes ("ok" among them), their close codes; `wrong`: what must not be."""

    count: int = 0
    frames: int = 0
    replies: Counter[str] = field(default_factory=Counter)
    closes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = f"replies {dict(self.replies)}, closed {dict(self.closes.most_common(8))}"
        return f"{self.count} sockets, {self.frames} pieces, {len(self.wrong)} wrong; {told}"


def sessions(gateway: GatewayProcess, runs: list[str], *, seed: int, count: int) -> Sessions:
    found = Sessions()
    good, bad = _whole(runs), _broken()
    strategy = st.tuples(st.lists(good, max_size=12), st.none() | st.lists(bad | good, min_size=1, max_size=6))
    with asyncio.Runner() as runner:

        @drawn(seed, count)
        @given(said=strategy)
        def each(said: tuple[list[bytes], list[bytes] | None]) -> None:
            runner.run(_session(gateway, *said, found))

        each()
    return found


async def _session(gateway: GatewayProcess, good: list[bytes], bad: list[bytes] | None, found: Sessions) -> None:
    """`bad` comes after `good`, in the same segment: after a frame that is none the server stops to read."""
    found.count += 1
    found.frames += len(good) + len(bad or ())
    try:
        async with RawSocket(gateway) as ws:
            if bad is None:
                ws.write(b"".join((*good, frame(PING, b"end"))))
                heard = await ws.heard(1 + sum(each[0] == 0x80 | PING for each in good), close(1000))
            else:
                ws.write(b"".join((*good, *bad, close(1000))))
                ws.write_eof()  # what lies about its length would wait for the rest
                heard = await ws.heard()
    except (AssertionError, TimeoutError, ValueError) as error:
        found.wrong.append(f"{error!r} after {good} {bad}")
        return
    found.replies.update(heard.refused)
    found.replies["ok"] += len(heard.refs)
    found.closes[str(heard.closed)] += 1
    if "internal" in heard.refused or not set(heard.refused) <= errors.STATUSES.keys():
        found.wrong.append(f"replied {heard.refused} to {good} {bad}")
    if bad is None and heard.closed not in ENDS:
        found.wrong.append(f"closed {heard.closed} after {good}")
