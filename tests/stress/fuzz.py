"""100,000 requests from the document, 20,000 each of heads, handshakes, sockets and joins, beside a streamed run."""

import asyncio
from pathlib import Path

from tests.e2e.clients import caller, finished, published, served, started
from tests.faults.check import log_of
from tests.fuzz import heads
from tests.fuzz.api import Api
from tests.fuzz.beside import ROOMY, unharmed
from tests.fuzz.joins import joins
from tests.fuzz.sockets import sessions
from tests.stress.round import Outcome, scaled

REQUESTS, HEADS, SOCKETS, JOINS = 100_000, 20_000, 20_000, 20_000
GROWN_BYTES = 150_000_000
LIMIT_S = 5400


async def run(folder: Path, *, seed: int, scale: float) -> Outcome:
    with served(folder, **ROOMY, **heads.SETTINGS) as gateway:
        async with caller(gateway, "joiner") as client:
            ended = await started(client, "external")
            await published(client, ended, *({"type": "x.a", "n": number} for number in range(10)))
            await finished(client, ended)
            log = await log_of(client, ended)
        async with caller(gateway, "framer") as client:
            runs = [await started(client, "external"), await started(client, "words")]
        async with unharmed(gateway) as beside:
            found = [
                await asyncio.to_thread(Api(gateway, seed=seed).fuzz, scaled(REQUESTS, scale)),
                await heads.compared(gateway, seed=seed, count=scaled(HEADS, scale)),
                await heads.compared(gateway, seed=seed, count=scaled(HEADS, scale), handshakes=True),
                await asyncio.to_thread(sessions, gateway, runs, seed=seed, count=scaled(SOCKETS, scale)),
                await asyncio.to_thread(joins, gateway, ended, log, seed=seed, count=scaled(JOINS, scale)),
            ]
    wrong = [*beside.wrong, *(told for each in found for told in each.wrong)]
    if beside.grown_bytes > GROWN_BYTES:
        wrong.append(f"the gateway grew by {beside.grown_bytes} bytes")
    return Outcome([*map(str, found), f"beside it {beside.said} events; {beside.grown_bytes / 1e6:.0f} MB more"], wrong)
