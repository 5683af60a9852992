"""The group commit of the SQLite broker, and its two threads.

Rule 1: one transaction for all that is pending. While a commit is under way further calls gather, and the next commit
takes them all; so the cost of a commit is shared, and no call waits for more than two. Where many say something at
the same time, the next commit lets a few milliseconds' worth of it gather, and where nobody is there to see it, more.
Rule 2: SQL runs in threads, one that writes and one that reads; the loop never waits for a disk.
Rule 3: a write that fails is the end: offsets have been given that the log does not hold.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from gateway.broker import sqlite_file as file
from gateway.broker.counts import Counts
from gateway.broker.sqlite_batch import Batch, Placed
from gateway.broker.sqlite_journal import Journal, move
from gateway.errors import Unavailable

log = structlog.get_logger(__name__)
T = TypeVar("T")

GATHER_S = 0.005
GATHER_STEP_S = 0.001
GATHER_UNSEEN_S = 0.05


class GroupCommit:
    """One opened file. Everything raises Unavailable once a write has failed, and before `open`."""

    def __init__(self, path: Path, *, settle: Callable[[Placed], None]) -> None:
        self.batch = Batch()
        self.journal = Journal()
        self.over = asyncio.Event()
        self.counts = Counts()
        self._path = path
        self._opened: file.Opened | None = None
        self._failure: BaseException | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="sqlite-read")
        self._settle = settle
        self._waiting: list[asyncio.Future[None]] = []
        self._closing = False
        self._hurried: asyncio.Future[None] | None = None
        self._committing: asyncio.Task[None] | None = None

    @property
    def queue(self) -> int:
        """How many events wait for a commit that has not begun."""
        return len(self.batch)

    @property
    def available(self) -> bool:
        return self._failure is None

    async def open(self, *, durable: bool, boot: str) -> None:
        """Raises one of `sqlite_file.ERRORS`."""
        opening = partial(file.open_file, self._path, durable=durable, boot=boot)
        self._opened = await asyncio.get_running_loop().run_in_executor(self._writer, opening)

    async def close(self) -> None:
        """Commit what is pending and let go of the file. Idempotent."""
        self._closing = True
        while self._committing is not None:
            self._hurry()
            await asyncio.wait([self._committing])
        opened, self._opened = self._opened, None
        if opened is not None:
            try:
                await asyncio.get_running_loop().run_in_executor(self._writer, file.close_file, opened)
            except file.ERRORS as error:
                log.error("the log was not closed in order", error=str(error))
        self._failure = self._failure or RuntimeError("closed")
        self._reader.shutdown()
        self._writer.shutdown()

    def check(self) -> file.Opened:
        if self._failure is not None or self._opened is None:
            raise Unavailable("broker.unavailable")
        return self._opened

    def soon(self, *, seen: bool) -> None:
        """See to it that the batch is committed. `seen`: somebody waits for it, or watches a run in it."""
        if self._committing is None:
            # Owned here: alive while anything is pending, and `close` waits for it.
            self._committing = asyncio.get_running_loop().create_task(self._commit_all())
        elif seen:
            self._hurry()

    def _hurry(self) -> None:
        """End a gathering that nobody waited for."""
        if self._hurried is not None and not self._hurried.done():
            self._hurried.set_result(None)

    async def durable(self) -> None:
        """Return when all that was put into the batch up to now is committed and settled."""
        self.check()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self.soon(seen=True)
        await done

    async def _commit_all(self) -> None:
        """Commit until nothing is pending; move the journal when it is full."""
        many = False
        try:
            while self._waiting or self.batch:
                if many or self._unseen:
                    await self._gather()
                many = len(self.batch) > 1
                await self._commit()
                if self.journal.full:
                    await self._in_turn(move)
                    self.journal.moved()
        except BaseException as error:  # noqa: BLE001 - whatever it was, the offsets are spent
            self._fail(error)
        finally:
            self._committing = None

    async def _gather(self) -> None:
        """Wait a little for what else is said: a commit costs much the same for one event or fifty.

        Those who wait for it themselves may have nothing more to say, so for them only as long as more and more comes.
        """
        loop = asyncio.get_running_loop()
        if self._unseen:
            self._hurried = loop.create_future()
            await asyncio.wait([self._hurried], timeout=GATHER_UNSEEN_S)
            return
        deadline, size = loop.time() + GATHER_S, 0
        while size < len(self.batch) and loop.time() < deadline:
            size = len(self.batch)
            await asyncio.sleep(GATHER_STEP_S if self._waiting else GATHER_S)

    @property
    def _unseen(self) -> bool:
        """Whether nobody waits for the batch or sees what is in it."""
        return not (self._closing or self._waiting or any(stream.watched for stream in self.batch.placed))

    async def _commit(self) -> None:
        batch, self.batch = self.batch, Batch()
        waiting, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._in_turn(batch.commit)
        except BaseException:
            self._waiting = [*waiting, *self._waiting]
            raise
        self.counts.committed(loop.time() - began, events=len(batch))
        self.journal.add(batch.placed.items(), rows=len(batch), bytes=batch.bytes)
        self._settle(batch.placed)
        for done in waiting:
            if not done.done():
                done.set_result(None)

    async def _in_turn(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work, self.check().write)

    def _fail(self, error: BaseException) -> None:
        log.error("the log cannot be written any more", path=str(self._path), error=str(error))
        self._failure = error
        self.over.set()
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            if not done.done():
                done.set_exception(Unavailable("broker.unavailable"))
                done.exception()  # the caller may be gone

    async def change(self, work: Callable[..., T], *args: object) -> T:
        """A transaction of its own, in its turn among the commits: `work(connection, *args)`."""
        try:
            return await self._in_turn(lambda write: work(write, *args))
        except file.ERRORS as error:
            self._fail(error)
            raise Unavailable("broker.unavailable") from None

    async def query(self, question: Callable[..., T], *args: object) -> T:
        """`question(connection, *args)` of what is committed."""
        opened = self.check()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, partial(question, opened.read, *args))
        except file.ERRORS as error:
            log.error("the log cannot be read", path=str(self._path), error=str(error))
            if file.is_damage(error) and self._failure is None:
                self._fail(error)  # what is written from now on might never be read
            raise Unavailable("broker.unavailable") from None
