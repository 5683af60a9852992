"""What a client does next (PROTOCOL section 9): connect, wait, fall back, stop.

Rule 1: a pure function of (state, outcome, now, random). No clock, no dice, no I/O; `clients/conformance/policy.json`
holds it and the JavaScript client's to the same decisions.
Rule 2: an outcome says what was seen, never what to do about it. All that follows from it is decided here.
Rule 3: nothing loops without a bound or a delay: falling back ends at the last transport, a token is refreshed once
until a frame has come, and everything else counts as a failure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

Transport = Literal["sse", "websocket", "poll"]
Status = Literal["connecting", "connected", "retrying", "disconnected", "error"]
Reason = Literal["terminal", "aborted", "unauthorized", "forbidden", "not_found", "protocol", "exhausted"]

TRANSPORTS: tuple[Transport, ...] = ("sse", "websocket", "poll")
OPEN_TIMEOUT_MS = 5_000
MAX_DELAY_MS = 30_000
MAX_RETRIES = 10
RETRY_MS = 1_000
_PROBE_AFTER_MS = 600_000
_SILENT_HEARTBEATS = 2.5
_TRUST_FOR_FAILURES = 4
# 400 and 422: what was asked for is wrong in itself, on every way.
_FINAL: dict[int, Reason] = {204: "terminal", 400: "protocol", 403: "forbidden", 404: "not_found", 422: "protocol"}


class Seen(StrEnum):
    """The outcomes that are told by their name alone."""

    BEGIN = "begin"
    ATTEMPT = "attempt"  # a connection is now being opened
    FRAME = "frame"  # any but the hello, and a reply that refuses
    EXPIRING = "expiring"  # the token ends soon
    RENEWED = "renewed"  # the connection has a fresh token
    REFUSED = "refused"  # this transport cannot be had
    OPEN_TIMEOUT = "open_timeout"  # no hello in time
    UNREACHABLE = "unreachable"  # no answer at all, whatever the transport
    LOST = "lost"  # ended, or silent for too long
    TERMINAL = "terminal"  # the terminal event came
    ABORTED = "aborted"  # the caller has enough


@dataclass(frozen=True, slots=True)
class Hello:
    retry_ms: float
    heartbeat_ms: float


@dataclass(frozen=True, slots=True)
class Polled(Hello):
    """A long-poll was answered. `early`: empty, long before its time."""

    early: bool


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The server will end this connection, and asks to come back so long after."""

    after_ms: float


@dataclass(frozen=True, slots=True)
class Answered:
    """An HTTP status instead of a stream."""

    status: int
    retry_after_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """A WebSocket was closed with this code."""

    code: int


Outcome = Seen | Hello | Polled | Reconnect | Answered | Closed


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection after the delay, with a fresh token if `refresh`."""

    transport: Transport
    delay_ms: int
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class Refresh:
    """Fetch a fresh token and use it on the open connection if it can be."""


@dataclass(frozen=True, slots=True)
class Stop:
    reason: Reason


Action = Connect | Refresh | Stop | None


@dataclass(frozen=True, slots=True)
class State:
    """`worked`: the transport of the last hello. `fell_back_at`: when the first one was given up (Unix ms).

    `after_ms`: what the server's `reconnect` asked for. `refreshed`: a fresh token was fetched and no frame came since.
    """

    transports: tuple[Transport, ...]
    transport: Transport
    status: Status = "connecting"
    worked: Transport | None = None
    fell_back_at: float | None = None
    failures: int = 0
    max_retries: int = MAX_RETRIES
    retry_ms: float = RETRY_MS
    heartbeat_ms: float = 15_000
    after_ms: float | None = None
    refreshed: bool = False
    expiring: bool = False

    @property
    def silence_ms(self) -> float:
        """How long a connection may be silent before it is taken for dead."""
        return _SILENT_HEARTBEATS * self.heartbeat_ms


@dataclass(frozen=True, slots=True)
class Chance:
    """`now` in Unix ms, `random` in [0, 1)."""

    now: float
    random: float


Decision = tuple[State, Action]


def initial(
    *,
    transports: Sequence[Transport] = TRANSPORTS,
    worked: Transport | None = None,
    fell_back_at: float | None = None,
    max_retries: int = MAX_RETRIES,
) -> State:
    """The state before anything was tried; `worked` and `fell_back_at` are what is remembered of earlier times."""
    remembered = worked if worked in transports else None
    return State(
        transports=tuple(transports),
        transport=remembered or transports[0],
        worked=remembered,
        fell_back_at=fell_back_at if remembered else None,
        max_retries=max_retries,
    )


def backoff_ms(failures: int, *, retry_ms: float, random: float) -> float:
    """Full jitter after so many failures in a row before this one."""
    return float(random * min(MAX_DELAY_MS, retry_ms * 2**failures))


def decide(state: State, outcome: Outcome, chance: Chance) -> Decision:  # noqa: PLR0911 - one case for each outcome
    match outcome:
        case Seen():
            return _seen(state, outcome, chance)
        case Polled():
            polled = _alive(_greeted(state, outcome))
            return _connect(polled, chance, chance.random * polled.retry_ms if outcome.early else 0)
        case Hello():
            return _greeted(state, outcome), None
        case Reconnect():
            return replace(_alive(state), after_ms=outcome.after_ms), None
        case Answered():
            return _answered(state, outcome, chance)
        case Closed(4200):
            return _fresh_token(state, chance)
        case Closed(code):
            return _stop(state, "protocol") if 4000 <= code <= 4099 else _ended(state, chance)


def _seen(state: State, outcome: Seen, chance: Chance) -> Decision:  # noqa: C901, PLR0911 - one case for each outcome
    match outcome:
        case Seen.BEGIN:
            return _connect(state, chance, 0)
        case Seen.ATTEMPT:
            # Between two long-polls the client is as connected as it gets.
            return state if state.status == "connected" else replace(state, status="connecting"), None
        case Seen.FRAME:
            return _alive(state), None
        case Seen.EXPIRING:
            return replace(_alive(state), expiring=True), Refresh()
        case Seen.RENEWED:
            return replace(state, expiring=False), None
        case Seen.REFUSED | Seen.OPEN_TIMEOUT:
            return _fall_back(state, chance)
        case Seen.UNREACHABLE:
            return _fail(_elsewhere(state, chance), chance)
        case Seen.LOST:
            return _ended(state, chance)
        case Seen.TERMINAL:
            return _stop(state, "terminal")
        case Seen.ABORTED:
            return _stop(state, "aborted")


def _greeted(state: State, hello: Hello) -> State:
    return replace(
        state,
        retry_ms=hello.retry_ms,
        heartbeat_ms=hello.heartbeat_ms,
        after_ms=None,
        expiring=False,
        status="connected",
        worked=state.transport,
    )


def _alive(state: State) -> State:
    return replace(state, failures=0, refreshed=False) if state.failures or state.refreshed else state


def _answered(state: State, answer: Answered, chance: Chance) -> Decision:
    status = answer.status
    if status in _FINAL:
        return _stop(state, _FINAL[status])
    if status == 401:
        return _fresh_token(state, chance)
    if passing(status):
        return _fail(state, chance, answer.retry_after_ms)
    return _fall_back(state, chance)


def passing(status: int) -> bool:
    """Whether an HTTP status speaks of the server's moment, not of the request or the transport."""
    return status in (408, 429) or (status >= 500 and status != 501)


def _ended(state: State, chance: Chance) -> Decision:
    return _fresh_token(state, chance) if state.expiring else _fail(state, chance)


def _fresh_token(state: State, chance: Chance) -> Decision:
    if state.refreshed:
        return _stop(state, "unauthorized")
    fresh = replace(state, refreshed=True, expiring=False, status="connecting")
    return _connect(fresh, chance, state.after_ms or 0, refresh=True)


def _fall_back(state: State, chance: Chance) -> Decision:
    following = _after(state)
    if following is None:
        return _fail(replace(state, transport=state.transports[0], fell_back_at=None), chance)
    return _connect(
        replace(state, status="connecting", transport=following, fell_back_at=chance.now), chance, delay_ms=0
    )


def _elsewhere(state: State, chance: Chance) -> State:
    """After an attempt that nobody answered.

    That says nothing about the transport, so the next is made with one that is known to work. When none is, or not for
    long, it may be this way alone that is cut: then each has its turn.
    """
    first = state.transports[0]
    known = state.worked if state.failures < _TRUST_FOR_FAILURES else None
    transport = known or _after(state) or first
    since = chance.now if state.fell_back_at is None else state.fell_back_at
    return replace(state, transport=transport, fell_back_at=None if transport == first else since)


def _after(state: State) -> Transport | None:
    at = state.transports.index(state.transport) + 1
    return state.transports[at] if at < len(state.transports) else None


def _fail(state: State, chance: Chance, retry_after_ms: float | None = None) -> Decision:
    failures = state.failures + 1
    if failures >= state.max_retries:
        return _stop(replace(state, failures=failures), "exhausted")
    told = state.after_ms if retry_after_ms is None else retry_after_ms
    delay_ms = backoff_ms(state.failures, retry_ms=state.retry_ms, random=chance.random) if told is None else told
    return _connect(replace(state, status="retrying", failures=failures), chance, delay_ms)


def _connect(state: State, chance: Chance, delay_ms: float, *, refresh: bool = False) -> Decision:
    state = replace(state, after_ms=None)
    if state.fell_back_at is not None and chance.now + delay_ms - state.fell_back_at >= _PROBE_AFTER_MS:
        state = replace(state, transport=state.transports[0], fell_back_at=None)
    return state, Connect(state.transport, math.floor(delay_ms + 0.5), refresh)


def _stop(state: State, reason: Reason) -> Decision:
    status: Status = "disconnected" if reason in ("terminal", "aborted") else "error"
    return replace(state, status=status), Stop(reason)
