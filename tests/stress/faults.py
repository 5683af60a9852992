"""10,000 faults on the way between clients and gateway."""

from pathlib import Path

from tests.e2e.clients import served
from tests.faults.storm import SETTINGS, storm
from tests.stress.round import Outcome, scaled

FAULTS = 10_000
LIMIT_S = 900


async def run(folder: Path, *, seed: int, scale: float) -> Outcome:
    with served(folder, **SETTINGS) as gateway:
        found = await storm(gateway, seed=seed, faults=scaled(FAULTS, scale))
    return Outcome([str(found)], [*found.tally.wrong, *["a gap was told"] * found.tally.gaps])
