"""`runcast bench`: how long an event takes from its publisher to every viewer of its run.

Rule 1: everything is in one program with one clock, so the figures hold this program's own work too, and are no
better than the machine it runs on. What a gateway can do at most is measured elsewhere.
Rule 2: bounded: so many viewers, so many events, and an end.
"""

import argparse
import asyncio
import statistics
import sys
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from runcast.cli.exits import Exit
from runcast.client import Client, Run
from runcast.errors import RuncastError, Unreachable
from runcast.follow import Connection
from runcast.publisher import Publisher

TYPE = "x.bench"
JOIN_WITHIN_S = 30


@dataclass
class Viewer:
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[int] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)

    def connection(self, connection: Connection) -> None:
        if connection.status == "connected":
            self.joined.set()

    async def watch(self, run: Run) -> None:
        async with aclosing(run.events(replay="full", types=[TYPE], on_connection=self.connection)) as events:
            async for event in events:
                if event.type == TYPE:
                    fields = event.fields()
                    self.seen.append(fields["number"])
                    self.took_s.append(time.perf_counter() - fields["sent"])


async def bench(client: Client, options: argparse.Namespace) -> int:
    viewers = [Viewer() for _ in range(options.viewers)]
    run = await client.start("external", {"title": "runcast bench"})
    try:
        took_s = await _load(run, viewers, events=options.events, rate=options.rate)
    except BaseException as error:
        with suppress(RuncastError):
            await run.cancel("the measurement was broken off")
        if isinstance(error, ExceptionGroup):
            raise error.exceptions[0] from None  # one viewer's trouble is enough to tell
        raise
    found = figures(viewers, events=options.events, took_s=took_s)
    _print(found, json=options.json)
    return Exit.FAILED if found["wrong"] else Exit.OK


async def _load(run: Run, viewers: list[Viewer], *, events: int, rate: int) -> float:
    """How long it took, in seconds."""
    async with asyncio.TaskGroup() as group, Publisher(run, producer="bench") as publisher:
        for viewer in viewers:
            group.create_task(viewer.watch(run))
        try:
            async with asyncio.timeout(JOIN_WITHIN_S):
                await asyncio.gather(*(viewer.joined.wait() for viewer in viewers))
        except TimeoutError:
            raise Unreachable(f"not all viewers were connected within {JOIN_WITHIN_S} s") from None
        began = time.perf_counter()
        for number in range(events):
            due = began + number / rate
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            await publisher.emit(TYPE, number=number, sent=time.perf_counter())
        await publisher.finish("completed")
    return time.perf_counter() - began


def figures(viewers: list[Viewer], *, events: int, took_s: float) -> dict[str, Any]:
    """Latencies in milliseconds; `wrong`: viewers who did not see every event once and in order."""
    ms = sorted(1000 * each for viewer in viewers for each in viewer.took_s)
    cuts = statistics.quantiles(ms, n=100, method="inclusive") if len(ms) > 1 else ms * 99
    return {
        "viewers": len(viewers),
        "events": events,
        "delivered": len(ms),
        "wrong": sum(viewer.seen != list(range(events)) for viewer in viewers),
        "took_s": round(took_s, 3),
        "per_s": round(len(ms) / took_s),
        **{name: round(cuts[at - 1], 2) for name, at in (("p50_ms", 50), ("p95_ms", 95), ("p99_ms", 99)) if cuts},
        **({"max_ms": round(ms[-1], 2)} if ms else {}),
    }


def _print(found: dict[str, Any], *, json: bool) -> None:
    if json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
        sys.stdout.flush()
        return
    found = {"p50_ms": "-", "p95_ms": "-", "p99_ms": "-", "max_ms": "-", **found}
    sys.stdout.write(
        "{viewers} viewers, {events} events: {delivered} delivered in {took_s} s ({per_s}/s), {wrong} viewers wrong\n"
        "latency ms: p50 {p50_ms}  p95 {p95_ms}  p99 {p99_ms}  max {max_ms}\n".format(**found)
    )
    sys.stdout.flush()
