"""`python -m tests.model SEED [--count N] [--log memory|sqlite]`: play worlds, and say what was wrong.

Ends with a line of figures, and with status 1 when anything was wrong.
"""

import argparse
import sys
from collections import Counter
from typing import get_args

from tests.model.play import Kind, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model")
    parser.add_argument("seed", type=int)
    parser.add_argument("--count", type=int, default=1, help="so many seeds from this one on")
    parser.add_argument("--log", choices=get_args(Kind), default="memory")
    options = parser.parse_args()
    figures: Counter[str] = Counter()
    wrong = 0
    for seed in range(options.seed, options.seed + options.count):
        world = play(seed, options.log)
        figures += world.figures()
        wrong += bool(world.faults)
        if world.faults:
            print(f"{options.log}, {world}:", *dict.fromkeys(world.faults), sep="\n  ", flush=True)
    print(
        f"{options.count} worlds over {options.log}, {wrong} with faults:",
        ", ".join(f"{n} {of}" for of, n in figures.items()),
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
