"""One run on one connection: a cursor and a state.

    BEHIND ──(has everything up to the tail)──▶ LIVE
      ▲                                          │
      └──────────(too much is unsent)────────────┘        either ──(terminal event sent, or left)──▶ ENDED

A new subscription starts BEHIND, so the first catching up is the join.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from gateway.wire import control
from gateway.wire.commands import Replay
from gateway.wire.cursor import Cursor, Resume, resolve
from gateway.wire.fold import fold, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.broker import Broker
    from gateway.hub.connection import Connection
    from gateway.hub.past import Page
    from gateway.hub.topic import Topic
    from gateway.wire.events import Event

PAGE_EVENTS = 1000
NO_CURSOR = "0"


class State(Enum):
    BEHIND = "behind"
    LIVE = "live"
    ENDED = "ended"


LIVE = State.LIVE  # a global: reading a member of an enumeration costs more


@dataclass(frozen=True, slots=True)
class Join:
    """How a client wants a stream: from which cursor, the past how, and which types."""

    after: str | None = None
    replay: Replay = "folded"
    types: frozenset[str] | None = None

    def resolve(self, topic: "Topic") -> tuple[Resume, int]:
        """The verdict on the cursor, and the offset after which to send."""
        resume, cursor = resolve(self.after, epoch=topic.epoch, floor=topic.floor, tail=topic.tail)
        if self.replay == "none" and resume is Resume.START:
            # On a finished run the live tail is its terminal event.
            return resume, topic.tail - 1 if topic.terminal else topic.tail
        return resume, cursor

    def misses_the_beginning(self, topic: "Topic", cursor: int) -> bool:
        """Whether a client without a cursor comes to a run whose first events are gone."""
        return not self.after and self.replay != "none" and 0 < topic.floor == cursor


async def read_past(
    broker: "Broker", topic: "Topic", join: Join, cursor: int, *, limit: int
) -> tuple[list["Event"], int, int]:
    """At most so many events of what lies between a cursor and the tail, as the join wants them.

    Returns the events to send, the cursor they lead to, and the offset of the first event that was read (0: nothing
    is held any more).
    """
    upto = topic.tail  # what is said while it is read may push out what was not
    events = await _read(broker, topic, cursor, limit=limit)
    if not events:
        return [], _behind(topic, cursor, upto), 0
    return shape(events, join, max_bytes=topic.max_event_bytes), events[-1].offset, events[0].offset


async def _read(
    broker: "Broker", topic: "Topic", cursor: int, *, limit: int = PAGE_EVENTS, max_bytes: int | None = None
) -> "Sequence[Event]":
    """What comes after a cursor, from memory or from the log."""
    events = topic.remembered(cursor)[:limit]
    if not events:
        max_bytes = topic.pasts.page_bytes if max_bytes is None else max_bytes
        events = await broker.read(topic.run, after=cursor, upto=topic.tail, limit=limit, max_bytes=max_bytes)
        if events:
            topic.remember(events)
    return events


def _behind(topic: "Topic", cursor: int, upto: int) -> int:
    """Where to go on when nothing is held up to an offset: what was said since tells where the gap ends."""
    return cursor if topic.tail > upto else upto


async def _page(broker: "Broker", topic: "Topic", cursor: int) -> "Page":
    """The folded past from a cursor on, until a page is full of it or nothing is left. Many may wait for one reader."""
    pasts, tail = topic.pasts, topic.tail
    page = pasts.page(topic.run, cursor, floor=topic.floor)
    async with page.growing:
        if topic.terminal and cursor == topic.floor and not page.first:
            pasts.load(topic.run, page, await broker.past(topic.run), epoch=topic.epoch)
        while page.upto < tail and not pasts.full(page):
            events = await _read(broker, topic, page.upto, max_bytes=pasts.page_bytes - page.bytes)
            if not events or (page.first and events[0].offset > page.upto + 1):
                break  # the next page will tell of the gap
            pasts.add(topic.run, page, events, first=events[0].offset, max_bytes=topic.max_event_bytes)
            await asyncio.sleep(0)
    return page


def shape(events: "Sequence[Event]", join: Join, *, max_bytes: int) -> list["Event"]:
    """A piece of the past as the join wants it."""
    chosen = select(events, join.types)
    return chosen if join.replay == "full" else fold(chosen, max_bytes=max_bytes)


class Subscription:
    """`late`: events that it should begin with were gone when it came."""

    __slots__ = ("connection", "cursor", "join", "late", "resume", "state", "topic", "types")

    def __init__(self, connection: "Connection", topic: "Topic", join: Join) -> None:
        self.connection = connection
        self.topic = topic
        self.join = join
        self.types = join.types
        self.resume, self.cursor = join.resolve(topic)
        # Judged now, with the cursor: more may go before the stream starts.
        self.late = self.resume is Resume.GAP or join.misses_the_beginning(topic, self.cursor)
        self.state = State.BEHIND

    @property
    def at_end(self) -> bool:
        """Whether the client has everything and nothing will come."""
        return self.topic.terminal and self.cursor >= self.topic.tail

    def start(self) -> None:
        """Say a gap, then send what is missing. To be called once the client knows of the subscription."""
        if self.late:
            self._say_gap(self.join.after or NO_CURSOR, self.cursor + 1)
        recent = self.topic.remembered(self.cursor)
        # Nothing has to be read, so a client with room is up to date within this turn.
        if recent and self.connection.transport.has_room():
            self._send(shape(recent, self.join, max_bytes=self.topic.max_event_bytes))
            self.cursor = recent[-1].offset
        self.advance()
        if self.state is State.BEHIND:
            self.connection.catch_up()

    def advance(self) -> None:
        """Become live, or end, if nothing is missing."""
        if self.state is State.BEHIND and self.cursor >= self.topic.tail:
            self.state = State.LIVE
            self.topic.live(self)
            if self.topic.terminal:
                self.end()

    def fall_behind(self) -> None:
        self.state = State.BEHIND
        self.topic.counts.fell_behind += 1
        self.topic.not_live(self)
        self.connection.catch_up()

    async def catch_up(self, broker: "Broker") -> None:
        """Send one page of what is missing."""
        tail = self.topic.tail  # as in `read_past`
        if self.join.replay == "full":
            events, cursor, first = await read_past(broker, self.topic, self.join, self.cursor, limit=PAGE_EVENTS)
        else:
            page = await _page(broker, self.topic, self.cursor)
            events, first = page.events, page.first
            cursor = page.upto if first else _behind(self.topic, self.cursor, tail)
            if self.types is not None:
                events = shape(events, self.join, max_bytes=self.topic.max_event_bytes)
        if self.state is not State.BEHIND:
            return
        if not first and self.topic.terminal and cursor >= self.topic.tail:
            self.connection.finish()  # it was erased: who comes back is told so
            self.end()
            return
        if first > self.cursor + 1:
            self._say_gap(str(Cursor(self.topic.epoch, self.cursor)) if self.cursor else NO_CURSOR, first)
        self._send(events)
        self.cursor = cursor
        self.advance()

    def end(self) -> None:
        """Stop watching; the connection is told."""
        if self.state is State.LIVE:
            self.topic.not_live(self)
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self.connection.left(self)

    def _send(self, events: "Sequence[Event]") -> None:
        if events:
            frames = self.connection.framing.events(events)
            self.topic.counts.sent_past += len(events)
            self.topic.counts.sent_bytes += len(frames)
            self.connection.write(frames)

    def _say_gap(self, after: str, first: int) -> None:
        self.topic.counts.gaps += 1
        frame = control.gap(run=self.topic.run, after=after, first=str(Cursor(self.topic.epoch, first)))
        self.connection.control(frame)
