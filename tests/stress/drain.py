"""SIGTERM with 500 streams over 50 runs, that are waited for or ended at once."""

from pathlib import Path

from tests.e2e.process import GatewayProcess
from tests.faults.drain import drain, endless
from tests.stress.round import Outcome, scaled

STREAMS, RUNS = 500, 50
DRAIN_S = 10
SETTLING_S = 1.5
SETTINGS = {"drain_s": DRAIN_S, "max_connections_per_subject": 10_000, "cancel_grace_s": 0.5}
LIMIT_S = 180


async def run(folder: Path, *, seed: int, scale: float) -> Outcome:
    figures, wrong = [], []
    for runs in ("wait", "end"):
        with GatewayProcess(folder, **SETTINGS, drain_runs=runs) as gateway:
            under_way = await endless(gateway, scaled(RUNS, scale), gap_s=0.2)
            found = await drain(gateway, under_way, streams=scaled(STREAMS, scale))
            figures.append(f"{runs}: {found}")
            wrong += [f"{runs}: {fault}" for fault in [*found.faults(), *gateway.faults()]]
            if found.exit_code != 0 or found.took_s > DRAIN_S + SETTLING_S:
                wrong.append(f"{runs}: exit {found.exit_code} after {found.took_s:.1f} s")
            if found.unready_after_s > 1:
                wrong.append(f"{runs}: readyz said 503 after {found.unready_after_s:.2f} s")
    return Outcome(figures, wrong)
