"""The machine: which one it is, whose turn it is on which processor, and what a server has used of it."""

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

SERVERS, CLIENTS = 0, 1  # processors, where there are two
_PROCESSORS = sorted(os.sched_getaffinity(0))
_LIBRARIES = ("quart", "hypercorn", "uvloop", "orjson", "pydantic")


class Used(NamedTuple):
    """What a process and its children have used up to now; a difference of two says what they used in between."""

    cpu_s: float
    rss_bytes: int

    def since(self, before: "Used") -> "Used":
        return Used(self.cpu_s - before.cpu_s, self.rss_bytes - before.rss_bytes)


def used(pid: int) -> Used:
    """CPU time of all threads, those that ended among them, to the nanosecond; resident memory."""
    # The kernel's name for the clock of another process (clock_getcpuclockid(3)); /proc/PID/stat counts in 10 ms.
    cpu_s = time.clock_gettime((~pid << 3) | 2)
    rss_bytes = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            of_child = used(int(child))
            cpu_s, rss_bytes = cpu_s + of_child.cpu_s, rss_bytes + of_child.rss_bytes
    return Used(cpu_s, rss_bytes)


@contextlib.contextmanager
def on_processor(number: int) -> Iterator[None]:
    """Whatever is started within runs there for good; where there is only one processor nothing is pinned."""
    before = os.sched_getaffinity(0)
    if len(_PROCESSORS) > 1:
        os.sched_setaffinity(0, {_PROCESSORS[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def described() -> dict[str, object]:
    """What a reader must know to judge the numbers. `load`: how many others wanted to compute when it began."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": len(_PROCESSORS),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "load": round(os.getloadavg()[0], 1),
    }
