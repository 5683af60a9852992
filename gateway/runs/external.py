"""Runs whose work happens elsewhere: their events come by HTTP (PROTOCOL section 4).

Rule 1: an external run survives restarts and drains; it ends by its publisher, by a cancel, or orphaned when its
publisher has not been heard of for too long.
"""

import asyncio
import re
from typing import Any

import structlog

from gateway.broker import Broker, Producer, Run
from gateway.errors import Conflict, Invalid, Unavailable
from gateway.runs.active import ActiveRun, Stop
from gateway.runs.roster import EXTERNAL, Roster
from gateway.wire import json
from gateway.wire.cursor import Cursor
from gateway.wire.events import Failure, published, work
from gateway.wire.status import Status

log = structlog.get_logger(__name__)

MAX_EVENTS = 1000
_PRODUCER = re.compile(
    r"\s*([\x21-\x3a\x3c-\x7e]{1,128})\s*;\s*epoch=(\d{1,15})\s*;\s*seq=([1-9]\d{0,14})\s*", re.ASCII
)


def parse_producer(header: str | None) -> Producer | None:
    """`Producer: <id>; epoch=<n>; seq=<n>`. Raises Invalid."""
    if header is None:
        return None
    match = _PRODUCER.fullmatch(header)
    if match is None:
        raise Invalid(detail="the Producer header is `<id>; epoch=<n>; seq=<n>`, seq counted from 1")
    return Producer(match[1], int(match[2]), int(match[3]))


def parse_published(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """An event, `{"events": […]}` or NDJSON, as `(type, own fields)`. Raises Invalid (`event.invalid`)."""
    found: Any
    try:
        one = json.loads(body)
    except ValueError:
        found = [_line(number, line) for number, line in enumerate(body.split(b"\n"), start=1) if line.strip()]
    else:
        found = one["events"] if isinstance(one, dict) and one.keys() == {"events"} else [one]
    if not isinstance(found, list) or not 0 < len(found) <= MAX_EVENTS:
        raise Invalid("event.invalid", f"a request carries 1 to {MAX_EVENTS} events")
    return [published(event) for event in found]


def _line(number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise Invalid("event.invalid", f"line {number} is not JSON") from None


class ExternalRuns:
    def __init__(self, broker: Broker, roster: Roster) -> None:
        self._broker = broker
        self._roster = roster

    async def publish(self, run: Run, said: list[tuple[str, dict[str, Any]]], *, producer: Producer | None) -> Cursor:
        """Append all or nothing.

        Raises Conflict (`run.not_external`, `run.finished`, `producer.*`), Invalid (`event.invalid`), Unavailable.
        """
        active = self._roster.get(run.id) if run.pipeline == EXTERNAL else None
        if active is None:
            for type, fields in said:  # a bad event is told before a conflict
                work(type, fields, max_bytes=self._roster.limits.max_event_bytes)
            self._active(run)
            return await self._repeated(run, producer)
        return await active.publish(said, producer=producer)

    async def finish(
        self, run: Run, status: Status, *, result: Any, error: Failure | None, producer: Producer | None
    ) -> Cursor:
        """End the run. One that is being cancelled ends cancelled, whatever its publisher says. Raises as `publish`."""
        active = self._active(run)
        if active is None:
            return await self._repeated(run, producer)
        if status is Status.COMPLETED:
            terminal = active.completed(result)
        elif status is Status.FAILED:
            said = error or Failure(code="pipeline.error", message="The run failed.", retryable=False)
            terminal = active.failed(said.code, said.message, retryable=said.retryable)
        else:
            terminal = active.cancelled(Stop(by=run.creator, reason="ended by its publisher"), forced=False)
        cursor = None
        if not active.cancel_asked:
            cursor = await active.end(terminal, producer=producer)
        if cursor is None and active.cancel_asked:
            await active.stopped_or_ended()
            if active.stop.done():
                cursor = await active.end(active.cancelled(active.stop.result(), forced=False), producer=producer)
        return cursor or await self._repeated(run, producer)

    async def watch_over(self, active: ActiveRun) -> None:
        """Return when the run has ended; end it when it is cancelled or its publisher stays away."""
        try:
            while not active.ended.done():
                await self._watch_a_while(active)
        except Unavailable:
            log.error("run abandoned: the log is not available", run=active.id)
        finally:
            self._roster.release(active)

    async def _watch_a_while(self, active: ActiveRun) -> None:
        now = asyncio.get_running_loop().time
        due = active.published_at + self._roster.limits.external_idle_s
        # A cancel that was asked for is on its way and comes before the time is up.
        await active.stopped_or_ended(timeout_s=None if active.cancel_asked else max(due - now(), 0))
        if active.ended.done():
            return
        if active.stop.done():
            await asyncio.wait({active.ended}, timeout=self._roster.limits.cancel_grace_s)
            await active.end(active.cancelled(active.stop.result(), forced=True))
        elif not active.cancel_asked and now() >= active.published_at + self._roster.limits.external_idle_s:
            message = "The publisher has not been heard of for too long."
            if not await active.end(active.failed("run.orphaned", message, retryable=True)):
                await active.stopped_or_ended()

    def _active(self, run: Run) -> ActiveRun | None:
        if run.pipeline != EXTERNAL:
            raise Conflict("run.not_external")
        return self._roster.get(run.id)

    async def _repeated(self, run: Run, producer: Producer | None) -> Cursor:
        """The original reply to a request made before the run ended; a new one is refused."""
        if producer is None:
            raise Conflict("run.finished")
        return await self._broker.append(run.id, [], producer=producer)
