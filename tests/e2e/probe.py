"""A pipeline that looks at the gateway from within: how long its event loop was held, and what is in it.

The first run of `probe` begins to measure, and each run tells what was seen since the last.
"""

import asyncio
import gc
import time

from pydantic import BaseModel

from pipeline import Context, pipeline

EVERY_S = 0.005


class Asked(BaseModel):
    """`collect`: let the garbage collector run first, which is not counted. `rest`: measure no more for now."""

    collect: bool = False
    rest: bool = False


class Seen(BaseModel):
    """`held_ms`: the longest that the loop was late for its clock. `computed_ms`: of that, what it computed itself.

    The rest of `held_ms` is a wait for the disk or for a processor that others had.
    """

    held_ms: float
    computed_ms: float
    tasks: int


class _Probe:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.begin()

    def begin(self) -> None:
        self.held_s = self.computed_s = 0.0
        self._at, self._cpu_s = time.perf_counter(), time.thread_time()
        self._timer = self._loop.call_later(EVERY_S, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now, cpu_s = time.perf_counter(), time.thread_time()
        late_s = now - self._at - EVERY_S
        self.held_s = max(self.held_s, late_s)
        self.computed_s = max(self.computed_s, min(late_s, cpu_s - self._cpu_s))
        self._at, self._cpu_s = now, cpu_s
        self._timer = self._loop.call_later(EVERY_S, self._look)


_probes: list[_Probe] = []


@pipeline("probe")
async def probe(ctx: Context, input: Asked) -> Seen:
    """Tells what was seen since the last run of it."""
    if not _probes:
        _probes.append(_Probe())
    watching = _probes[0]
    watching.stop()
    if input.collect:
        gc.collect()
    tasks = len(asyncio.all_tasks())
    held_ms, computed_ms = (round(each * 1000, 1) for each in (watching.held_s, watching.computed_s))
    if input.rest:
        watching.held_s = watching.computed_s = 0.0
    else:
        watching.begin()
    return Seen(held_ms=held_ms, computed_ms=computed_ms, tasks=tasks)
