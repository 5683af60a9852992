"""Joins of a finished run by SSE, with cursors, filters and dialects of all kinds, held against PROTOCOL 3 and 5."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import json
from gateway.wire.control import CONTROL
from gateway.wire.events import LIFECYCLE, WORK
from tests.e2e.process import GatewayProcess, bearer
from tests.fuzz.drawn import drawn

TYPES = ["x.a", "x.b", "progress", "delta", "run.completed", "hello", "x.none"]
NAMED = {*TYPES, *WORK, *LIFECYCLE, *CONTROL}
DIALECTS = ["native", "content", "workflow", "plain"]
REPLAYS = ["full", "folded", "none"]
_CURSOR = re.compile(r"([a-z0-9]{1,13})-([1-9][0-9]{0,14})", re.ASCII)
_FRAME = re.compile(r"(?:(?:id|event|data|retry): [^\r\n\0]*\n|: [^\r\n\0]*\n)+\n")


@dataclass
class Joins:
    statuses: Counter[int] = field(default_factory=Counter)
    resumed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.statuses.total()} joins, {len(self.wrong)} wrong; {dict(self.statuses)}, {dict(self.resumed)}"


def joins(gateway: GatewayProcess, run: str, log: list[dict[str, Any]], *, seed: int, count: int) -> Joins:
    """`log`: all events of `run`, which has ended."""
    found = Joins()
    epoch = log[0]["id"].partition("-")[0]
    near = [each["id"] for each in log] + [f"{epoch}-{len(log) + 1}", f"{epoch}-0", f"{epoch}-01", f"z{epoch}-1"]
    cursors = st.sampled_from(
        [
            *near,
            near[len(log) - 1],
            near[len(log) - 1],
            "0",
            "",
            f"{epoch.upper()}-1",
            f" {near[0]}",
            f"{near[0]}~{near[0]}",
        ]
    ) | st.text(max_size=30)
    # A header holds no control characters; what else is no text of a cursor is for the gateway to see.
    headed = cursors.filter(lambda text: text.isprintable() and text.isascii() and text == text.strip())
    listed = st.lists(st.sampled_from(TYPES), max_size=3).map(",".join)
    query = st.fixed_dictionaries(
        {},
        optional={
            "after": cursors,
            "replay": st.sampled_from([*REPLAYS * 4, "all", "", "FULL"]),
            "types": listed | listed | listed | st.text(max_size=20),
            "dialect": st.sampled_from([*DIALECTS * 4, "", "Native", "html"]),
        },
    )
    with httpx.Client(base_url=gateway.url, headers=bearer("joiner", ttl_s=36_000), timeout=60) as client:

        @drawn(seed, count)
        @given(
            asked=query, last=st.none() | headed, accept=st.sampled_from(["text/event-stream", "TEXT/Event-Stream;q=1"])
        )
        def each(asked: dict[str, str], last: str | None, accept: str) -> None:
            headers = {"Accept": accept, **({} if last is None else {"Last-Event-ID": last})}
            answer = client.get(f"/runs/{run}/events", params=asked, headers=headers)
            found.statuses[answer.status_code] += 1
            told = _judge(answer, asked, last, log, found)
            if told:
                found.wrong.append(f"{told}: {asked} {last!r}: {answer.status_code} {answer.text[:1500]}")

        each()
    return found


def _judge(
    answer: httpx.Response, asked: dict[str, str], last: str | None, log: list[dict[str, Any]], found: Joins
) -> str:
    """What is wrong with an answer, if anything."""
    resume, start = _verdict(last or asked.get("after") or "0", log)
    status = 422 if _refused(asked) else 204 if resume == "resumed" and start == len(log) else 200
    if answer.status_code != status:
        return f"not {status}"
    if status != 200:
        return ""
    found.resumed[resume] += 1
    if not re.fullmatch(rf"(?:{_FRAME.pattern})*", answer.text):
        return "not frames"
    if f'"resume":"{resume}"' not in answer.text:
        return f"not {resume}"
    return _wrong_events(answer.text, asked, start, log)


def _refused(asked: dict[str, str]) -> bool:
    types = asked.get("types", "").split(",")
    # What is drawn at random may be a type of the protocol's.
    known = all(not each or each in NAMED or re.fullmatch(r"x\.[a-z0-9_.-]{1,64}", each) for each in types)
    return not known or asked.get("dialect", "native") not in DIALECTS or asked.get("replay", "full") not in REPLAYS


def _verdict(after: str, log: list[dict[str, Any]]) -> tuple[str, int]:
    """`resume`, and the offset that is had."""
    if after == "0":
        return "start", 0
    match = _CURSOR.fullmatch(after)
    if match and match[1] == log[0]["id"].partition("-")[0] and int(match[2]) <= len(log):
        return "resumed", int(match[2])
    return "gap", 0


def _wrong_events(text: str, asked: dict[str, str], start: int, log: list[dict[str, Any]]) -> str:
    ids = re.findall(r"^id: (.*)$", text, re.MULTILINE)
    offsets = [int(each.partition("-")[2]) for each in ids]
    if offsets != sorted(set(offsets)) or any(each <= start for each in offsets):
        return "ids that do not rise"
    if asked.get("dialect", "native") != "native":
        return ""
    types = [each for each in asked["types"].split(",") if each] if "types" in asked else None
    wanted = [each for each in log[start:] if types is None or each["type"] in (*types, *LIFECYCLE)]
    events = [json.loads(each) for each in re.findall(r"^id: .*\nevent: .*\ndata: (.*)$", text, re.MULTILINE)]
    if asked.get("replay") == "full" and events != wanted:
        return "not the events after the cursor"
    return "" if set(ids) <= {each["id"] for each in wanted} else "other events"
