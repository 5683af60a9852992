"""Speak for a run whose work happens elsewhere: events out, cancel and pause in (PROTOCOL section 4).

Rule 1: each event arrives once and in order. One request is under way at a time; it has a number (`Producer`), and is
made again with the same number and the same bytes until it is answered.
Rule 2: memory is bounded: what was said and not yet taken by the gateway waits in a buffer, and who says more waits.
Rule 3: a request that the gateway refuses for good ends the publisher; what the worker said before is there.
"""

import asyncio
import contextlib
import re
import time
from collections import deque
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal, Self

import orjson
from pydantic import ValidationError

from runcast.api import wait_ms
from runcast.client import Run
from runcast.errors import Cancelled, Conflict, Refused, RuncastError, Unreachable
from runcast.events import TYPES, Gap

MAX_EVENTS = 1000  # of one request
MAX_BATCH_BYTES = 256 << 10
MAX_BUFFER_BYTES = 1 << 20
PATIENCE_S = 600
Outcome = Literal["completed", "failed", "cancelled"]
_OWN_TYPE = re.compile(r"x\.[a-z0-9_.-]{1,64}", re.ASCII)
_RESERVED = frozenset(("run", "id", "ts"))
_SPLITTING = frozenset((413, 422))  # one event of a batch may be to blame


class Publisher:
    """Speaks for `run`, a run of the pipeline `external`; used as `async with`.

    `producer` names the worker's part in the run. `epoch`: a later worker of the same name has a higher one and shuts
    the earlier one out (by default the time it began). `patience_s`: how long an outage may last.

    A block that ends by itself leaves the run open with everything sent; one that ends by Cancelled ends the run
    `cancelled` and goes no further; by another exception, `failed`. When its task is cancelled, or by what ended the
    publisher, the run stays as the gateway has it. Nothing can be said after the block.
    """

    def __init__(
        self,
        run: Run,
        *,
        producer: str = "worker",
        epoch: int | None = None,
        max_buffer_bytes: int = MAX_BUFFER_BYTES,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.run = run
        self.status: str | None = None  # what the run ended as
        self._producer = producer
        self._epoch = int(time.time() * 1000) if epoch is None else epoch
        self._seq = 1
        self._max_buffer_bytes = max_buffer_bytes
        self._patience_s = patience_s
        self._buffer: deque[bytes] = deque()
        self._bytes = 0
        self._numbering = asyncio.Lock()
        self._failure: Exception | None = None
        self._told = False  # the worker knows of it
        self._unanswered: Unreachable | None = None  # what became of `finish`
        self._cancelled = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()
        self._changed = asyncio.Condition()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        self._tasks = asyncio.create_task(self._send()), asyncio.create_task(self._watch())
        # Nobody tells of a resumption any more.
        self._tasks[1].add_done_callback(lambda _: self._going.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            return await self._leave(error)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._failure is None:
                await self._fail(RuncastError("the publisher has ended"))

    async def _leave(self, error: BaseException | None) -> bool:
        """Whether the exception that ended the block goes no further."""
        if self.status is not None:
            return False
        if error is None:
            if not self._told:
                await self.flush()
        elif isinstance(error, Cancelled):
            try:
                await self.finish("cancelled")
            except Cancelled:
                self.status = "cancelled"  # it has ended so meanwhile
            return True
        elif isinstance(error, Exception) and error not in (self._failure, self._unanswered):
            # Its text may hold what no viewer is meant to see.
            said = {"code": "pipeline.error", "message": f"The worker failed ({type(error).__name__})."}
            with contextlib.suppress(RuncastError):  # the worker's own exception is the one to tell
                await self.finish("failed", error={**said, "retryable": False})
        return False

    @property
    def cancelled(self) -> bool:
        """Whether somebody has cancelled the run. It then ends `cancelled`, whatever is said here."""
        return self._cancelled.is_set()

    async def until_cancelled(self) -> None:
        await self._cancelled.wait()

    async def checkpoint(self) -> None:
        """Return when the run may go on: waits while it is paused. Raises as `emit`, Cancelled as soon as it was."""
        await asyncio.sleep(0)  # for what came in meanwhile
        await self._going.wait()
        if self.cancelled:
            raise Cancelled(f"run {self.run.id} was cancelled")
        self._raise_failure()

    async def emit(self, type: str, **fields: Any) -> None:
        """Say one event; returns when there is room for it. It is sent in the background.

        Raises ValueError when it is not as PROTOCOL section 2 has it, and what ended the publisher: Cancelled when
        the run is over by that, Refused, Unreachable.
        """
        event = _event(type, fields)
        async with self._changed:
            await self._changed.wait_for(lambda: self._failure or self._bytes < self._max_buffer_bytes)
            self._raise_failure()
            self._buffer.append(event)
            self._bytes += len(event)
            self._changed.notify_all()
        await asyncio.sleep(0)  # a worker that does nothing but speak lets it be sent

    async def flush(self) -> None:
        """Return when the gateway has everything that was said. Raises as `emit`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._failure or not self._buffer)
            self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self._told = True
            raise self._failure

    async def finish(
        self, status: str = "completed", *, result: Any = None, error: dict[str, Any] | None = None
    ) -> str:
        """End the run and return what it ended as. `error`: `{code, message, retryable}`. Raises as `emit`."""
        if self._failure is None or status == "completed":
            await self.flush()
        body: dict[str, Any] = {"status": status, "result": result}
        if error is not None:
            body["error"] = error
        content = orjson.dumps(body)
        try:
            try:
                answer = await self._numbered("finish", content)
            except Conflict as refusal:
                if refusal.code != "key.conflict":
                    raise
                # The number is that of events whose answer never came: they had arrived.
                self._seq += 1
                answer = await self._numbered("finish", content)
        except Conflict as refusal:
            if refusal.code != "run.finished":
                raise
            self.status = (await self.run.state()).status
        except Unreachable as silence:
            self._unanswered = silence
            raise
        else:
            with self.run.understood():
                self.status = str(answer["status"])
        return self.status

    async def _send(self) -> None:
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._buffer)
                    batch = self._batch()
                await self._append(batch)
                await self._let_go(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            await self._fail(error)

    def _batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        for event in self._buffer:
            size += len(event)
            if batch and (size > MAX_BATCH_BYTES or len(batch) == MAX_EVENTS):
                break
            batch.append(event)
        return batch

    async def _append(self, batch: list[bytes]) -> None:
        try:
            await self._numbered("events", b'{"events":[' + b",".join(batch) + b"]}")
        except Refused as refusal:
            if refusal.status not in _SPLITTING or len(batch) == 1:
                raise
            for event in batch:
                await self._append([event])

    async def _let_go(self, batch: list[bytes]) -> None:
        async with self._changed:
            for event in batch:
                self._buffer.popleft()
                self._bytes -= len(event)
            self._changed.notify_all()

    async def _fail(self, error: Exception) -> None:
        if isinstance(error, Conflict) and error.code == "run.finished":
            with contextlib.suppress(Exception):
                if (await self.run.state()).status == "cancelled":
                    self._cancelled.set()
                    error = Cancelled(f"run {self.run.id} was cancelled")
        async with self._changed:
            self._failure = error
            self._buffer.clear()
            self._bytes = 0
            self._changed.notify_all()
        self._going.set()

    async def _numbered(self, what: str, body: bytes) -> Any:
        """One request of the sequence, until it is answered. Raises Refused, Unreachable."""
        now = asyncio.get_running_loop().time
        failures, give_up_at = 0, now() + self._patience_s
        async with self._numbering:
            headers = {"Producer": f"{self._producer}; epoch={self._epoch}; seq={self._seq}"}
            while True:
                try:
                    answer = await self.run.call("POST", what, body=body, headers=headers)
                except RuncastError as error:
                    left_s = give_up_at - now()
                    if not error.retryable or left_s <= 0:
                        raise
                    await asyncio.sleep(min(wait_ms(error, failures=failures) / 1000, left_s))
                    failures += 1
                else:
                    self._seq += 1  # a refused request has used no number
                    return answer

    async def _watch(self) -> None:
        """Notice a cancel and a pause. A token that may not read is told of the end by refusals alone."""
        failures = 0
        while True:
            try:
                async with aclosing(self.run.events(types=["run.cancelling"])) as events:
                    async for event in events:
                        self._notice(event.type)
                return
            except Unreachable as error:
                await asyncio.sleep(wait_ms(error, failures=failures) / 1000)
                failures += 1
            except Refused:
                return

    def _notice(self, type: str) -> None:
        match type:
            case "run.paused":
                self._going.clear()
            case "run.cancelling" | "run.cancelled":
                self._cancelled.set()
                self._going.set()
            case "run.resumed" | "run.failed":
                self._going.set()


def _event(type: str, fields: dict[str, Any]) -> bytes:
    """The event's JSON. Raises ValueError."""
    if not _RESERVED.isdisjoint(fields):
        raise ValueError(f"{', '.join(sorted(_RESERVED & fields.keys()))}: reserved")
    model = TYPES.get(type)
    if type.startswith("run.") or model is Gap or (model is None and not _OWN_TYPE.fullmatch(type)):
        raise ValueError(f"{type!r} is not a type of work event")
    try:
        event = orjson.dumps({"type": type, **fields})
    except TypeError as error:
        raise ValueError(f"{type}: not JSON: {error}") from None
    if model is not None:
        placed = orjson.dumps({"type": type, "run": "", "id": "", "ts": 0, **fields})
        try:
            model.model_validate_json(placed, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ValueError(f"{type}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return event
