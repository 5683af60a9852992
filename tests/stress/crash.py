"""100 kills of the gateway under load."""

from pathlib import Path

from tests.e2e.process import GatewayProcess
from tests.faults.crash import PIPELINES, SETTINGS, crash_loop
from tests.stress.round import Outcome, scaled

KILLS = 100
LIMIT_S = 1200


async def run(folder: Path, *, seed: int, scale: float) -> Outcome:
    with GatewayProcess(folder, **SETTINGS) as gateway:
        found = await crash_loop(gateway, seed=seed, kills=scaled(KILLS, scale))
        gateway.stop()
    wrong = [*found.tally.wrong, *found.wrong, *gateway.faults(), *["a gap was told"] * found.tally.gaps]
    if found.orphaned != found.kills * PIPELINES:
        wrong.append(f"{found.orphaned} runs orphaned, not {found.kills * PIPELINES}")
    return Outcome([str(found)], wrong)
