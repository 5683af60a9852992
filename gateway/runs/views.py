"""Runs as their callers see them.

Rule 1: authorization for a run happens in `find`; a run that may not be seen does not exist.
"""

import asyncio
from typing import Any, NamedTuple

from gateway.broker import Broker, Page, Run, Visible
from gateway.errors import Conflict, NotFound, RunFailed
from gateway.runs.roster import Roster, fold_log
from gateway.wire import json
from gateway.wire.cursor import Cursor
from gateway.wire.state import State
from gateway.wire.status import Status


class Caller(NamedTuple):
    """Who asks: a subject, what it may see, and whether it may act for others."""

    subject: str
    visible: Visible
    delegate: bool = False


class Views:
    def __init__(self, broker: Broker, roster: Roster) -> None:
        self._broker = broker
        self._roster = roster

    async def find(self, caller: Caller, run: str) -> Run:
        """Raises NotFound, the same for a run that is not there and one that the caller may not see."""
        record = await self._broker.get(run)
        if record is None or not caller.visible.shows(record):
            raise NotFound
        return record

    async def describe(self, run: Run) -> dict[str, Any]:
        """The folded state, as `GET /runs/{id}` answers it. Raises NotFound."""
        active = self._roster.get(run.id)
        if active is not None:
            state, tail = active.state, active.tail
        else:
            state, tail = await fold_log(self._broker, run.id, upto=run.tail), run.tail
            if run.status.terminal and not state.status.terminal:
                raise NotFound  # it is being erased
        return {**_names(run), **state.fields(), "tail": str(Cursor(run.epoch, tail))}

    async def state(self, run: str, *, upto: int) -> State:
        """The folded state with all events up to an offset, and perhaps more."""
        active = self._roster.get(run)
        if active is not None and active.tail >= upto:
            return active.state
        return await fold_log(self._broker, run, upto=upto)

    async def latest(self, caller: Caller, pipeline: str) -> Run:
        """The caller's newest run of a pipeline. Raises NotFound when there is none."""
        found = await self._broker.page(Page(caller.visible, pipeline=pipeline, limit=1))
        if not found:
            raise NotFound
        return found[0]

    async def page(self, page: Page) -> tuple[list[dict[str, Any]], str | None]:
        """Summaries, newest first, and where the next page begins (None: nowhere)."""
        records = await self._broker.page(page._replace(limit=page.limit + 1))
        shown = records[: page.limit]
        return [self._summary(run) for run in shown], shown[-1].id if len(records) > page.limit else None

    def _summary(self, run: Run) -> dict[str, Any]:
        active = self._roster.get(run.id)
        if active is not None:
            return {**_names(run), **active.state.summary()}
        if run.summary is not None:
            return {**_names(run), **json.loads(run.summary)}
        return {
            **_names(run),
            "status": run.status,
            "created_at": run.created_at,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
        }

    async def outcome(self, run: Run) -> dict[str, Any]:
        """Wait for a run's end and describe it.

        Raises RunFailed, or Conflict (`run.cancelled`), each with the run's `id` and `error`. NotFound: it was erased.
        """
        active = self._roster.get(run.id)
        if active is not None:
            self._roster.watching(run.id, 1)
            lost = asyncio.ensure_future(self._broker.lost())
            try:
                # The run goes on when this caller stops waiting.
                await asyncio.wait({active.ended, lost}, return_when="FIRST_COMPLETED")
            finally:
                lost.cancel()
                self._roster.watching(run.id, -1)
        ended = await self._broker.get(run.id)
        if ended is None:
            raise NotFound
        described = await self.describe(ended)
        members = {"id": run.id, "error": described["error"]}
        if described["status"] == Status.FAILED:
            raise RunFailed(detail=described["error"]["message"], members=members)
        if described["status"] == Status.CANCELLED:
            raise Conflict("run.cancelled", members=members)
        return described


def _names(run: Run) -> dict[str, Any]:
    named = {"id": run.id, "pipeline": run.pipeline, "owner": run.owner}
    return named if run.retry_of is None else {**named, "retry_of": run.retry_of}
