"""Runs, drafts and sinks for tests of the brokers."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import looptime
import pytest
import uuid_utils

from gateway.broker import Broker, NewRun, Snapshot, Visible
from gateway.errors import Unavailable
from gateway.wire import events
from gateway.wire.events import Draft, Event

EVERYTHING = Visible(everything=True, subject="")
LOTS = 1 << 30


class Clock:
    """Unix seconds that only move when told."""

    def __init__(self, now: float = 1_763_580_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Recording:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.batches: list[list[int]] = []

    def __call__(self, seen: Sequence[Event]) -> None:
        self.events += seen
        self.batches.append([event.offset for event in seen])

    @property
    def offsets(self) -> list[int]:
        return [event.offset for event in self.events]


def new_run(owner: str = "alice", *, pipeline: str = "p", creator: str | None = None, id: str | None = None) -> NewRun:
    return NewRun(
        id=id or str(uuid_utils.uuid7()),
        pipeline=pipeline,
        owner=owner,
        creator=creator or owner,
        input=b'{"a":1}',
        options=b"{}",
    )


def queued() -> Draft:
    return events.lifecycle("run.queued", pipeline="p", owner="alice")


STARTED = events.lifecycle("run.started")
CANCELLING = events.lifecycle("run.cancelling", by="alice", reason="enough")
COMPLETED = events.lifecycle("run.completed", result=1, duration_ms=1)
CANCELLED = events.lifecycle("run.cancelled", by="alice", reason="enough", forced=False, duration_ms=1)
FAILED = events.lifecycle(
    "run.failed", error={"code": "pipeline.error", "message": "no", "retryable": False}, duration_ms=1
)


def says(text: str) -> Draft:
    return events.work("delta", {"block": "b", "delta": text}, max_bytes=65_536)


async def begun(broker: Broker, run: NewRun | None = None) -> str:
    """A run that is under way: two events are in its stream."""
    record, _ = await broker.create(run or new_run(), [queued()])
    await broker.append(record.id, [STARTED])
    return record.id


async def finished(broker: Broker, run: NewRun | None = None) -> str:
    id = await begun(broker, run)
    await broker.append(id, [COMPLETED])
    return id


async def everything(broker: Broker, run: str) -> list[Event]:
    return await broker.read(run, after=0, upto=LOTS, limit=LOTS, max_bytes=LOTS)


async def outcomes(*calls) -> list:
    """What each call gave or raised, begun at once and in this order."""
    return await asyncio.gather(*calls, return_exceptions=True)


async def keep(broker: Broker, run: str, *, offset: int = LOTS, max_events: int = LOTS, max_bytes: int = LOTS) -> int:
    """Keep a snapshot that covers the events up to `offset`; the floor after it."""
    return await broker.keep(run, Snapshot(offset, b"{}", b'{"s":1}'), max_events=max_events, max_bytes=max_bytes)


def in_loop(work: Coroutine[Any, Any, None], *, fast: bool = False) -> None:
    """Run one case of a property in a loop of its own; `fast`: with time that does not pass (no threads then)."""
    with asyncio.Runner(loop_factory=looptime.new_event_loop if fast else asyncio.new_event_loop) as runner:
        runner.run(work)


async def unavailable(call) -> str:
    with pytest.raises(Unavailable) as caught:
        await call
    assert caught.value.code == "broker.unavailable"
    return str(caught.value.detail)
