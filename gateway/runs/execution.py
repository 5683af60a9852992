"""One run of a pipeline, from `run.started` to its terminal event.

Rule 1: cancel is a state, not a hope. The pipeline's task is cancelled and has the grace to end; then the run ends
without it, and what the straggler says is refused.
Rule 2: what a viewer reads is safe: the text of an unexpected exception stays in the log, under an incident id.
"""

import asyncio
import contextlib
import secrets
from typing import Any

import structlog

from gateway.errors import Conflict, TooLarge, Unavailable
from gateway.runs.active import ActiveRun, RunSink, Stop
from gateway.tasks import Tasks
from gateway.wire import events
from gateway.wire.events import Draft
from pipeline import BudgetExceeded, Context, Pipeline, PipelineError

log = structlog.get_logger(__name__)


class Execution:
    """`grace_s`: what a pipeline gets to stop by itself. `stragglers` owns those that did not."""

    def __init__(
        self,
        run: ActiveRun,
        pipeline: Pipeline,
        input: Any,
        options: dict[str, Any],
        *,
        grace_s: float,
        stragglers: Tasks,
    ) -> None:
        self._run = run
        self._pipeline = pipeline
        self._input = input
        self._options = options
        self._grace_s = grace_s
        self._stragglers = stragglers

    async def run(self) -> None:
        """Never raises, unless it is cancelled itself."""
        run = self._run
        try:
            try:
                await run.append(events.lifecycle("run.started"))
                cursor = await run.end(await self._outcome())
            except Conflict:
                cursor = None
            if cursor is None:
                # A cancel took effect before the run began, or just before it would have ended.
                await run.end(run.cancelled(await run.stop, forced=False))
        except Unavailable:
            # Nothing more can be written; the next start ends the run as orphaned.
            log.error("run abandoned: the log is not available", run=run.id)

    async def _outcome(self) -> Draft:
        run = self._run
        context = Context(RunSink(run), run=run.id, options=self._options)
        task = self._stragglers.spawn(self._call(context), name=run.id)
        try:
            await asyncio.wait({task, run.stop}, timeout=self._options.get("timeout_s"), return_when="FIRST_COMPLETED")
        except asyncio.CancelledError:
            task.cancel()
            raise
        late = not (task.done() or run.stop.done())
        stopped = await self._stopped(task, self._grace_s) if late else False
        if run.cancel_asked:
            await run.stop  # `run.cancelling` is written, or is about to be
        if run.stop.done():
            stop = run.stop.result()
            if not late:
                stopped = await self._stopped(task, self._grace_s if stop.grace_s is None else stop.grace_s)
            if stop.code:
                return run.failed(stop.code, stop.message, retryable=True)
            return run.cancelled(stop, forced=not stopped)
        if late:
            return run.failed("run.timeout", "The run took longer than it was allowed.", retryable=True)
        return self._judge(task)

    async def _call(self, context: Context) -> Any:
        try:
            result = await self._pipeline(context, self._input)
            return self._pipeline.result_type.dump_python(result, mode="json", warnings="error")
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - an author's code may raise anything, SystemExit too
            return Failed(error)

    async def _stopped(self, task: asyncio.Task[Any], grace_s: float) -> bool:
        """Cancel the pipeline; whether it ended within the grace."""
        task.cancel()
        await asyncio.wait({task}, timeout=grace_s)
        if not task.done():
            log.warning("the pipeline does not stop", run=self._run.id, pipeline=self._pipeline.name)
            task.cancel()
        return task.done()

    def _judge(self, task: asyncio.Task[Any]) -> Draft:
        run = self._run
        if task.cancelled():
            return run.failed("pipeline.error", "The pipeline gave up.", retryable=False)
        result = task.result()
        if isinstance(result, Failed):
            return self._failure(result.error)
        try:
            return run.completed(result)
        except TooLarge:
            return run.failed("result.too_large", "The result is too large to be kept.", retryable=False)
        except (TypeError, ValueError, RecursionError) as error:
            return self._failure(error)

    def _failure(self, error: BaseException) -> Draft:
        run = self._run
        if isinstance(error, BudgetExceeded):
            return run.cancelled(Stop(by="gateway", reason="budget"), forced=False)
        if isinstance(error, PipelineError):
            # Words or a code that cannot be told are a bug like any other.
            with contextlib.suppress(Exception):
                return run.failed(error.code, str(error) or error.code, retryable=error.retryable)
        incident = secrets.token_hex(6)
        log.error("pipeline failed", run=run.id, pipeline=self._pipeline.name, incident=incident, exc_info=error)
        message = f"The pipeline failed. Incident {incident}."
        return run.failed("pipeline.error", message, retryable=False, incident=incident)


class Failed:
    """An exception as a value: the task that met it is not the one that judges it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
