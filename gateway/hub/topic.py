"""One watched run on this node: the live edge and everyone who stands at it.

Rule 1: `tail` is the last published offset. A subscription that has everything up to it is live, every other one
reads on from the log until it has.
Rule 2: fanning out never holds the loop for longer than a turn; cursors keep the order whatever happens in between.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from gateway.broker import Position
from gateway.hub.counts import Counts
from gateway.hub.subscription import PAGE_BYTES, State, Subscription
from gateway.wire.events import Event
from gateway.wire.fold import select
from gateway.wire.framing import Framing
from gateway.wire.status import TERMINAL_TYPES

TURN_S = 0.005
RECENT_EVENTS = 128
RECENT_BYTES = 32 * 1024
_CHECK_EVERY = 32  # subscribers between two looks at the clock


class Batch:
    """Events that became visible together, with their bytes in each framing that somebody asked for."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.last = events[-1].offset
        self.terminal = events[-1].type in TERMINAL_TYPES
        self._frames: dict[Framing, bytes] = {}

    def frames(self, framing: Framing) -> bytes:
        found = self._frames.get(framing)
        if found is None:
            found = self._frames[framing] = framing.events(self.events)
        return found

    def selected(self, framing: Framing, types: frozenset[str]) -> bytes:
        return framing.events(select(self.events, types))


class Topic:
    """The broker's sink for one run.

    `max_event_bytes` bounds what folding joins, `page_bytes` what is read of the past at once. `counts` is the hub's.
    """

    def __init__(
        self, run: str, *, max_event_bytes: int, page_bytes: int = PAGE_BYTES, counts: Counts | None = None
    ) -> None:
        self.run = run
        self.counts = counts or Counts()
        self.max_event_bytes = max_event_bytes
        self.page_bytes = page_bytes
        self.epoch = ""
        self.floor = 0
        self.tail = 0
        self.terminal = False
        self.live: dict[Subscription, None] = {}
        self.holders = 0
        self._batches: deque[Batch] = deque()
        self._under_way: tuple[Batch, Iterator[Subscription]] | None = None
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
        batch = Batch(events)
        if self._recent and self._recent[-1].offset == self.tail:
            self._recent.extend(events)
            self._recent_bytes += sum(len(event.json) for event in events)
            self._shrink()
        self.tail = batch.last
        self.terminal = self.terminal or batch.terminal
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.counts.published += len(events)
        self.counts.sent_live += len(events) * len(self.live)
        if self.live or self._under_way:
            self._batches.append(batch)
            if self._under_way is None:
                self._fan_out()

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
        """Give every live subscription what it has not got, for one turn; go on in the next if that is not enough."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = now + TURN_S
        while self._under_way or self._batches:
            if self._under_way is None:
                batch, targets = self._under_way = self._batches.popleft(), iter(tuple(self.live))
            else:
                batch, targets = self._under_way
            last = batch.last
            for count, subscription in enumerate(targets, start=1):
                if subscription.state is State.LIVE and subscription.cursor < last:
                    connection = subscription.connection
                    framing, types = connection.framing, subscription.types
                    if framing.stateful and not connection.transport.has_room():
                        subscription.fall_behind()
                        continue
                    frames = batch.frames(framing) if types is None else batch.selected(framing, types)
                    if frames:
                        if not connection.transport.offer(frames):
                            subscription.fall_behind()
                            continue
                        connection.wrote(len(frames), now)
                    subscription.cursor = last
                    if batch.terminal:
                        subscription.end()
                if count % _CHECK_EVERY == 0 and loop.time() > deadline:
                    loop.call_soon(self._fan_out)
                    return
            self._under_way = None

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
