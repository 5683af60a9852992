"""A client that keeps its cursor: follows one run over any transport, whatever breaks (PROTOCOL sections 3 and 9).

Rule 1: it forgives nothing that it could. A server that sends an offset at or below the cursor it was given, leaves
one out, or changes the epoch without a gap is counted, even where rule 5 of section 9 would hide it.
"""

import asyncio
import contextlib
import hashlib
import json
import random
from collections.abc import Sequence

from tests.e2e.clients import TERMINAL
from tests.faults.links import WAYS, Broken, Join, Link, Refused

RETRYABLE = (429, 502, 503, 1006, 1011, 4100, 4101, 4103, 4108)
DEAD_AFTER = 2.5  # heartbeats


class Folded:
    """A run's state as a client builds it, for comparison with `GET /runs/{id}`."""

    def __init__(self) -> None:
        self.fields: dict = {"status": "queued", "stage": None, "message": None, "progress": 0}
        self.fields |= {"blocks": {}, "drafts": {}, "result": None, "error": None}

    def apply(self, event: dict) -> None:
        fields, type = self.fields, event["type"]
        if type == "delta":
            fields["blocks"][event["block"]] = fields["blocks"].get(event["block"], "") + event["delta"]
        elif type in ("progress", "draft"):
            fields |= {name: event[name] for name in ("stage", "message", "progress") if name in event}
            if type == "draft":
                fields["drafts"][event["stage"]] = event["draft"]
        elif type == "stage.started":
            fields["stage"] = event["stage"]
        elif type in ("run.started", "run.cancelling", *TERMINAL):
            status = type.removeprefix("run.")
            fields["status"] = "running" if status == "started" else status
            fields |= {name: event[name] for name in ("result", "error") if type in TERMINAL and name in event}

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.fields, sort_keys=True).encode()).hexdigest()


class Follower:
    """`transports`: it takes one of them at random on each connect. `port` may be changed while it runs.

    `trimmed`: the run's oldest events may be gone, so that without a cursor it need not begin with the first.
    `marks`: the digest of the state it had at each cursor where a connection broke. `wrong`: what must never happen.
    """

    def __init__(
        self,
        port: int,
        run: str,
        rng: random.Random,
        *,
        replay: str = "full",
        transports: Sequence[str] = ("sse", "websocket", "poll"),
        retry_s: float = 0.02,
        trimmed: bool = False,
    ) -> None:
        self.trimmed = trimmed
        self.port = port
        self.run = run
        self.replay = replay
        self.events: list[dict] = []
        self.state = Folded()
        self.cursor = ""
        self.marks: dict[int, str] = {}
        self.wrong: list[str] = []
        self.gaps: list[dict] = []
        self.sent_away: list[dict] = []
        self.connects = 0
        self.ended = False
        self.refused: Refused | None = None
        self._rng = rng
        self._transports = transports
        self._retry_s = retry_s

    @property
    def offset(self) -> int:
        return int(self.cursor.partition("-")[2] or 0)

    async def follow(self) -> None:
        """Return after the terminal event, or a refusal that is for good."""
        while not self.ended and self.refused is None:
            way = self._rng.choice(self._transports)
            self.connects += 1
            before = self.cursor
            try:
                async with Link(self.port) as link:
                    await self._listen(link, way)
            except (Broken, OSError, TimeoutError):
                pass
            except Refused as refusal:
                if refusal.code not in RETRYABLE:
                    self.refused = refusal
            if self.cursor != before:
                self.marks[self.offset] = self.state.digest()
            if not self.ended:
                await asyncio.sleep(self._rng.uniform(0, self._retry_s))

    async def _listen(self, link: Link, way: str) -> None:
        async with contextlib.aclosing(WAYS[way](link, Join(self.run, self.cursor, self.replay))) as frames:
            async for frame in frames:
                self._take(link, frame, way)
                if self.ended:
                    return
        if link.ended == "204":
            self._wrong(f"204 at {self.cursor}, but no terminal event was seen")
            self.ended = True
        elif isinstance(link.ended, int):
            raise Refused(link.ended)

    def _take(self, link: Link, frame: dict, way: str) -> None:
        type = frame["type"]
        if "id" in frame:
            self._event(frame, way)
        elif type == "hello":
            link.patience_s = DEAD_AFTER * frame["heartbeat_ms"] / 1000
            if frame.get("connection") != "refused":  # a refusal says nothing about the cursor
                self._resume(frame.get("resume"), way)
        elif type == "reply":
            self._resume(frame.get("resume"), way)
        elif type == "gap":
            self.gaps.append(frame)
            self.events.clear()
            self.state, self.cursor = Folded(), ""
            self.marks.clear()
        elif type == "reconnect":
            self.sent_away.append(frame)
        elif type == "polled" and frame["cursor"] != (self.cursor or "0"):
            self._wrong(f"{way}: told {frame['cursor']} after {self.cursor}")

    def _resume(self, verdict: str | None, way: str) -> None:
        if verdict not in (None, "gap", "resumed" if self.cursor else "start"):
            self._wrong(f"{way}: {verdict} with the cursor {self.cursor!r}")

    def _event(self, event: dict, way: str) -> None:
        epoch, _, offset = event["id"].partition("-")
        last_epoch, _, last = self.cursor.partition("-")
        if event["run"] != self.run:
            self._wrong(f"{way}: an event of {event['run']}")
        if self.cursor and epoch != last_epoch:
            self._wrong(f"{way}: epoch {epoch} after {self.cursor} without a gap")
        if int(offset) <= int(last or 0):
            self._wrong(f"{way}: {event['id']} repeated after {self.cursor}")
            return
        if (
            self.replay == "full"
            and int(offset) != int(last or 0) + 1
            and (self.cursor or not (self.gaps or self.trimmed))
        ):
            self._wrong(f"{way}: {event['id']} after {self.cursor}: events are missing")
        self.cursor = event["id"]
        self.events.append(event)
        self.state.apply(event)
        self.ended = event["type"] in TERMINAL

    def _wrong(self, what: str) -> None:
        self.wrong.append(f"{self.run} {self.replay}: {what}")
