"""A client that follows several runs over one SSE response, by their cursors joined (PROTOCOL section 5)."""

import asyncio
import random
from collections.abc import Sequence

from tests.e2e.clients import TERMINAL
from tests.faults.follower import DEAD_AFTER
from tests.faults.links import Broken, Link, Refused, sse_frames


class SeveralFollower:
    """`events` by run. `wrong`: what must never happen, in words."""

    def __init__(self, port: int, runs: Sequence[str], rng: random.Random, *, replay: str) -> None:
        self.events: dict[str, list[dict]] = {run: [] for run in runs}
        self.wrong: list[str] = []
        self.connects = 0
        self.cursor = ""
        self._port = port
        self._rng = rng
        self._replay = replay
        self._finished: set[str] = set()

    async def follow(self) -> None:
        """Return when every run has ended and the gateway has said so."""
        done = False
        while not done:
            self.connects += 1
            try:
                async with Link(self._port) as link:
                    done = await self._listen(link)
            except (Broken, OSError, TimeoutError):
                await asyncio.sleep(self._rng.uniform(0, 0.02))

    async def _listen(self, link: Link) -> bool:
        headers = {"Last_Event_ID": self.cursor} if self.cursor else {}
        query = {"run": list(self.events), "replay": self._replay}
        status, head = await link.get("/events", query, Accept="text/event-stream", **headers)
        if status == 204:
            if len(self._finished) < len(self.events):
                self.wrong.append(f"204 at {self.cursor}")
            return True
        if status != 200:
            raise Refused(status)
        async for id, frame in sse_frames(link, head):
            if "id" in frame:
                self._event(id, frame)
            elif frame["type"] == "hello":
                link.patience_s = DEAD_AFTER * frame["heartbeat_ms"] / 1000
                if self.cursor and set(frame["resume"].values()) - {"resumed", "start"}:
                    self.wrong.append(f"{frame['resume']} with {self.cursor}")
            elif frame["type"] == "gap":
                self.wrong.append(f"a gap: {frame}")
        return len(self._finished) == len(self.events)

    def _event(self, id: str, event: dict) -> None:
        before = self.events[event["run"]]
        last = int(before[-1]["id"].partition("-")[2]) if before else 0
        offset = int(event["id"].partition("-")[2])
        if offset <= last or (self._replay == "full" and offset != last + 1):
            self.wrong.append(f"{event['id']} after {last} of {event['run']}")
        before.append(event)
        self.cursor = id
        expected = "~".join(events[-1]["id"] if events else "0" for events in self.events.values())
        if id != expected:
            self.wrong.append(f"the cursor {id} is not {expected}")
        if event["type"] in TERMINAL:
            self._finished.add(event["run"])
