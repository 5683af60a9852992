"""One watched run on this node: the live edge and everyone who stands at it.

Rule 1: `tail` is the last published offset. A subscription that has everything up to it is live, every other one
reads on from the log until it has.
Rule 2: fanning out never holds the loop for longer than a turn; cursors keep the order whatever happens in between.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from gateway.broker import Position
from gateway.hub.counts import Counts
from gateway.hub.past import Pasts
from gateway.hub.subscription import LIVE, Subscription
from gateway.wire.events import Event
from gateway.wire.fold import select
from gateway.wire.framing import Framing
from gateway.wire.status import TERMINAL_TYPES

TURN_S = 0.005
RECENT_EVENTS = 32
RECENT_BYTES = 32 * 1024
SLICE = 32  # subscriptions between two looks at the clock


class Audience:
    """The live subscriptions that hear the same bytes: an event is spelled once for all of them.

    A framing with a state of its own belongs to one connection, so it has an audience of one.
    """

    def __init__(self, framing: Framing, types: frozenset[str] | None) -> None:
        self.framing = framing
        self.types = types
        self.members: dict[Subscription, None] = {}

    def spell(self, events: Sequence[Event]) -> bytes:
        if self.types is not None:
            events = select(events, self.types)
        return self.framing.events(events) if events else b""


class Topic:
    """The broker's sink for one run.

    `max_event_bytes` bounds what folding joins. `pasts` and `counts` are the hub's.
    """

    def __init__(
        self, run: str, *, max_event_bytes: int, pasts: Pasts | None = None, counts: Counts | None = None
    ) -> None:
        self.run = run
        self.counts = counts or Counts()
        self.max_event_bytes = max_event_bytes
        self.pasts = Pasts() if pasts is None else pasts
        self.epoch = ""
        self.floor = 0
        self.tail = 0
        self.terminal = False
        self.holders = 0
        self._audiences: dict[tuple[Framing, frozenset[str] | None], Audience] = {}
        self._unsaid: deque[Sequence[Event]] = deque()
        self._delivery: Iterator[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._recent: deque[Event] = deque()
        self._recent_bytes = 0

    def stands_at(self, position: Position) -> None:
        """Take over where the stream stands; events may have been published since the position was read."""
        self.epoch, self.floor = position.epoch, position.floor
        self.tail = max(self.tail, position.tail)
        self.terminal = self.terminal or position.status.terminal

    def publish(self, events: Sequence[Event]) -> None:
        """The broker's word that these events are durable."""
        last = events[-1]
        if self._recent and self._recent[-1].offset == self.tail:
            self._recent.extend(events)
            for event in events:
                self._recent_bytes += len(event.json)
            self._shrink()
        self.tail = last.offset
        self.terminal = self.terminal or last.type in TERMINAL_TYPES
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        if self._audiences:
            self._unsaid.append(events)
            if self._delivery is None:
                self._delivery = self._deliver()
                self._fan_out()

    def live(self, subscription: Subscription) -> None:
        """From now on this subscription gets what is published."""
        key = subscription.connection.framing, subscription.types
        audience = self._audiences.get(key)
        if audience is None:
            audience = self._audiences[key] = Audience(*key)
        audience.members[subscription] = None

    @property
    def live_count(self) -> int:
        return sum(len(audience.members) for audience in self._audiences.values())

    def not_live(self, subscription: Subscription) -> None:
        key = subscription.connection.framing, subscription.types
        members = self._audiences[key].members
        del members[subscription]
        if not members:
            del self._audiences[key]

    def remember(self, events: Sequence[Event]) -> None:
        """Somebody has read these from the log; if they reach to the tail, the next to come need not read them."""
        if events[-1].offset != self.tail or (self._recent and self._recent[0].offset <= events[0].offset):
            return
        self._recent = deque(events)
        self._recent_bytes = sum(len(event.json) for event in events)
        self._shrink()

    def remembered(self, cursor: int) -> list[Event]:
        """Everything after a cursor up to the tail, if all of it is still in memory; else nothing."""
        recent = self._recent
        if not recent or recent[-1].offset != self.tail or not recent[0].offset <= cursor + 1 <= self.tail:
            return []
        return list(islice(recent, cursor + 1 - recent[0].offset, None))

    def _shrink(self) -> None:
        while self._recent and (self._recent_bytes > RECENT_BYTES or len(self._recent) > RECENT_EVENTS):
            self._recent_bytes -= len(self._recent.popleft().json)

    def _fan_out(self) -> None:
        """Deliver for one turn; go on in the next if that is not enough."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + TURN_S
        for _ in self._delivery or ():
            if loop.time() > deadline:
                loop.call_soon(self._fan_out)
                return
        self._delivery = None

    def _deliver(self) -> Iterator[None]:
        """Give every live subscription what it has not got, a few at a time."""
        while self._unsaid:
            events = self._unsaid.popleft()
            for audience in tuple(self._audiences.values()):
                members = iter(tuple(audience.members))
                if audience.framing.stateful and not _have_room(audience.members):
                    continue
                frames = audience.spell(events)
                if frames:
                    self.counts.delivered(len(events), len(frames), to=len(audience.members))
                while some := tuple(islice(members, SLICE)):
                    _give(some, frames, events[-1])
                    yield

    async def moved(self, beyond: int) -> None:
        """Return when the tail is above `beyond` or the run has ended."""
        while self.tail <= beyond and not self.terminal:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)


def _have_room(members: Iterable[Subscription]) -> bool:
    """Whether what is spelled now can be sent now; those without room fall behind."""
    for subscription in tuple(members):
        if not subscription.connection.transport.has_room():
            subscription.fall_behind()
            return False
    return True


def _give(subscriptions: Iterable[Subscription], frames: bytes, last: Event) -> None:
    """The hot path: everything that a delivery costs beside the system call stands here and in `offer`."""
    now, upto = asyncio.get_running_loop().time(), last.offset
    for subscription in subscriptions:
        if subscription.state is LIVE and subscription.cursor < upto:
            if frames:
                connection = subscription.connection
                if not connection.transport.offer(frames):
                    subscription.fall_behind()
                    continue
                connection.wrote_at = now
            subscription.cursor = upto
    if last.type in TERMINAL_TYPES:
        for subscription in subscriptions:
            if subscription.cursor >= upto:
                subscription.end()
