"""22,000 seeds of the random models of what the JavaScript client meets (tests/js/model), in virtual time."""

import asyncio
import json
import os
from pathlib import Path

from tests.e2e.process import ROOT
from tests.stress.round import Outcome, scaled

MODELS = ROOT / "tests" / "js" / "model" / "models.js"
SEEDS = {"sse": 2_000, "websocket": 2_000, "poll": 2_000, "connection": 4_000, "client": 6_000, "tabs": 6_000}
AT_ONCE = 500  # by one process, so that all are busy to the end
LIMIT_S = 900


async def played(model: str, seed: int, count: int) -> list[str]:
    """What was wrong in `count` seeds from `seed` on, each with how to see it again."""
    command = ["node", str(MODELS), model, str(seed), str(count)]
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        said, errors = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    told = [json.loads(line) for line in said.splitlines()]
    if not told or told[-1].get("seeds") != count:
        return [f"{model} from seed {seed} on was not played to the end: {errors.decode()[-500:]}"]
    again = f"again: node {MODELS.relative_to(ROOT)} {model}"
    return [f"{model}, seed {one['seed']}: {one['law']} ({again} {one['seed']} 1 trace)" for one in told[:-1]]


async def run(_folder: Path, *, seed: int, scale: float) -> Outcome:
    counts = {model: scaled(count, scale) for model, count in SEEDS.items()}
    room = asyncio.Semaphore(os.cpu_count() or 1)

    async def part(model: str, begin: int) -> list[str]:
        async with room:
            return await played(model, seed + begin, min(AT_ONCE, counts[model] - begin))

    async with asyncio.TaskGroup() as group:
        parts = [
            group.create_task(part(model, begin))
            for model, count in counts.items()
            for begin in range(0, count, AT_ONCE)
        ]
    wrong = [told for each in parts for told in each.result()]
    return Outcome([", ".join(f"{model} {count} seeds" for model, count in counts.items())], wrong)
