"""What can be done to runs. Every way in (HTTP, WebSocket, start-up, shutdown) ends here.

Rule 1: a change that was begun is carried through, also when the caller goes away meanwhile.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import structlog
import uuid_utils
from pydantic import ValidationError

from gateway.broker import Broker, Key, NewRun, Producer, Run
from gateway.errors import Conflict, Forbidden, Invalid, NotFound, Problem, TooMany, Unavailable
from gateway.hub import Pasts
from gateway.runs.active import ActiveRun, Stop
from gateway.runs.control import Control
from gateway.runs.counts import Counts
from gateway.runs.execution import Execution
from gateway.runs.external import ExternalRuns
from gateway.runs.limits import Limits
from gateway.runs.retention import Policy, Retention
from gateway.runs.roster import EXTERNAL, Roster
from gateway.runs.viewers import Viewers
from gateway.runs.views import Caller, Views
from gateway.tasks import Tasks
from gateway.wire import events, json
from gateway.wire.commands import Start
from gateway.wire.cursor import Cursor
from gateway.wire.events import Failure, problems
from gateway.wire.status import Status
from pipeline import Pipeline, Registry

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Cancelled(NamedTuple):
    """What a cancel came to: under way, or too late (`final` is the terminal status)."""

    final: Status | None

    def fields(self) -> dict[str, Any]:
        return {"status": "cancelling"} if self.final is None else {"status": "finished", "final": self.final}


class Runs:
    """`pipelines` are what can be started, besides `external`; `now` gives Unix seconds; `pasts` are the hub's."""

    def __init__(
        self,
        broker: Broker,
        pipelines: Registry,
        *,
        limits: Limits,
        retention: Policy,
        pasts: Pasts,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._broker = broker
        self._pipelines = pipelines
        self._roster = Roster(broker, limits=limits, now=now, pasts=pasts)
        self._tasks = Tasks("runs")
        self._stragglers = Tasks("pipelines")
        self._draining = False
        self._retention = Retention(broker, self._roster, retention, now=now, erased=pasts.forget)
        self.views = Views(broker, self._roster)
        self.external = ExternalRuns(broker, self._roster)
        self.control = Control(self._roster)

    async def start(self, caller: Caller, request: Start, *, key: str | None = None) -> tuple[Run, bool]:
        """Start a run and say whether it is new (False: the key named an earlier one).

        Raises NotFound (`pipeline.unknown`), Forbidden, Invalid, Conflict (`key.conflict`), TooMany (`limit.runs`),
        Unavailable.
        """
        if caller.visible.only is not None:
            # It would be a run that its bearer must not see, or with a key one that is there already.
            raise Forbidden(detail="a ticket for some runs starts none")
        owner = request.owner or caller.subject
        if owner != caller.subject and not caller.delegate:
            raise Forbidden(detail="starting a run for someone else needs the scope runs:delegate")
        run = NewRun(
            id=str(uuid_utils.uuid7()),
            pipeline=request.pipeline,
            owner=owner,
            creator=caller.subject,
            input=json.dumps(request.input),
            options=json.dumps(request.options.model_dump(exclude_none=True)),
        )
        digest = hashlib.sha256(json.canonical(request.model_dump())).digest()
        return await self._begin(run, Key(key, digest) if key is not None else None)

    async def retry(self, caller: Caller, old: Run) -> Run:
        """A new run with the same pipeline, input and options. Raises Conflict (`run.active`) and as `start`."""
        if not old.status.terminal:
            raise Conflict("run.active")
        run = NewRun(
            id=str(uuid_utils.uuid7()),
            pipeline=old.pipeline,
            owner=old.owner,
            creator=caller.subject,
            input=old.input,
            options=old.options,
            retry_of=old.id,
        )
        return (await self._begin(run, None))[0]

    async def cancel(self, caller: Caller, run: Run, reason: str | None) -> Cancelled:
        """Ask for a run's end. Idempotent; returns when `run.cancelling` is durable, or with the final status."""
        active = self._roster.get(run.id)
        if active is not None and not active.cancel_asked:
            active.cancel_asked = True
            await self._carry_through(self._cancel(active, Stop(by=caller.subject, reason=reason or "requested")))
        if active is not None:
            await active.stopped_or_ended()
            if not active.ended.done():
                return Cancelled(None)
        current = await self._broker.get(run.id)
        if current is None:
            raise NotFound
        if not current.status.terminal:
            raise Unavailable("broker.unavailable")
        return Cancelled(current.status)

    async def _cancel(self, active: ActiveRun, stop: Stop) -> None:
        active.cancelling_at = asyncio.get_running_loop().time()
        try:
            await active.append(events.lifecycle("run.cancelling", by=stop.by, reason=stop.reason))
        except Conflict:
            return  # its terminal event is already on its way
        except Unavailable:
            active.cancel_asked = False
            raise
        if not active.stop.done():
            active.stop.set_result(stop)

    async def erase(self, run: Run) -> None:
        """Raises Conflict (`run.active`)."""
        await self._carry_through(self._retention.erase(run.id))

    async def finish(
        self, run: Run, status: Status, *, result: Any, error: Failure | None, producer: Producer | None
    ) -> Cursor:
        """End an external run. Raises as `ExternalRuns.finish`."""
        ending = self.external.finish(run, status, result=result, error=error, producer=producer)
        return await self._carry_through(ending)

    async def _begin(self, run: NewRun, key: Key | None) -> tuple[Run, bool]:
        pipeline = self._pipelines.get(run.pipeline)
        if pipeline is None and run.pipeline != EXTERNAL:
            raise NotFound("pipeline.unknown")
        input = json.loads(run.input) if pipeline is None else _validated(pipeline, json.loads(run.input))
        if self._draining:
            code = "server.draining" if self._broker.available else "broker.unavailable"
            raise Unavailable(code, retry_after_ms=1000)
        try:
            self._roster.reserve(run.owner)
        except TooMany:
            # A repeat asks for nothing new.
            earlier = await self._broker.find_key(run.owner, key) if key is not None else None
            if earlier is None:
                raise
            return earlier, False
        return await self._carry_through(self._create(run, pipeline, input, key))

    async def _create(self, run: NewRun, pipeline: Pipeline | None, input: Any, key: Key | None) -> tuple[Run, bool]:
        created = False
        active = self._roster.expect(run)
        try:
            begun = [events.lifecycle("run.queued", pipeline=run.pipeline, owner=run.owner, retry_of=run.retry_of)]
            if pipeline is None:  # before anybody can say anything in it
                begun.append(events.lifecycle("run.started"))
            record, created = await self._broker.create(run, begun, key=key, sink=active.observe)
            if created:
                self._roster.counts.began(run.pipeline)
                self._tasks.spawn(self._work(active, pipeline, input), name=run.id)
            return record, created
        finally:
            if not created:
                self._roster.release(active)

    async def _work(self, active: ActiveRun, pipeline: Pipeline | None, input: Any) -> None:
        """Everything that happens to one run until it has ended."""
        options = json.loads(active.record.options)
        if options.get("on_disconnect") == "cancel":
            self._tasks.spawn(
                self._cancel_unwatched(active, options["disconnect_grace_s"]), name=f"viewers:{active.id}"
            )
        if pipeline is None:
            if active.state.status is Status.QUEUED:
                await active.append(events.lifecycle("run.started"))
            await self.external.watch_over(active)
            return
        execution = Execution(
            active,
            pipeline,
            input,
            options,
            grace_s=self._roster.limits.cancel_grace_s,
            stragglers=self._stragglers,
        )
        try:
            await execution.run()
        finally:
            self._roster.release(active)

    async def _cancel_unwatched(self, active: ActiveRun, grace_s: float) -> None:
        """Cancel a run that nobody has watched for its grace. A drain is no reason."""
        missing = asyncio.ensure_future(active.viewers.missing_for(grace_s))
        try:
            await asyncio.wait({missing, active.ended}, return_when="FIRST_COMPLETED")
        finally:
            missing.cancel()
        if not (active.ended.done() or active.cancel_asked or self._draining):
            active.cancel_asked = True
            await self._cancel(active, Stop(by="gateway", reason="no viewers"))

    def watching(self, run: str, change: int) -> None:
        """A run has a viewer more (1) or less (-1)."""
        self._roster.watching(run, change)

    async def _carry_through(self, work: Awaitable[T]) -> T:
        async def awaited() -> T | Problem:
            try:
                return await work
            except Problem as refusal:
                return refusal  # the caller's to hear; a task that fails is a fault

        change = self._tasks.spawn(awaited(), name="change")
        try:
            outcome: T | Problem = await asyncio.shield(change)
        except asyncio.CancelledError:
            if change.cancelled() and not self._broker.available:  # the log is lost, and with it whoever waits for it
                raise Unavailable("broker.unavailable") from None
            raise
        if isinstance(outcome, Problem):
            raise outcome
        return outcome

    @property
    def counts(self) -> Counts:
        return self._roster.counts

    @property
    def unfinished(self) -> Counter[str]:
        """How many runs are not finished, by status."""
        return Counter(str(active.state.status) for active in self._roster)

    @property
    def under_way(self) -> list[ActiveRun]:
        """Runs that this process executes itself."""
        return [active for active in self._roster if active.record.pipeline != EXTERNAL]

    async def recover(self) -> None:
        """After a restart: external runs go on, whatever else was under way ends as orphaned."""
        self._tasks.spawn(self._retention.run(), name="retention")
        for record in await self._broker.unfinished():
            self._roster.readmit(record.owner)
            active = await self._roster.adopt(record)
            if record.pipeline == EXTERNAL:
                self._tasks.spawn(self._recovered(active), name=record.id)
                continue
            message = "The gateway stopped while the run was under way."
            await active.end(active.failed("run.orphaned", message, retryable=True))
            self._roster.release(active)

    async def _recovered(self, active: ActiveRun) -> None:
        """An external run goes on; a cancel that was under way goes on too."""
        if active.state.status is Status.CANCELLING:
            active.cancel_asked = True
            active.stop.set_result(Stop(by=active.record.owner, reason="requested"))
        # Its viewers need a moment to come back.
        active.viewers = Viewers(head_start_s=json.loads(active.record.options)["disconnect_grace_s"])
        await self._work(active, None, None)

    def refuse(self) -> None:
        """Take no new runs from now on."""
        self._draining = True

    async def drain(self, *, within_s: float, grace_s: float) -> None:
        """Give the runs under way this long to end, then end them (`server.draining`). External runs go on elsewhere.

        `grace_s`: what a pipeline gets to stop by itself.
        """
        running = self.under_way
        if running and within_s > 0:
            await asyncio.wait({active.ended for active in running}, timeout=within_s)
        for active in running:
            if not active.stop.done():
                message = "The gateway shut down while the run was under way."
                active.stop.set_result(Stop(code="server.draining", message=message, grace_s=grace_s))
        left = {active.ended for active in running if not active.ended.done()}
        if left:
            await asyncio.wait(left, timeout=grace_s + 1)

    async def abandon(self) -> None:
        """The log is lost: nothing that runs do can be kept, so they stop. The next start ends them."""
        self._draining = True
        await self._tasks.close()

    async def close(self) -> list[str]:
        """Let go of everything; returns the pipelines that would not stop."""
        await self._tasks.close()
        return await self._stragglers.close(timeout_s=0.5)


def _validated(pipeline: Pipeline, input: Any) -> Any:
    try:
        return pipeline.input_type.validate_python(input)
    except ValidationError as error:
        found = problems(error, "input")
        raise Invalid(detail=f"input: {found[0]['message']}", errors=found) from None
