"""`python -m tests.stress [ROUND …] [--scale 0.1] [--seed N]`: the full counts, one round after the other.

Each round is bounded in time. Ends by itself, with status 0 when nothing was wrong and 1 otherwise.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import crowd
from tests.stress import clients, crash, drain, faults, floods, fuzz, interleavings, models, slow, soak
from tests.stress.round import Outcome

ROUNDS = {
    "faults": faults, "crash": crash, "slow": slow, "drain": drain, "floods": floods, "clients": clients, "fuzz": fuzz,
    "interleavings": interleavings, "models": models, "soak": soak,
}  # fmt: skip
SHOWN = 5
WIDTH = max(map(len, ROUNDS)) + 1


async def one(name: str, *, seed: int, scale: float) -> Outcome:
    module = ROUNDS[name]
    with tempfile.TemporaryDirectory(prefix=f"stress-{name}-") as folder:
        try:
            async with asyncio.timeout(module.LIMIT_S):
                return await module.run(Path(folder), seed=seed, scale=scale)
        except TimeoutError:
            return Outcome([], [f"not done within {module.LIMIT_S} s"])
        except Exception as error:
            return Outcome([], [f"{type(error).__name__}: {str(error)[:1000]}"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress")
    parser.add_argument("rounds", nargs="*", help=f"which of {', '.join(ROUNDS)} (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full counts")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    if unknown := set(options.rounds) - set(ROUNDS):
        parser.error(f"no such round: {', '.join(sorted(unknown))}")
    crowd.allow_files()
    wrong = 0
    print(f"seed {options.seed}, scale {options.scale:g}\n\n{'round':{WIDTH}}{'time':>8}  {'':6}figures", flush=True)
    for name in options.rounds or ROUNDS:
        began = time.monotonic()
        outcome = asyncio.run(one(name, seed=options.seed, scale=options.scale))
        took = f"{time.monotonic() - began:.1f} s"
        lines = outcome.figures + [f"WRONG: {each}" for each in outcome.wrong[:SHOWN]]
        for index, line in enumerate(lines):
            head = (
                f"{name:{WIDTH}}{took:>8}  {'ok' if not outcome.wrong else 'WRONG':6}"
                if index == 0
                else " " * (WIDTH + 16)
            )
            print(f"{head}{line}", flush=True)
        wrong += len(outcome.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
