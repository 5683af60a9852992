"""2,400 worlds of many callers in any order over a log in memory, and 160 over a file."""

import asyncio
import os
import sys
from pathlib import Path

from tests.model.play import Kind
from tests.stress.round import Outcome, scaled

MEMORY, FILES = 2400, 160
CONDITIONS = 16  # as many seeds in a row have each of them
LIMIT_S = 600


async def run(folder: Path, *, seed: int, scale: float) -> Outcome:
    """In processes of their own: a world that never ends is cut off with its process."""
    first = seed // CONDITIONS * CONDITIONS
    shares = os.cpu_count() or 1
    async with asyncio.TaskGroup() as group:
        parts = [
            group.create_task(_worlds(kind, folder, first + share * count, count))
            for kind, worlds in (("memory", MEMORY), ("sqlite", FILES))
            for count in [scaled(worlds, scale / shares)]
            for share in range(shares)
        ]
    outcomes = [part.result() for part in parts]
    return Outcome(
        [each for told in outcomes for each in told.figures], [each for told in outcomes for each in told.wrong]
    )


async def _worlds(kind: Kind, folder: Path, first: int, count: int) -> Outcome:
    command = [sys.executable, "-m", "tests.model", str(first), "--count", str(count), "--log", kind]
    pipe = asyncio.subprocess.PIPE
    playing = await asyncio.create_subprocess_exec(
        *command, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env={**os.environ, "TMPDIR": str(folder)}
    )
    try:
        said, _ = await playing.communicate()
    except asyncio.CancelledError:
        playing.kill()
        await playing.wait()
        raise
    *wrong, figures = said.decode().strip().splitlines() or [""]
    if playing.returncode and not wrong:
        wrong = [f"{command[2:]} ended with {playing.returncode}"]
    return Outcome([figures], wrong)
