"""What has become of this process's runs since its start."""

from collections import Counter

from gateway.tally import DURATIONS_S, LATENCIES_S, Histogram
from gateway.wire.status import Status


class Counts:
    """`started` by pipeline, `durations_s` by pipeline and outcome, `cancels_s` from the asking to the end.

    Pipelines are few and ours, so they may be told apart; runs and people are not.
    """

    def __init__(self) -> None:
        self.events = 0
        self.started: Counter[str] = Counter()
        self.durations_s: dict[tuple[str, Status], Histogram] = {}
        self.cancels_s = Histogram(LATENCIES_S)

    def began(self, pipeline: str) -> None:
        """A run was made."""
        self.started[pipeline] += 1

    def ended(self, pipeline: str, status: Status, *, duration_s: float, cancel_s: float | None) -> None:
        self.durations_s.setdefault((pipeline, status), Histogram(DURATIONS_S)).observe(duration_s)
        if cancel_s is not None:
            self.cancels_s.observe(cancel_s)
