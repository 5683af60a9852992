"""5,000 connections of one subject, 100,000 junk frames and 1,000 drips, all at once, beside a run that is streamed."""

from pathlib import Path

from tests.e2e.clients import served
from tests.faults.attackers import Attack
from tests.faults.floods import SETTINGS, flooded
from tests.stress.round import Outcome, scaled

CONNECTIONS, FRAMES, DRIPS = 5000, 100_000, 1000
# A loop that serves one step after the other lets a reader wait for a few of somebody else's, not for their flood.
RATIO = 50
GROWN_BYTES = 100_000_000
LIMIT_S = 300


async def run(folder: Path, *, seed: int, scale: float) -> Outcome:
    attack = Attack("", scaled(CONNECTIONS, scale), scaled(FRAMES, scale), scaled(DRIPS, scale), seed)
    with served(folder, **SETTINGS) as gateway:
        found = await flooded(gateway, attack, measure_s=5)
    wrong = list(found.wrong)
    if found.ratio > RATIO:
        wrong.append(f"the delay's p99 is {found.ratio:.1f} times what it was")
    if found.grown_bytes > GROWN_BYTES:
        wrong.append(f"the gateway grew by {found.grown_bytes} bytes")
    return Outcome([str(found)], wrong)
