"""An unfinished run in this process: its folded state, and the one way to write into its stream.

Rule 1: the state is fed by the log's own echo of durable events, so it never knows more than a restart would.
Rule 2: the echo is folded many events at a time, or when somebody asks. What was folded is kept for whoever joins.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import TypeAdapter

from gateway.broker import Broker, NewRun, Producer, Snapshot
from gateway.errors import Conflict, Invalid, Problem, Unavailable
from gateway.hub import Pasts
from gateway.runs.asides import Gate, Questions
from gateway.runs.counts import Counts
from gateway.runs.limits import Limits
from gateway.runs.viewers import Viewers
from gateway.wire import events, json
from gateway.wire.cursor import Cursor
from gateway.wire.events import Draft, Event
from gateway.wire.fold import fold
from gateway.wire.state import State
from gateway.wire.status import TERMINAL_TYPES

IN_A_TURN = 8  # what a pipeline may say before others have theirs
MAX_AHEAD = 64  # how far it may be ahead of the log before it has to wait
FOLD_EVENTS = 32  # what may wait to be folded: all of it is held in memory
FOLD_BYTES = 16 * 1024


class Stop:
    """Why a run is being stopped: cancelled by someone, or failed by the gateway itself (`code`, `message`).

    `grace_s`: what its pipeline gets to stop by itself (default: the setting).
    """

    def __init__(
        self, *, by: str = "", reason: str = "", code: str = "", message: str = "", grace_s: float | None = None
    ) -> None:
        self.by = by
        self.reason = reason
        self.code = code
        self.message = message
        self.grace_s = grace_s


class ActiveRun:
    """`began_ms`: when the run was made, in Unix milliseconds."""

    def __init__(
        self,
        broker: Broker,
        run: NewRun,
        *,
        began_ms: int,
        limits: Limits,
        now: Callable[[], float],
        counts: Counts,
        pasts: Pasts,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.record = run
        self.id = run.id
        self.tail = 0
        self.ended: asyncio.Future[None] = loop.create_future()
        self.stop: asyncio.Future[Stop] = loop.create_future()
        self.cancel_asked = False
        self.ending = False
        self.cancelling_at: float | None = None
        self.published_at = loop.time()
        self._broker = broker
        self._now = now
        self._limits = limits
        self._counts = counts
        self.viewers = Viewers()
        self.usage: dict[str, Any] | None = None
        self.gate = Gate()
        self.questions = Questions()
        self._progress: float = 0
        self._began_ms = began_ms
        self._pasts = pasts
        self._state = State()
        self._early: list[Event] | None = []
        self._unfolded: list[Event] = []
        self._unfolded_bytes = 0

    def observe(self, seen: Sequence[Event]) -> None:
        """The broker's sink: these events are durable."""
        if self._early is not None:
            self._early += seen
            return
        last = seen[-1]
        self.tail = last.offset
        self._counts.events += len(seen)
        self._unfolded += seen
        for event in seen:
            self._unfolded_bytes += len(event.json)
        ended = last.type in TERMINAL_TYPES
        if ended or len(self._unfolded) >= FOLD_EVENTS or self._unfolded_bytes >= FOLD_BYTES:
            self._fold()
        if ended and not self.ended.done():
            self.ended.set_result(None)

    def take_over(self, state: State, tail: int) -> None:
        """Go on from what the log held; what came in meanwhile is added to it."""
        self._state, self.tail, self._progress = state, tail, state.progress
        early, self._early = self._early, None
        if early:
            self.observe(early)

    @property
    def state(self) -> State:
        """What all events up to `tail` say."""
        if self._unfolded:
            self._fold()
        return self._state

    def _fold(self) -> None:
        seen, self._unfolded, self._unfolded_bytes = self._unfolded, [], 0
        folded = fold(seen, max_bytes=self._limits.max_event_bytes)
        for event in folded:
            self._state.apply(event)
        self._progress = max(self._progress, self._state.progress)
        self._pasts.grow(self.id, folded, first=seen[0].offset, max_bytes=self._limits.max_event_bytes)

    def draft(self, type: str, fields: dict[str, Any]) -> Draft:
        """A work event, checked. Progress that falls back is raised to the run's last. Raises Invalid."""
        if type in ("progress", "draft"):
            said = fields.get("progress")
            if isinstance(said, int | float) and not isinstance(said, bool) and said < self._progress:
                fields = {**fields, "progress": self._progress}
        made = events.work(type, fields, max_bytes=self._limits.max_event_bytes)
        if type in ("progress", "draft"):
            self._progress = max(self._progress, fields.get("progress") or 0)
        elif type == "llm.completed":
            self._spend(fields)
        return made

    def _spend(self, call: dict[str, Any]) -> None:
        """A terminal event tells what all calls to models took together."""
        spent = self.usage or {"input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}
        self.usage = {
            "input_tokens": spent["input_tokens"] + call["usage"]["input_tokens"],
            "output_tokens": spent["output_tokens"] + call["usage"]["output_tokens"],
            "cost_usd": spent["cost_usd"] + call["cost_usd"],
        }

    async def publish(self, said: Sequence[tuple[str, dict[str, Any]]], *, producer: Producer | None) -> Cursor:
        """Append work events, all or nothing. Raises Invalid, Conflict."""
        before = self._progress, self.usage
        try:
            drafts = [self.draft(type, fields) for type, fields in said]
            self.published_at = asyncio.get_running_loop().time()
            return await self.append(*drafts, producer=producer)
        except (Invalid, Conflict):
            self._progress, self.usage = before  # what was refused counts for nothing
            raise

    async def stopped_or_ended(self, *, timeout_s: float | None = None) -> None:
        """Return when the run is to stop, has ended, or the time is up. Raises Unavailable: it never will."""
        lost = asyncio.ensure_future(self._broker.lost())
        try:
            changes: set[asyncio.Future[Any]] = {self.stop, self.ended, lost}
            await asyncio.wait(changes, timeout=timeout_s, return_when="FIRST_COMPLETED")
            if lost.done() and not (self.stop.done() or self.ended.done()):
                raise Unavailable("broker.unavailable")
        finally:
            lost.cancel()

    async def append(self, *drafts: Draft, producer: Producer | None = None) -> Cursor:
        return await self._broker.append(self.id, drafts, producer=producer)

    def append_nowait(self, draft: Draft) -> int:
        """How many events are ahead of what is durable now, with this one."""
        return self._broker.append_nowait(self.id, draft) - self.tail

    async def durable(self) -> None:
        await self._broker.durable()

    def completed(self, result: Any) -> Draft:
        """Raises TooLarge."""
        return events.lifecycle("run.completed", result=result, duration_ms=self.duration_ms(), usage=self.usage)

    def failed(self, code: str, message: str, *, retryable: bool, **more: Any) -> Draft:
        error = {"code": code, "message": message[:2000], "retryable": retryable, **more}
        return events.lifecycle("run.failed", error=error, duration_ms=self.duration_ms(), usage=self.usage)

    def cancelled(self, stop: Stop, *, forced: bool) -> Draft:
        return events.lifecycle(
            "run.cancelled",
            by=stop.by,
            reason=stop.reason,
            forced=forced,
            duration_ms=self.duration_ms(),
            usage=self.usage,
        )

    def duration_ms(self) -> int:
        """Since the run was made, by the wall clock: it may have outlived a restart."""
        return max(0, round(self._now() * 1000) - self._began_ms)

    async def end(self, terminal: Draft, *, producer: Producer | None = None) -> Cursor | None:
        """Write the terminal event and keep the folded state beside the log.

        None when the event cannot follow: the run has ended, or is being cancelled. Raises Conflict (`producer.*`;
        `key.conflict`: under this number something else was said, and the reply to that is no end).
        """
        # As soon as the event has its place, not when it is durable; a second end does not undo the first.
        before, self.ending = self.ending, True
        try:
            cursor = await self.append(terminal, producer=producer)
        except Conflict as conflict:
            self.ending = before
            if conflict.code != "run.finished":
                raise
            return None
        if not self.ended.done() and cursor.offset <= self.tail:
            self.ending = before
            raise Conflict("key.conflict", "this number of the producer's had a request that ended nothing")
        await self.ended
        await self.forget(
            max_events=self._limits.max_events_per_run,
            max_bytes=self._limits.max_bytes_per_run,
            past=self._pasts.dump(self.id),
        )
        return cursor

    async def forget(self, *, max_events: int, max_bytes: int, past: bytes = b"") -> None:
        """Store the folded state, and let go of the oldest events beyond these caps."""
        snapshot = Snapshot(self.tail, json.dumps(self.state.summary()), self.state.dump(), past)
        await self._broker.keep(self.id, snapshot, max_events=max_events, max_bytes=max_bytes)


class RunSink:
    """The gateway's side of `pipeline.Context`: what a pipeline says goes into the run's stream."""

    def __init__(self, run: ActiveRun) -> None:
        self._run = run
        self._said = 0
        self._pausing = asyncio.Lock()

    async def emit(self, type: str, fields: dict[str, Any]) -> None:
        try:
            draft = self._run.draft(type, fields)
        except Problem as problem:
            raise ValueError(problem.detail) from None
        ahead = self._write(draft)
        self._said += 1
        if ahead >= MAX_AHEAD:
            await self._run.durable()
        elif self._said % IN_A_TURN == 0:
            await asyncio.sleep(0)

    def _write(self, draft: Draft) -> int:
        """An event has its place at once; how far the log is behind it."""
        try:
            return self._run.append_nowait(draft)
        except Conflict:
            # The run ended without its pipeline; a straggler unwinds as if it were cancelled now.
            raise asyncio.CancelledError("the run has ended") from None

    async def checkpoint(self) -> None:
        if self._run.ended.done():
            raise asyncio.CancelledError("the run has ended")
        gate = self._run.gate
        if gate.asked_by is not None:
            # Tasks of one run come here side by side; it is paused, and told so, once for all of them.
            async with self._pausing:
                if gate.asked_by is not None:
                    self._write(events.lifecycle("run.paused", by=gate.asked_by))
                    await gate.passed()
                    self._write(events.lifecycle("run.resumed", by=gate.resumed_by))
        # A cancellation that is waiting is delivered here.
        await asyncio.sleep(0)

    async def ask(self, prompt: str, expected: TypeAdapter[Any]) -> Any:
        input_id = secrets.token_hex(8)
        answer = self._run.questions.ask(input_id, expected)
        try:
            asked = {"input_id": input_id, "prompt": prompt, "schema": expected.json_schema()}
            await self.emit("input.requested", asked)
            return await answer
        finally:
            self._run.questions.withdraw(input_id)
