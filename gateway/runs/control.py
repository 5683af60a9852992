"""Steering a run while it works: pause, resume, the answer to its question (PROTOCOL section 4)."""

from typing import Any

from gateway.broker import Run
from gateway.errors import Conflict
from gateway.runs.active import ActiveRun
from gateway.runs.roster import EXTERNAL, Roster
from gateway.runs.views import Caller
from gateway.wire import events
from gateway.wire.status import Status


class Control:
    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    async def pause(self, caller: Caller, run: Run) -> Status:
        """Hold a run at its next checkpoint. Idempotent; returns its status now. Raises Conflict (`run.finished`)."""
        active = self._under_control(run)
        if active.record.pipeline != EXTERNAL:
            active.gate.shut(caller.subject)
        elif active.state.status is not Status.PAUSED:
            await self._say(active, "run.paused", caller)
        return active.state.status

    async def resume(self, caller: Caller, run: Run) -> Status:
        """Let a run go on. Idempotent; returns its status now. Raises Conflict (`run.finished`)."""
        active = self._under_control(run)
        if active.record.pipeline != EXTERNAL:
            active.gate.open(caller.subject)
        elif active.state.status is Status.PAUSED:
            await self._say(active, "run.resumed", caller)
        return active.state.status

    async def _say(self, active: ActiveRun, type: str, caller: Caller) -> None:
        """Its work is elsewhere: whoever does it reads the stream."""
        try:
            await active.append(events.lifecycle(type, by=caller.subject))
        except Conflict:
            await active.durable()
            if active.ended.done() or active.cancel_asked or active.ending:
                raise
            # Somebody else has said it at the same time.

    async def answer(self, caller: Caller, run: Run, input_id: str, value: Any) -> None:
        """Answer a run's question. Raises Conflict (`run.finished`, `input.closed`), Invalid."""
        active = self._under_control(run)
        waiting, checked = active.questions.take(input_id, value)
        received = active.draft("input.received", {"input_id": input_id, "by": caller.subject})
        try:
            await active.append(received)
        finally:
            # Also when the caller goes away now: the question is closed, so its answer must arrive.
            if not waiting.done():
                waiting.set_result(checked)

    def _under_control(self, run: Run) -> ActiveRun:
        active = self._roster.get(run.id)
        if active is None or active.cancel_asked or active.ending:
            raise Conflict("run.finished")
        return active
