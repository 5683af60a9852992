"""3,000 faults on the way between the Python client and the gateway."""

from pathlib import Path

from tests.e2e.clients import served
from tests.faults.clients import clients_storm
from tests.faults.storm import SETTINGS
from tests.stress.round import Outcome, scaled

FAULTS = 3_000
LIMIT_S = 900


async def run(folder: Path, *, seed: int, scale: float) -> Outcome:
    with served(folder, **SETTINGS) as gateway:
        struck, wrong = await clients_storm(gateway, seed=seed, faults=scaled(FAULTS, scale))
    return Outcome([f"{struck.total()} faults: {dict(sorted(struck.items()))}"], wrong)
