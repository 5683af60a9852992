"""`python -m tests.bench [--quick | --write]`: Runcast beside its peers on the same work, one after the other.

Prints the table and writes docs/bench.json, docs/bench.svg and the README's table. `--quick`: small counts, no peers,
and nothing is written: it only shows that all of it runs. `--write`: nothing is measured, plot and README are made from
docs/bench.json. Ends by itself; status 1 when messages were lost.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from tests.bench import report
from tests.bench.machine import CLIENTS, described, on_processor
from tests.bench.servers import PEERS
from tests.bench.works import QUICK, TOKENS_A_S, Counts, Figures, Round
from tests.faults.crowd import allow_files

SHOWN = ("starlette", "sse-starlette", "uvicorn")
SPARE_FILES = 500


def measured(counts: Counts) -> Figures:
    """One round, with everything that a reader needs to repeat it."""
    began, machine = time.monotonic(), described()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {what}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="bench-") as folder, on_processor(CLIENTS):
        found = Round(Path(folder), counts, say).run()
    if less := sorted({*Counts.levels} - {*counts.levels}) if counts.peers else []:
        found["left_out"][f"{less[0]} viewers and more"] = "too few files may be open"
    return {
        "machine": machine,
        "peers": _peers() if counts.peers else {},
        "counts": {**asdict(counts), "tokens_a_s": TOKENS_A_S},
        "took_s": round(time.monotonic() - began),
        **found,
    }


def _peers() -> dict[str, str]:
    """The versions of the peers that are here."""
    found = {}
    if PEERS.exists():
        listing = subprocess.run([PEERS, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True)
        versions = {each["name"]: each["version"] for each in json.loads(listing.stdout)}
        found = {name: versions[name] for name in SHOWN if name in versions}
    if shutil.which("nginx"):
        told = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
        found["nginx"] = told.strip().rpartition("/")[2]
    return found


def possible(counts: Counts) -> Counts:
    """As many viewers as this process may have open files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return replace(counts, levels=tuple(level for level in counts.levels if level <= files - SPARE_FILES))


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
        figures = measured(QUICK if options.quick else possible(Counts()))
    print(report.table(figures))
    if not options.quick:
        report.FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
        report.write(figures)
    return 1 if report.not_whole(figures) else 0


if __name__ == "__main__":
    sys.exit(main())
