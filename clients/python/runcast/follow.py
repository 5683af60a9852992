"""Follow one run to its end: the policy's hands and feet (PROTOCOL sections 3 and 9).

Rule 1: the policy decides, this file does: opens, waits, keeps the timers and the cursor. It holds no run state.
Rule 2: each event is given once and in order, whatever broke in between; after a gap it starts over, and says so.
Rule 3: at most one connection is open. A reader who is slow stops it from being read; the gateway then holds the rest.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import ValidationError

from runcast import events
from runcast.api import Api
from runcast.cursor import follows, parse
from runcast.errors import Refused, RuncastError, Unreachable, refused
from runcast.policy import (
    OPEN_TIMEOUT_MS,
    TRANSPORTS,
    Action,
    Chance,
    Connect,
    Hello,
    Outcome,
    Polled,
    Reason,
    Reconnect,
    Refresh,
    Seen,
    State,
    Status,
    Stop,
    Transport,
    decide,
    initial,
)
from runcast.transports import OPEN, Broken, Command, Frame, Target

Replay = Literal["folded", "full", "none"]

POLL_WAIT_S = 25
MOST_WAITING = 128  # events that were read and not yet taken


class Connection(NamedTuple):
    """How it stands with a connection. `retry_in_ms` while retrying; `reason` once it is over."""

    status: Status
    transport: Transport
    retry_in_ms: int | None = None
    reason: Reason | None = None


OnConnection = Callable[[Connection], None]


@dataclass(slots=True)
class Memory:
    """What worked, for the next time."""

    worked: Transport | None = None
    fell_back_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """What of a run is wanted, and how. `after`: the cursor to join from (None: the start)."""

    run: str
    after: str | None = None
    replay: Replay = "folded"
    types: tuple[str, ...] | None = None
    transports: Sequence[Transport] = TRANSPORTS
    max_retries: int


class _Cut(Exception):
    """The connection is over, by what it said itself."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


class Following:
    """`drive` runs in a task of its own and `taken` gives what it found; `command` reaches the gateway meanwhile."""

    def __init__(self, api: Api, join: Join, *, memory: Memory, on_connection: OnConnection | None = None) -> None:
        self.join = join
        self._api = api
        self._memory = memory
        self._on_connection = on_connection
        self._cursor = join.after
        self._policy: State = initial(
            transports=join.transports,
            worked=memory.worked,
            fell_back_at=memory.fell_back_at,
            max_retries=join.max_retries,
        )
        self._token: str | None = None
        self._problem: RuncastError | None = None  # the last that was told
        self._command: Command | None = None
        self._commanding = 0
        self._renewal: asyncio.Task[None] | None = None
        self._events: deque[events.Event] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._over: Reason | BaseException | None = None
        self._greeted = False
        self._stale = False  # the token was refused, and there is no other yet
        self._replay = join.replay
        self._watchdog: asyncio.Timeout  # of the connection that is open

    async def taken(self) -> AsyncGenerator[events.Event]:
        """The events, to the run's end. Raises Refused, Unreachable."""
        while True:
            while self._events:
                yield self._events.popleft()
                if len(self._events) <= MOST_WAITING // 2:
                    self._room.set()
            if self._over is not None:
                break
            self._arrived.clear()
            await self._arrived.wait()
        if isinstance(self._over, BaseException):
            raise self._over
        if (error := self._failure(self._over)) is not None:
            raise error

    async def command(self, command: Frame) -> Frame | None:
        """Send it over the WebSocket in use; the reply, None when there is none."""
        if self._command is None:
            return None
        self._commanding += 1
        self._room.set()  # the reply lies behind events that nobody may be taking
        try:
            return await self._command(command)
        finally:
            self._commanding -= 1

    async def drive(self) -> None:
        """Return when there is nothing more to come."""
        try:
            self.end(await self._follow())
        except BaseException as error:
            self.end("aborted" if isinstance(error, asyncio.CancelledError) else error)
            raise

    async def _follow(self) -> Reason:
        action = self._decide(Seen.BEGIN)
        while isinstance(action, Connect):
            if action.delay_ms > 0:
                self._report(retry_in_ms=action.delay_ms)
                await asyncio.sleep(action.delay_ms / 1000)
            self._decide(Seen.ATTEMPT)
            self._report()
            action = self._decide(await self._attempt(action))
        return action.reason if isinstance(action, Stop) else "aborted"

    def end(self, over: Reason | BaseException = "aborted") -> None:
        """Tell whoever takes that nothing more comes. Idempotent."""
        if self._over is not None:
            return
        self._over = over
        self._arrived.set()
        if not isinstance(over, str) or over == "aborted":
            self._decide(Seen.ABORTED)
        self._report(reason=over if isinstance(over, str) else "aborted")

    def _failure(self, reason: Reason) -> RuncastError | None:
        told = self._problem
        match reason:
            case "terminal":
                return None
            case "aborted":
                return RuncastError("the client was closed")
            case "exhausted":
                tries = self._policy.max_retries
                error = Unreachable(
                    f"{self._api.url}: gave up after {tries} failures in a row" + (f": {told}" if told else "")
                )
                error.__cause__ = told
                return error
            case _ if isinstance(told, Refused):
                return told
        return refused({"code": reason, "title": f"the gateway ended it: {reason}"}, status=0)

    def _decide(self, outcome: Outcome) -> Action:
        chance = Chance(now=time.time() * 1000, random=random.random())  # noqa: S311 - no secret
        self._policy, action = decide(self._policy, outcome, chance)
        if self._policy.worked is not None:  # nobody forgets for the others
            self._memory.worked, self._memory.fell_back_at = self._policy.worked, self._policy.fell_back_at
        return action

    def _report(self, *, retry_in_ms: int | None = None, reason: Reason | None = None) -> None:
        if self._on_connection is not None:
            self._on_connection(Connection(self._policy.status, self._policy.transport, retry_in_ms, reason))

    async def _attempt(self, action: Connect) -> Outcome:
        """One connection from opening to end."""
        self._stale = self._stale or action.refresh
        try:
            self._token = await self._api.credentials.get(instead_of=self._token if self._stale else None)
        except Unreachable as error:
            self._problem = error
            return Seen.UNREACHABLE
        self._stale = False
        if self._replay == "none" and self._cursor is None and action.transport != "poll":
            # From here on the log is followed: without a cursor, what is said amid a reconnect would be lost.
            outcome = await self._opened("poll", wait_s=0)
            if not isinstance(outcome, Polled):
                return outcome
        # The first long-poll asks for what there is, so that its answer shows soon that polling works.
        polls = action.transport == "poll" and self._policy.status == "connected"
        return await self._opened(action.transport, wait_s=POLL_WAIT_S if polls else 0)

    async def _opened(self, transport: Transport, *, wait_s: float) -> Outcome:
        target = Target(
            url=self._api.url,
            run=self.join.run,
            after=self._cursor,
            replay=self._replay,
            types=self.join.types,
            token=self._token,
            wait_s=wait_s,
            http=self._api.http,
            deliver=self._deliver,
            alive=self._alive,
            commands=self._use_commands,
        )
        self._greeted = False
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_MS / 1000 + wait_s) as self._watchdog:
                return await OPEN[transport](target)
        except TimeoutError:
            return Seen.LOST if self._greeted else Seen.OPEN_TIMEOUT
        except _Cut as cut:
            return cut.outcome
        except Broken:
            return Seen.LOST
        finally:
            self._problem = target.problem or self._problem
            if self._renewal is not None:
                self._renewal.cancel()
                self._renewal = None

    def _use_commands(self, command: Command | None) -> None:
        self._command = command

    async def _deliver(self, frame: Frame) -> None:
        """Take a frame; wait while the reader is behind. Raises _Cut, Broken."""
        try:
            self._take(frame)
        except (KeyError, TypeError, ValidationError):
            raise Broken from None
        if frame["type"] == "hello":
            self._report()
        if len(self._events) >= MOST_WAITING and not self._commanding:
            self._watchdog.reschedule(None)  # it is not the gateway that is silent
            self._room.clear()
            await self._room.wait()
        self._alive()

    def _alive(self) -> None:
        """Something came. A long-poll's answer has no hello, and comes in many pieces where the way is slow."""
        silence_s = (self._policy.silence_ms if self._greeted else OPEN_TIMEOUT_MS) / 1000
        self._watchdog.reschedule(asyncio.get_running_loop().time() + silence_s)

    def _take(self, frame: Frame) -> None:  # noqa: C901 - one case for each frame
        match frame["type"]:
            case "hello":
                self._greeted = True
                self._decide(Hello(retry_ms=frame["retry_ms"], heartbeat_ms=frame["heartbeat_ms"]))
            case "gap":
                self._cursor = None
                if self._replay == "none":
                    self._replay = "folded"  # what comes behind the gap is wanted, if the connection breaks now too
                self._put(events.parse(frame))
            case "cursor":
                if parse(frame["cursor"]) is not None:
                    self._cursor = frame["cursor"]
                if frame.get("done"):
                    raise _Cut(Seen.TERMINAL)
            case "reconnect":
                self._decide(Reconnect(frame["after_ms"]))
            case "auth.expiring":
                refresh = isinstance(self._decide(Seen.EXPIRING), Refresh) and self._api.credentials.renewable
                if refresh and self._command is not None:
                    self._renewal = asyncio.create_task(self._renew(self._command))
            case "reply" if not frame.get("ok"):
                pass  # a refusal earns nothing: no fresh count of failures, no further token
            case _:
                self._decide(Seen.FRAME)
                if "id" in frame:
                    self._event(events.parse(frame))

    def _event(self, event: events.Event) -> None:
        if event.run != self.join.run or not follows(self._cursor, event.id):
            return
        self._cursor = event.id
        self._put(event)
        if event.terminal:
            raise _Cut(Seen.TERMINAL)

    def _put(self, event: events.Event) -> None:
        self._events.append(event)
        self._arrived.set()

    async def _renew(self, command: Command) -> None:
        """Give the WebSocket a fresh token; other connections end with the old one and come back with a new one."""
        # What fails here is tried again by the policy, when the connection ends with its token.
        with contextlib.suppress(Exception):
            fresh = await self._api.credentials.get(instead_of=self._token)
            reply = await command({"type": "authenticate", "token": fresh})
            if reply is not None and reply.get("ok"):
                self._token = fresh
                self._decide(Seen.RENEWED)
