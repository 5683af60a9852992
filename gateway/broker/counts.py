"""What making events durable has taken."""

from gateway.tally import LATENCIES_S, SIZES, Histogram


class Counts:
    """`commits_s`: how long a commit takes. `batches`: how many events shared one."""

    def __init__(self) -> None:
        self.commits_s = Histogram(LATENCIES_S)
        self.batches = Histogram(SIZES)

    def committed(self, took_s: float, *, events: int) -> None:
        self.commits_s.observe(took_s)
        self.batches.observe(events)
