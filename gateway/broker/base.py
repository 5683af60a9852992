"""What a broker is asked, and the values that travel (contract in `gateway.broker`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.broker.counts import Counts
from gateway.wire.cursor import Cursor
from gateway.wire.events import Draft, Event
from gateway.wire.status import Status


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that has no stream yet. `input` and `options` are JSON; `creator` is who asked, `owner` for whom."""

    id: str
    pipeline: str
    owner: str
    creator: str
    input: bytes
    options: bytes
    retry_of: str | None = None


@dataclass(frozen=True, slots=True)
class Run(NewRun):
    """A run's record. Times are Unix milliseconds; `summary` is the small part of its folded state once it ended."""

    epoch: str = ""
    status: Status = Status.QUEUED
    created_at: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    floor: int = 0
    tail: int = 0
    summary: bytes | None = None


class Position(NamedTuple):
    """Where a stream stands: offsets above `floor` up to and with `tail` can be read."""

    epoch: str
    floor: int
    tail: int
    status: Status


class Key(NamedTuple):
    """An Idempotency-Key with the digest of the request it came with."""

    text: str
    digest: bytes


class Producer(NamedTuple):
    """A publisher's place in its own sequence of requests (`Producer` header, PROTOCOL section 4)."""

    id: str
    epoch: int
    seq: int


class Snapshot(NamedTuple):
    """A run's folded state with all events up to `offset`, kept beside the log.

    `past`: what spares whoever joins the reading of a long log, in words of the hub's own.
    """

    offset: int
    summary: bytes
    state: bytes
    past: bytes = b""


class Revocation(NamedTuple):
    """A credential taken back: `kind` is `jti` or `sub`, `at` when (Unix ms)."""

    kind: str
    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Visible:
    """Whose runs a caller may see: all of them, or a subject's own, those it made for others, and those named.

    `only`, when given, narrows all of that to a few runs.
    """

    everything: bool
    subject: str
    runs: frozenset[str] = frozenset()
    only: frozenset[str] | None = None

    def commands(self, run: NewRun) -> bool:
        """Whether the caller may speak for the run: its creator, its owner, an admin. To see it is not enough."""
        return self.shows(run) and (self.everything or self.subject in (run.owner, run.creator))

    def shows(self, run: NewRun) -> bool:
        if self.only is not None and run.id not in self.only:
            return False
        return self.everything or self.subject in (run.owner, run.creator) or run.id in self.runs


class Page(NamedTuple):
    """Which runs to list, newest first. `before` is a run's id."""

    visible: Visible
    status: Status | None = None
    pipeline: str | None = None
    before: str | None = None
    limit: int = 50


Sink = Callable[[Sequence[Event]], None]


class Broker(Protocol):
    """Keeps runs and their streams.

    Every method may raise Unavailable (`broker.unavailable`); then the broker promises nothing more until it is
    opened again. A call that was cancelled may or may not have happened.
    """

    async def open(self) -> None:
        """Make ready; streams kept from earlier are there afterwards."""

    async def close(self) -> None:
        """Finish what is under way and let go of everything. Idempotent."""

    @property
    def available(self) -> bool:
        """Whether the promises hold now."""

    @property
    def counts(self) -> Counts:
        """What its commits took; nothing where there are none."""

    @property
    def queue(self) -> int:
        """How many events wait to become durable."""

    async def lost(self) -> None:
        """Return when the promises no longer hold."""

    async def create(
        self, run: NewRun, drafts: Sequence[Draft], *, key: Key | None = None, sink: Sink | None = None
    ) -> tuple[Run, bool]:
        """Make a run whose stream begins with `drafts`, and say that it is new.

        `sink` watches a new one patiently, from its first event on and before anybody else can find it.
        With the key of an earlier run of the same owner: that run and False; Conflict (`key.conflict`) when the
        digest differs.
        """

    async def find_key(self, owner: str, key: Key) -> Run | None:
        """The run that was made with this key. Raises Conflict (`key.conflict`) when the digest differs."""

    async def append(self, run: str, drafts: Sequence[Draft], *, producer: Producer | None = None) -> Cursor:
        """Append all of `drafts` or nothing; return the cursor of the last when they are durable.

        Appends take effect in the order of the calls. A request that this producer made before gets its original
        cursor, and nothing is appended; also when the run has ended since.
        Raises NotFound, Conflict (`run.finished`, `producer.gap`, `producer.fenced`).
        """

    def append_nowait(self, run: str, draft: Draft) -> int:
        """Append as `append` does, without waiting until it is durable; return its offset. Raises as that does."""

    async def durable(self) -> None:
        """Return when everything that was appended up to now is durable."""

    async def get(self, run: str) -> Run | None:
        """A run's record."""

    async def page(self, page: Page) -> list[Run]:
        """At most `page.limit` records, newest first."""

    async def unfinished(self) -> list[Run]:
        """Every run without a terminal event."""

    async def read(self, run: str, *, after: int, upto: int, limit: int, max_bytes: int) -> list[Event]:
        """The first events with offsets in (after, upto]: at most `limit`, and past `max_bytes` no further one.

        Empty when the run is not there or nothing is held in that span.
        """

    async def keep(self, run: str, snapshot: Snapshot, *, max_events: int, max_bytes: int) -> int:
        """Store a run's folded state in place of an earlier one, and hold no more of its events than allowed.

        The oldest events beyond that go, as far as the snapshot covers them; the newest stays. Returns the floor.
        """

    async def snapshot(self, run: str) -> Snapshot | None:
        """The latest stored state, if any; without its `past`."""

    async def past(self, run: str) -> bytes:
        """The `past` of the latest stored state; empty where there is none."""

    def weigh(self, run: str) -> tuple[int, int]:
        """How many events of an unfinished run are held, and their bytes; `(0, 0)` when it is not here."""

    async def total_bytes(self) -> int:
        """The bytes of all events held."""

    async def oldest_finished(self, limit: int) -> list[Run]:
        """The runs that ended first."""

    async def erase(self, run: str) -> None:
        """Forget a finished run and its events. Raises NotFound, Conflict (`run.active`)."""

    async def revoke(self, revocation: Revocation, *, forget_before: int) -> None:
        """Keep a revocation, durable on return; of the same kind and name the latest counts.

        Those made before `forget_before` (Unix ms) go.
        """

    async def revocations(self) -> list[Revocation]:
        """All that are kept."""

    async def watch(self, run: str, sink: Sink, *, patient: bool = False) -> Position | None:
        """Give `sink` every further event in order, and say where the stream stands; None when it is not there.

        The sink sees all events after `Position.tail` and none up to it. It is called on the loop and must not raise.
        `patient`: nobody looks at what it gets; where that is so of all of them, events that nobody waits for
        (`append_nowait`) may become durable, and be seen, a little later.
        """

    def unwatch(self, run: str, sink: Sink) -> None:
        """Undo `watch`. Idempotent."""
