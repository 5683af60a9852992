"""Plain numbers that are cheap to keep where things happen, and are read when somebody asks (`gateway.metrics`).

Rule 1: nothing here is called for each delivery to each client: once for a batch, a page, a commit, a tick.
"""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """How often values fell into which span. `bounds` are upper ends, ascending; above the last one nothing bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


# From a fraction of a millisecond to what is a fault.
LATENCIES_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
# From one step to a working day.
DURATIONS_S = (0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 28_800)
SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)


class Sockets:
    """What the server counts: accepted sockets now, those refused at once, and requests that took too long to come."""

    __slots__ = ("late", "open", "refused")

    def __init__(self) -> None:
        self.open = 0
        self.refused = 0
        self.late = 0
