"""Clients that do not read, among clients that do: what they cost the others, and the gateway."""

import asyncio
import contextlib
import time
from dataclasses import dataclass

from tests.e2e.clients import caller, eventually, started
from tests.e2e.process import GatewayProcess
from tests.faults import crowd

PREFIX = {"prefix": 300, "size": 8192}  # more than the kernel and the gateway hold for a client
GAP_S = 0.1
MAX_BUFFER_BYTES = 262_144
SETTINGS = {"pipelines": "tests.faults.pipelines", "max_buffer_bytes": MAX_BUFFER_BYTES, "log_level": "warning"}


@dataclass
class Crowded:
    """`p99_*` in seconds, `held_bytes` the growth for each stuck client, `ratio` of the best of the tries."""

    readers: int
    stuck: int
    tries: int = 0
    p99_alone: float = 0
    p99_beside: float = 0
    held_bytes: int = 0

    @property
    def ratio(self) -> float:
        return self.p99_beside / self.p99_alone

    def __str__(self) -> str:
        return (
            f"{self.readers} readers: p99 {self.p99_alone * 1000:.1f} ms alone, {self.p99_beside * 1000:.1f} ms beside"
            f" {self.stuck} that never read (ratio {self.ratio:.2f}, try {self.tries});"
            f" {self.held_bytes / 1024:.0f} KiB held for each of those"
        )


async def crowded(
    gateway: GatewayProcess, *, readers: int, stuck: int, measure_s: float, ratio: float, tries: int = 3
) -> Crowded:
    """Measure the readers' delay without and with stuck clients on the same run, until the ratio is good enough."""
    found = Crowded(readers, stuck)
    async with caller(gateway) as client:
        run = await started(client, "ticking", **PREFIX, ticks=1_000_000, gap_s=GAP_S)
        reading = await crowd.readers(gateway, run, readers)
        try:
            while found.tries < tries and (found.tries == 0 or found.ratio > ratio):
                found.tries += 1
                found.p99_alone = await crowd.measured(reading, measure_s)
                before = crowd.rss_bytes(gateway)
                beside = await crowd.stuck(gateway, run, stuck)
                try:
                    await _settled(gateway)
                    found.held_bytes = max(found.held_bytes, (crowd.rss_bytes(gateway) - before) // stuck)
                    found.p99_beside = await crowd.measured(reading, measure_s)
                finally:
                    for each in beside:
                        each.close()
                await eventually(lambda: _at_most(gateway, readers + 10), within_s=20)
        finally:
            for reader in reading:
                reader.transport.abort()
            await client.post(f"/runs/{run}/cancel")
    return found


async def _at_most(gateway: GatewayProcess, count: int) -> bool:
    return crowd.sockets(gateway) <= count


async def _settled(gateway: GatewayProcess) -> None:
    """Return when the gateway's memory has stopped growing."""
    last = 0
    async with asyncio.timeout(30):
        while (now := crowd.rss_bytes(gateway)) > last:
            last = now
            await asyncio.sleep(0.3)


@dataclass
class Cut:
    stuck: int
    first_s: float
    last_s: float

    def __str__(self) -> str:
        return f"{self.stuck} that never read: cut off after {self.first_s:.1f} to {self.last_s:.1f} s"


async def cut_off(gateway: GatewayProcess, *, stuck: int, within_s: float) -> Cut:
    """Stuck clients against a short stall timeout: seconds until the first and the last descriptor is gone."""
    async with caller(gateway) as client:
        run = await started(client, "ticking", **PREFIX, ticks=1_000_000, gap_s=GAP_S)
        await eventually(lambda: _tail_above(client, run, PREFIX["prefix"]))
        base = crowd.sockets(gateway)
        began, first_s = time.monotonic(), 0.0
        beside = await crowd.stuck(gateway, run, stuck)
        async with asyncio.timeout(within_s):
            while (left := crowd.sockets(gateway) - base) > 0:
                first_s = first_s or (time.monotonic() - began if left < stuck else 0.0)
                await asyncio.sleep(0.02)
        last_s = time.monotonic() - began
        for each in beside:
            with contextlib.suppress(OSError):
                each.close()
        await client.post(f"/runs/{run}/cancel")
    return Cut(stuck, first_s or last_s, last_s)


async def _tail_above(client, run: str, offset: int) -> bool:
    tail = (await client.get(f"/runs/{run}")).json()["tail"]
    return int(tail.partition("-")[2]) > offset


@dataclass
class Joined:
    events: int
    grown_bytes: dict[str, int]
    took_s: dict[str, float]

    def __str__(self) -> str:
        each = (f"{how} +{self.grown_bytes[how] / 1e6:.1f} MB in {self.took_s[how]:.1f} s" for how in self.grown_bytes)
        return f"joining a run of {self.events} events: {', '.join(each)}"


async def long_join(gateway: GatewayProcess, *, events: int, within_s: float) -> Joined:
    """Join a long finished run by each way; how far the gateway's memory grows."""
    burst = 200
    grown: dict[str, int] = {}
    took: dict[str, float] = {}
    async with asyncio.timeout(within_s), caller(gateway) as client:
        run = await _ended(gateway, await started(client, "flood", steps=events // burst, burst=burst, size=20))
        short = await _ended(gateway, await started(client, "flood", steps=6, burst=burst, size=20))
        for each in (short, run):
            for kind in ("sse", "websocket"):
                for replay in ("full", "folded"):
                    before, began = crowd.rss_bytes(gateway), time.monotonic()
                    peak = await _read_all(gateway, each, kind, replay)
                    how = f"{kind} {replay}"
                    grown[how], took[how] = max(0, peak - before), time.monotonic() - began
    return Joined(events, grown, took)


async def _ended(gateway: GatewayProcess, run: str) -> str:
    """Wait at the live edge for a run's end, which costs the gateway nothing."""
    await _read_all(gateway, run, "sse", "none")
    return run


async def _read_all(gateway: GatewayProcess, run: str, kind: str, replay: str) -> int:
    """The highest memory of the gateway while one client reads the whole run."""
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(
        lambda: Whole(run, kind, crowd.token(), replay=replay), "127.0.0.1", gateway.port
    )
    peak = 0
    while not reader.done.is_set():
        peak = max(peak, crowd.rss_bytes(gateway))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.done.wait(), 0.02)
    reader.transport.abort()
    return peak


class Whole(crowd.Reader):
    """A reader that knows when the terminal event has come."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.done = asyncio.Event()
        self._last = b""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if b'"type":"run.completed"' in self._last + data:
            self.done.set()
        self._last = data[-100:]
