"""What must hold while a gateway is fuzzed, and afterwards."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.e2e.clients import by_sse, caller, finished, own, published, started
from tests.e2e.process import GatewayProcess
from tests.faults import crowd

ROOMY = {
    "max_runs": 1_000_000,
    "max_runs_per_subject": 1_000_000,
    "max_connections_per_subject": 5000,
    "log_level": "warning",
    "cancel_grace_s": 0.5,
}
HELD = ("runcast_connections", "runcast_sockets", "runcast_subscriptions", "runcast_watched_runs", "process_open_fds")
PATIENCE_S = 7200
BACK_WITHIN_S = 30
# The log's own files, and what a library opens once.
MORE_FILES = 8


@dataclass
class Beside:
    """`wrong`: what must not be, in words."""

    said: int = 0
    grown_bytes: int = 0
    wrong: list[str] = field(default_factory=list)


@asynccontextmanager
async def unharmed(gateway: GatewayProcess) -> AsyncIterator[Beside]:
    """A run is streamed all the while and comes whole; afterwards nothing is left open or told as a fault."""
    found = Beside()
    held, rss = await _held(gateway), crowd.rss_bytes(gateway)
    async with caller(gateway, "behaved", ttl_s=PATIENCE_S) as client:
        run = await started(client, "external")
        stream = asyncio.ensure_future(by_sse(client, run, patience_s=PATIENCE_S, replay="full"))
        enough = asyncio.Event()
        talking = asyncio.ensure_future(_talk(client, run, found, enough))
        try:
            yield found
        finally:
            enough.set()
            await talking
        await finished(client, run)
        frames = own(await stream)
    texts = [frame["n"] for frame in frames if frame["type"] == "x.n"]
    if texts != list(range(found.said)) or frames[-1]["type"] != "run.completed":
        found.wrong.append(f"the well-behaved client got {len(texts)} of {found.said} events")
    try:
        async with asyncio.timeout(BACK_WITHIN_S):
            while left := _more(held, await _held(gateway)):
                await asyncio.sleep(0.1)
    except TimeoutError:
        found.wrong.append(f"left behind: {left}")
    found.grown_bytes = crowd.rss_bytes(gateway) - rss
    found.wrong += [f"fault: {fault[:1000]}" for fault in gateway.faults()]


async def _talk(client: httpx.AsyncClient, run: str, found: Beside, enough: asyncio.Event) -> None:
    while not enough.is_set():
        answer = await published(client, run, {"type": "x.n", "n": found.said})
        if answer.status_code != 202:
            found.wrong.append(f"the well-behaved publisher got {answer.status_code}")
            return
        found.said += 1
        await asyncio.sleep(0.05)


async def _held(gateway: GatewayProcess) -> dict[str, float]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        told = (await client.get("/metrics")).text
    sums = dict.fromkeys(HELD, 0.0)
    for name, value in re.findall(r"^(\w+)(?:{[^}]*})? (\S+)$", told, re.MULTILINE):
        if name in sums:
            sums[name] += float(value)
    return sums


def _more(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    spare = {"process_open_fds": MORE_FILES}
    return {name: value for name, value in now.items() if value > before[name] + spare.get(name, 0)}
