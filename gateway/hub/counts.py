"""What the hub has done since its start, for whoever wants to know."""

from collections import Counter

from gateway.tally import LATENCIES_S, Histogram
from gateway.wire.cursor import Resume


class Counts:
    """Totals, but for `lagging` and `unsent_bytes`: what the clock saw when it last looked at every connection.

    `sent_live` and `sent_past` count events for each client that was owed them, `sent_bytes` their frames.
    """

    __slots__ = (
        "cut_off", "fell_behind", "gaps", "joins", "lagging", "loop_lag_s", "opened",
        "sent_bytes", "sent_live", "sent_past", "unsent_bytes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.opened: Counter[tuple[str, str]] = Counter()
        self.joins: Counter[Resume] = Counter()
        self.sent_live = 0
        self.sent_past = 0
        self.fell_behind = 0
        self.gaps = 0
        self.cut_off = 0
        self.sent_bytes = 0
        self.lagging = 0
        self.unsent_bytes = 0
        self.loop_lag_s = Histogram(LATENCIES_S)

    def delivered(self, events: int, size: int, *, to: int) -> None:
        """So many events, spelled in so many bytes, to so many clients. Once for all of them: they are many."""
        self.sent_live += events * to
        self.sent_bytes += size * to
