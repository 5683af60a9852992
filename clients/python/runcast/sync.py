"""The client for programs without an event loop: the same client, on a loop in a thread of its own.

Rule 1: nothing is decided or known here. Every method is one call into the asynchronous object behind it.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from runcast.client import Acknowledged, Client, Pipeline, Run
from runcast.events import Event
from runcast.follow import OnConnection, Replay
from runcast.publisher import Outcome, Publisher
from runcast.state import RunState

T = TypeVar("T")


class SyncClient:
    """Client without `await`, used as `with`; takes what Client does. May be used from several threads."""

    def __init__(self, url: str, **settings: Any) -> None:
        self._settings = {"url": url, **settings}
        self._stack = ExitStack()
        self._client: Client
        self._portal: BlockingPortal

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            made = partial(Client, **self._settings)
            self._client = stack.enter_context(self._portal.wrap_async_context_manager(self._portal.call(made)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def run(self, id: str) -> "SyncRun":
        return SyncRun(self._portal, self._client.run(id))

    def start(
        self, pipeline: str, input: Any = None, *, key: str | None = None, owner: str | None = None, **options: Any
    ) -> "SyncRun":
        start = partial(self._client.start, pipeline, input, key=key, owner=owner, **options)
        return SyncRun(self._portal, self._portal.call(start))

    def runs(
        self, *, status: str | None = None, pipeline: str | None = None, limit: int | None = None
    ) -> Iterator[RunState]:
        return _each(self._portal, self._client.runs(status=status, pipeline=pipeline, limit=limit))

    def pipelines(self) -> list[Pipeline]:
        return self._portal.call(self._client.pipelines)


class SyncRun:
    def __init__(self, portal: BlockingPortal, run: Run) -> None:
        self.id = run.id
        self._portal = portal
        self._run = run

    def __repr__(self) -> str:
        return repr(self._run)

    def events(
        self,
        *,
        after: str | None = None,
        replay: Replay = "folded",
        types: Sequence[str] | None = None,
        on_connection: OnConnection | None = None,
    ) -> Iterator[Event]:
        """As Run.events; `on_connection` is called in the client's own thread."""
        events = self._run.events(after=after, replay=replay, types=types, on_connection=on_connection)
        return _each(self._portal, events)

    def state(self) -> RunState:
        return self._portal.call(self._run.state)

    def wait(self) -> RunState:
        return self._portal.call(self._run.wait)

    def cancel(self, reason: str | None = None) -> Acknowledged:
        return self._portal.call(self._run.cancel, reason)

    def pause(self) -> str:
        return self._portal.call(self._run.pause)

    def resume(self) -> str:
        return self._portal.call(self._run.resume)

    def input(self, input_id: str, value: Any) -> None:
        self._portal.call(self._run.input, input_id, value)

    def retry(self) -> "SyncRun":
        return SyncRun(self._portal, self._portal.call(self._run.retry))

    def erase(self) -> None:
        self._portal.call(self._run.erase)

    def publisher(self, **settings: Any) -> "SyncPublisher":
        """Takes what Publisher does."""
        return SyncPublisher(self._portal, self._portal.call(partial(Publisher, self._run, **settings)))


class SyncPublisher:
    """Publisher without `await`, used as `with`."""

    def __init__(self, portal: BlockingPortal, publisher: Publisher) -> None:
        self._portal = portal
        self._publisher = publisher

    def __enter__(self) -> Self:
        self._portal.call(self._publisher.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._portal.call(self._publisher.__aexit__, kind, error, trace)

    @property
    def status(self) -> str | None:
        return self._publisher.status

    @property
    def cancelled(self) -> bool:
        return self._publisher.cancelled

    def checkpoint(self) -> None:
        self._portal.call(self._publisher.checkpoint)

    def emit(self, type: str, **fields: Any) -> None:
        self._portal.call(partial(self._publisher.emit, type, **fields))

    def flush(self) -> None:
        self._portal.call(self._publisher.flush)

    def finish(self, status: Outcome = "completed", *, result: Any = None, error: dict[str, Any] | None = None) -> str:
        return self._portal.call(partial(self._publisher.finish, status, result=result, error=error))


def _each(portal: BlockingPortal, found: AsyncGenerator[T]) -> Iterator[T]:
    """One item after the other, each fetched when it is asked for."""
    asking: list[asyncio.Task[Any]] = []

    async def fetch() -> T:
        asking[:] = filter(None, [asyncio.current_task()])
        return await anext(found)

    async def close() -> None:
        # A Ctrl-C ends the waiting alone, not what is waited for.
        for task in asking:
            task.cancel()
            await asyncio.wait([task])
        await found.aclose()

    try:
        while True:
            try:
                item = portal.call(fetch)
            except StopAsyncIteration:
                return
            yield item
    finally:
        # Not waited for: this may run wherever the generator is thrown away, and the client's end closes the rest.
        with suppress(RuntimeError):
            portal.start_task_soon(close)
