"""`python -m tests.bench [--quick | --write]`: Runcast beside its peers on the same work, one after the other.

Prints the table and writes docs/bench.json, docs/bench.svg and the README's table. `--quick`: small counts, no peers,
and nothing is written: it only shows that all of it runs. `--write`: nothing is measured, plot and README are made from
docs/bench.json. Ends by itself; status 1 when messages were lost.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.bench import report
from tests.bench.machine import CLIENTS, described, on_processor
from tests.bench.servers import PEERS
from tests.bench.works import QUICK, TOKENS_A_S, Counts, Figures, Round
from tests.faults.crowd import allow_files

SHOWN = ("starlette", "sse-starlette", "uvicorn")


def measured(counts: Counts) -> Figures:
    """One round, with everything that a reader needs to repeat it."""
    began, machine = time.monotonic(), described()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {what}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="bench-") as folder, on_processor(CLIENTS):
        found = Round(Path(folder), counts, say).run()
    return {
        "machine": machine,
        "peers": _peers() if counts.peers else {},
        "counts": {**asdict(counts), "tokens_a_s": TOKENS_A_S},
        "took_s": round(time.monotonic() - began),
        **found,
    }


def _peers() -> dict[str, str]:
    """The versions of what runs in the peers' environment."""
    if not PEERS.exists():
        return {}
    listing = subprocess.run([PEERS, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True).stdout
    versions = {each["name"]: each["version"] for each in json.loads(listing)}
    return {name: versions[name] for name in SHOWN}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="small counts, no peers, nothing is written")
    how.add_argument("--write", action="store_true", help="make plot and README from docs/bench.json")
    options = parser.parse_args()
    if options.write:
        figures = json.loads(report.FIGURES.read_text())
    else:
        allow_files()
        figures = measured(QUICK if options.quick else Counts())
    print(report.table(figures))
    if not options.quick:
        report.FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
        report.write(figures)
    return 1 if report.not_whole(figures) else 0


if __name__ == "__main__":
    sys.exit(main())
