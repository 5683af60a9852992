"""Ten minutes of churn, and whether anything grows."""

from pathlib import Path

from tests.e2e.clients import served
from tests.faults.soak import SETTINGS, soaked
from tests.stress.round import Outcome, scaled

SECONDS, LOOKS, CHURNERS = 600, 10, 12
GROWN = 0.1  # of the memory
HELD_MS = 20
LIMIT_S = 1200


async def run(folder: Path, *, seed: int, scale: float) -> Outcome:
    with served(folder, **SETTINGS) as gateway:
        found = await soaked(gateway, seed=seed, seconds=scaled(SECONDS, scale), looks=LOOKS, churners=CHURNERS)
    wrong = found.grown(memory=GROWN)
    if scale >= 1 and found.computed_ms > HELD_MS:
        wrong.append(f"the loop was held for {found.computed_ms:.1f} ms")
    return Outcome([str(found)], wrong)
