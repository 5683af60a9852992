"""A gateway that is told to stop while clients follow runs."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from tests.e2e.clients import caller, started
from tests.e2e.process import GatewayProcess
from tests.faults.links import WAYS, Broken, Join, Link

KINDS = ("sse", "websocket")


@dataclass
class Watching:
    """One client of the drain: what it saw, and when and how its stream ended."""

    run: str
    kind: str
    types: list[str] = field(default_factory=list)
    errors: list[dict] = field(default_factory=list)
    away: list[dict] = field(default_factory=list)
    ended: str | int = ""
    ended_at: float = 0.0
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self, port: int) -> None:
        async with Link(port) as link:
            link.patience_s = 60
            async with contextlib.aclosing(WAYS[self.kind](link, Join(self.run))) as frames:
                with contextlib.suppress(Broken):
                    async for frame in frames:
                        self._take(frame)
            self.ended, self.ended_at = link.ended, time.time()

    def _take(self, frame: dict) -> None:
        self.types.append(frame["type"])
        if frame["type"] == "reconnect":
            self.away.append(frame)
        if frame["type"] == "run.failed":
            self.errors.append(frame["error"])
        if "id" in frame:
            self.ready.set()

    @property
    def back_at(self) -> float:
        """When it was told to come back, in Unix seconds."""
        return self.ended_at + self.away[0]["after_ms"] / 1000


@dataclass
class Drained:
    streams: list[Watching]
    exit_code: int = -1
    took_s: float = 0.0
    exited_at: float = 0.0
    unready_after_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"{len(self.streams)} streams drained in {self.took_s:.1f} s (exit {self.exit_code},"
            f" readyz 503 after {self.unready_after_s * 1000:.0f} ms)"
        )

    def faults(self) -> list[str]:
        """Streams that did not end as they should, in words."""
        wrong = []
        for each in self.streams:
            over = any(type in each.types for type in ("run.completed", "run.failed"))
            clean = each.ended == "chunk" if each.kind == "sse" else each.ended == 4100
            if not clean:
                wrong.append(f"{each.kind}: ended by {each.ended!r} after {each.types[-3:]}")
            if not over and len(each.away) != 1:
                wrong.append(f"{each.kind}: told {each.away}")
            if each.away and each.away[0]["reason"] != "server.draining":
                wrong.append(f"{each.kind}: told {each.away}")
            if not over and each.away and each.back_at < self.exited_at:
                wrong.append(f"{each.kind}: told to come back {self.exited_at - each.back_at:.2f} s too early")
        delays = [each.away[0]["after_ms"] for each in self.streams if each.away]
        if len(set(delays)) < 0.9 * len(delays):
            wrong.append(f"only {len(set(delays))} different delays for {len(delays)} clients")
        return wrong


async def drain(gateway: GatewayProcess, runs: Sequence[str], *, streams: int, while_draining=None) -> Drained:
    """Open so many streams over the runs, send SIGTERM, and watch all of it to its end."""
    found = Drained([Watching(runs[index % len(runs)], KINDS[index // len(runs) % 2]) for index in range(streams)])
    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        for each in found.streams:
            group.create_task(each.watch(gateway.port))
        for each in found.streams:
            await each.ready.wait()
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        group.create_task(_exit(gateway, found, began))
        async with caller(gateway) as client:
            # With little to drain it may be gone before it can be asked.
            with contextlib.suppress(httpx.TransportError):
                while (await client.get("/readyz")).status_code != 503:
                    await asyncio.sleep(0.005)
            found.unready_after_s = time.monotonic() - began
            if while_draining is not None:
                await while_draining(client)
    return found


async def _exit(gateway: GatewayProcess, found: Drained, began: float) -> None:
    found.exit_code = await asyncio.to_thread(gateway.process.wait, 60)
    found.took_s = time.monotonic() - began
    found.exited_at = time.time()


async def endless(gateway: GatewayProcess, count: int, *, gap_s: float = 0.05) -> list[str]:
    async with caller(gateway) as client:
        return [await started(client, "forever", gap_s=gap_s) for _ in range(count)]
