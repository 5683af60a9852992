"""The open streams of a broker: who may append what, and at which offset.

Rule 1: pure bookkeeping, no I/O. A broker holds one Stream for every unfinished run; it seals, then makes durable,
then calls `reached`.
Rule 2: offsets have no holes: `seal` either places all drafts or none.
"""

import secrets
from collections.abc import Sequence

from gateway.broker.base import Position, Producer, Sink
from gateway.errors import Conflict
from gateway.wire.cursor import Cursor
from gateway.wire.events import Draft, Event, seal
from gateway.wire.status import AFTER, Status, allows

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def new_epoch() -> str:
    """Six characters: nobody compares epochs of different runs, they only must not repeat within one."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(6))


class Stream:
    """`tail` and `status` as sealed, `visible` and `settled` as durable. `watched`: a sink is not patient."""

    def __init__(self, run: str, epoch: str, *, status: Status | None = None, tail: int = 0, floor: int = 0) -> None:
        self.run = run
        self.epoch = epoch
        self.status = status
        self.tail = tail
        self.floor = floor
        self.visible = tail
        self.bytes = 0
        self.settled = status or Status.QUEUED
        self.sinks: tuple[Sink, ...] = ()
        self.watched = False
        self._patient: tuple[Sink, ...] = ()
        self.producers: dict[str, tuple[int, int]] = {}

    def seal(self, drafts: Sequence[Draft], *, ts: int) -> list[Event]:
        """Raises Conflict (`run.finished`) when the status does not let one of the drafts follow."""
        status, offset = self.status, self.tail
        if status is not None and status.terminal:
            raise Conflict("run.finished")
        events = []
        for draft in drafts:
            # Hardly anything of what is said changes the status.
            if draft.type in AFTER or status is None or status.terminal:
                if not allows(status, draft.type):
                    raise Conflict("run.finished", f"{draft.type} cannot follow: the run is {status}")
                status = AFTER[draft.type]
            offset += 1
            events.append(seal(draft, run=self.run, epoch=self.epoch, offset=offset, ts=ts))
        self.status, self.tail = status, offset
        for event in events:
            self.bytes += len(event.json)
        return events

    def is_repeat(self, producer: Producer) -> bool:
        """Whether this request was made before. Raises Conflict (`producer.gap`, `producer.fenced`)."""
        epoch, seq = self.producers.get(producer.id, (producer.epoch, 0))
        if producer.epoch < epoch:
            raise Conflict("producer.fenced", f"epoch {epoch} has taken over")
        if producer.epoch > epoch:
            seq = 0
        if producer.seq > seq + 1:
            raise Conflict("producer.gap", f"seq {seq + 1} is expected")
        return producer.seq <= seq

    def advance(self, producer: Producer) -> None:
        self.producers[producer.id] = (producer.epoch, producer.seq)

    def reached(self, events: Sequence[Event]) -> None:
        """These events are durable now: everyone who watches gets them."""
        if not events:
            return
        self.visible = events[-1].offset
        for event in events:
            if event.type in AFTER:
                self.settled = AFTER[event.type]
        for sink in self.sinks:
            sink(events)

    def watch(self, sink: Sink, *, patient: bool) -> None:
        self.sinks = (*self.sinks, sink)
        if patient:
            self._patient = (*self._patient, sink)
        self.watched = len(self.sinks) > len(self._patient)

    def unwatch(self, sink: Sink) -> None:
        """Idempotent."""
        self.sinks = tuple(each for each in self.sinks if each != sink)
        self._patient = tuple(each for each in self._patient if each != sink)
        self.watched = len(self.sinks) > len(self._patient)

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.epoch, self.tail)

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.floor, self.visible, self.settled)
