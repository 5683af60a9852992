"""What a stage may say and ask while it runs.

Rule 1: a Context turns calls into events (PROTOCOL section 2, table "Work") and hands them to its Sink, one by
one and in order; when a call returns, the sink has accepted the event.
Rule 2: cancellation arrives as asyncio.CancelledError at an await; a Context never swallows it.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import ContextVar, Token
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar

from pydantic import TypeAdapter

from pipeline.spending import EXPECTED_OUTPUT_TOKENS, Call, Priced, Spending, Usage, budget_of

Fields = dict[str, Any]
P = ParamSpec("P")
R = TypeVar("R")

# The stage that the current task is in: stages may run side by side, each in its own task.
_stage: ContextVar[str] = ContextVar("stage", default="main")


class Sink(Protocol):
    """Where a run's events go. The gateway's implementation makes them durable; `Recorder` keeps them in a list."""

    async def ask(self, prompt: str, expected: TypeAdapter[Any]) -> Any:
        """Put a question to the run's viewers and return the answer, which is as expected."""

    async def emit(self, type: str, fields: Fields) -> None:
        """Accept one event. Raises ValueError when its fields are not as the protocol says."""

    async def checkpoint(self) -> None:
        """Return when the run may go on: waits while it is paused."""


class Context:
    """Handed to a pipeline as its first argument; good for one run.

    `run` is the run's id, `options` what the caller asked for beside the input (such as `budget_usd`).
    """

    def __init__(self, sink: Sink, *, run: str = "", options: Mapping[str, Any] | None = None) -> None:
        self.run = run
        self.options: Mapping[str, Any] = options or {}
        self._sink = sink
        self._spending = Spending(sink.emit, limit_usd=budget_of(self.options))

    @property
    def usage(self) -> Usage:
        """What the calls to models took that have ended so far."""
        return self._spending.usage.model_copy()

    def stage(self, name: str, *, index: int, of: int) -> "Stage":
        """Bracket one stage, `index` counted from 1 out of `of`; used as `async with`.

        `stage.completed` is said only when the block ends without an exception.
        """
        return Stage(self, name, index=index, of=of)

    async def emit(self, type: str, **fields: Any) -> None:
        """Say any work event, most often the author's own `x.<name>`. Values must be JSON."""
        await self._sink.emit(type, fields)

    async def progress(self, progress: float, message: str, *, stats: Mapping[str, Any] | None = None) -> None:
        """Say how far the whole run is, 0 to 100, and what it is doing now."""
        await self._sink.emit("progress", _present(stage=_stage.get(), message=message, progress=progress, stats=stats))

    async def draft(self, draft: str, *, message: str | None = None, progress: float | None = None) -> None:
        """Show a whole intermediate text of this stage; a later one takes its place."""
        await self._sink.emit("draft", _present(stage=_stage.get(), draft=draft, message=message, progress=progress))

    async def delta(
        self, block: str, delta: str, *, cites: Sequence[Mapping[str, str]] | None = None, done: bool | None = None
    ) -> None:
        """Append text to a block. `cites` are `{key, source}`; `done` says that the block is complete."""
        await self._sink.emit("delta", _present(block=block, delta=delta, cites=cites, done=done))

    async def warning(self, code: str, message: str) -> None:
        """Say that something went wrong and the run goes on without it."""
        await self._sink.emit("warning", {"code": code, "message": message})

    def llm(self, model: Priced, *, given: int, expected: int = EXPECTED_OUTPUT_TOKENS, streams: bool = True) -> Call:
        """Bracket one call to a model that is paid for; used as `async with`, whose value is told what comes.

        `given`: tokens of the prompt, estimated (`pipeline.spending.tokens`); `expected`: of an answer. The call is
        told by `llm.started` and `llm.completed`. Raises OverBudget when the run's `budget_usd` is spent.
        """
        return self._spending.call(model, given=given, expected=expected, streams=streams)

    async def checkpoint(self) -> None:
        """A place where the run may be paused or cancelled; call it between pieces of work."""
        await self._sink.checkpoint()

    async def ask(self, prompt: str, schema: Any = str) -> Any:
        """Ask a person and wait for the answer.

        `schema` is what it must be: a type or pydantic model (text by default); the answer comes validated.
        """
        return await self._sink.ask(prompt, TypeAdapter(schema))

    async def in_thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a blocking function beside the event loop and return what it returns.

        A cancelled run stops waiting at once; the function itself cannot be stopped and its result is dropped.
        """
        return await in_thread(function, *args, **kwargs)


class Stage:
    """One stage of a run, as an async context manager (see `Context.stage`)."""

    def __init__(self, ctx: Context, name: str, *, index: int, of: int) -> None:
        self.name = name
        self._ctx = ctx
        self._position = {"stage": name, "index": index, "of": of}

    async def __aenter__(self) -> Self:
        await self._ctx.checkpoint()
        await self._ctx.emit("stage.started", **self._position)
        self._token: Token[str] = _stage.set(self.name)
        self._began = time.monotonic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _stage.reset(self._token)
        if kind is None:
            duration_ms = round((time.monotonic() - self._began) * 1000)
            await self._ctx.emit("stage.completed", **self._position, duration_ms=duration_ms)


class Recorder:
    """A Sink that keeps every event as `(type, fields)`: enough to run and test a pipeline on its own.

    `answers` are given to its questions, one by one.
    """

    def __init__(self, *, answers: Iterable[Any] = ()) -> None:
        self.events: list[tuple[str, Fields]] = []
        self._answers = iter(answers)

    async def ask(self, prompt: str, expected: TypeAdapter[Any]) -> Any:
        input_id = str(len(self.events))
        await self.emit("input.requested", {"input_id": input_id, "prompt": prompt, "schema": expected.json_schema()})
        answer = expected.validate_python(next(self._answers))
        await self.emit("input.received", {"input_id": input_id, "by": "recorder"})
        return answer

    async def emit(self, type: str, fields: Fields) -> None:
        self.events.append((type, fields))

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a blocking function in a thread of its own.

    Not the loop's executor: its threads are joined at exit, so one function that never returns would keep the
    whole process from ending.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[R] = loop.create_future()

    def settle(tell: Callable[[], None]) -> None:
        if not outcome.done():
            tell()

    def work() -> None:
        try:
            tell = partial(outcome.set_result, function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the caller
            # StopIteration cannot travel through a future.
            failure = RuntimeError(repr(error)) if isinstance(error, StopIteration) else error
            tell = partial(outcome.set_exception, failure)
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to tell
            loop.call_soon_threadsafe(settle, tell)

    threading.Thread(target=work, name=getattr(function, "__name__", "in_thread"), daemon=True).start()
    return await outcome


async def side_by_side(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run these until all have ended. The first that raises cancels the others and is raised as itself, not in a group.

    What ends a run must reach it as what it is.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None


def _present(**fields: Any) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}
