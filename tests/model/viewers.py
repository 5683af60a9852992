"""Who watches a run: comes, takes at a pace of its own, leaves, and comes back with its cursor until the run has ended.

Law: every event once and in order, from the run's first on, but for what a `gap` tells of; and a `gap` only where
events were let go of. A stream ends behind the run's terminal event, unless the run was erased under it.
"""

import asyncio
from contextlib import suppress
from typing import Any

from gateway.broker import Run
from gateway.hub import Join
from gateway.wire.codes import Close
from gateway.wire.cursor import parse
from gateway.wire.framing import WEBSOCKET
from gateway.wire.state import State
from gateway.wire.status import TERMINAL_TYPES
from tests.hub.doubles import LIMITS, NEVER, Recorder, frames_of
from tests.model.world import Unanswered, World

STEP_S = 0.01
AWAY_S = 0.05


def offset_of(cursor: str) -> int:
    parsed = parse(cursor)
    assert parsed is not None, cursor
    return parsed.offset


async def watches(world: World, viewers: list["Viewer"]) -> None:
    """One run after the other. `viewers` gets whoever watched, for the verdict."""
    while not world.closing.is_set() and not world.faults:
        await world.nap()
        with suppress(Unanswered):
            viewer = Viewer(world, (await world.some_run()).id)
            viewers.append(viewer)
            await viewer.watches()
        await asyncio.sleep(STEP_S)


class Viewer:
    """Of one run. `heard`: what came of it, by offset; folded, an event stands for those before it, too.

    `gaps`: the offsets of which it was told that they are gone, first and last.
    """

    def __init__(self, world: World, run: str) -> None:
        self.run = run
        self.replay = world.rng.choice(("full", "folded"))
        self.heard: dict[int, dict[str, Any]] = {}
        self.gaps: list[tuple[int, int]] = []
        self.over = False
        self.state = State()
        self._world = world
        self._cursor: str | None = None
        self._last = 0

    def __str__(self) -> str:
        return f"{self.replay} viewer of {self.run} at {self._cursor}"

    async def watches(self) -> None:
        """To the run's end, or until it is erased."""
        with suppress(Unanswered):
            while not (self.over or self._world.faults):
                await self._visit(await self._world.find(self.run))
                await self._world.nap(AWAY_S)

    async def _visit(self, run: Run) -> None:
        """One connection, from its first frame to its last."""
        self._last = offset_of(self._cursor) if self._cursor else 0  # of a gap alone nothing is kept
        hub, transport = self._world.hub, Recorder(limit=LIMITS.max_buffer_bytes)
        connection = hub.open(transport, WEBSOCKET, subject="alice", expires_at=NEVER, sole=True)
        ended = False
        subscribing = hub.subscribe(connection, run, Join(after=self._cursor, replay=self.replay))
        try:
            subscription = await self._world.call("subscribe", subscribing, run=self.run, stays=0.95)
            if self._world.rng.random() < 0.3:
                await self._world.nap()
            subscription.start()
            ended = await self._take(transport)
        except Unanswered as unanswered:
            if unanswered.code:
                raise
        finally:
            if not ended:
                transport.abort()  # the client is gone, and with it what it had not taken
            hub.forget(connection)
        for frame in frames_of(_received(transport)):
            self._hear(frame)
        if connection.close not in (None, Close.NORMAL):
            self._fault(f"was closed with {connection.close!r}")
        if ended and not (self.over or self._world.told[self.run].erasing):
            self._fault("saw the stream end without its end")

    async def _take(self, transport: Recorder) -> bool:
        """Until the stream ends (True), or this viewer has had enough of it."""
        rng, closing = self._world.rng, self._world.closing
        leaves = rng.random() < 0.5
        while (not transport.finished.is_set() or transport.stalled) and not self._world.faults:
            drawn = rng.random()
            if closing.is_set() or 0.15 <= drawn < 0.5:
                transport.drain()
            elif drawn < 0.15:
                transport.stalled = True
            elif drawn < 0.7:
                transport.take(rng.randint(1, 3000))
            if leaves and not closing.is_set() and rng.random() < 0.1:
                return False
            await asyncio.sleep(rng.random() * STEP_S)
        return transport.finished.is_set() and not transport.stalled

    def _hear(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "gap":
            self._hear_gap(frame)
            return
        if "id" not in frame:
            self._fault(f"got {frame}")
            return
        offset = offset_of(frame["id"])
        if offset <= self._last or (self.replay == "full" and offset != self._last + 1):
            self._fault(f"got {offset} after {self._last}")
        self.heard[offset] = frame
        self.state.apply_fields(frame["type"], frame)
        self._last, self._cursor = offset, frame["id"]
        self.over = self.over or frame["type"] in TERMINAL_TYPES
        self._world.heard += 1

    def _hear_gap(self, frame: dict[str, Any]) -> None:
        first = offset_of(frame["from"])
        if first <= self._last + 1:
            self._fault(f"was told of a gap where none is: {frame} after {self._last}")
        if not (self._world.conditions.trim or self._world.told[self.run].erasing):
            self._fault(f"was told of a gap without reason: {frame}")
        self.gaps.append((self._last + 1, first - 1))
        self._last = first - 1
        self._world.gaps += 1

    def _fault(self, what: str) -> None:
        self._world.fault(f"{self} {what}")


def _received(transport: Recorder) -> bytes:
    """What the client has taken; the last piece is lost with the connection if it has only a part of it."""
    taken, whole = len(transport.data) - transport.unsent(), b""
    for piece in transport.writes:
        if len(whole) + len(piece) > taken:
            break
        whole += piece
    return whole
