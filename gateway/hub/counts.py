"""What the hub has done since its start, for whoever wants to know."""

from collections import Counter

from gateway.tally import LATENCIES_S, Histogram
from gateway.wire.cursor import Resume


class Counts:
    """Totals, but for `lagging` and `unsent_bytes`: what the clock saw when it last looked at every connection.

    `sent_live` and `sent_past` count events for each client that got them; `closed_bytes` were sent to connections that
    are gone.
    """

    __slots__ = (
        "closed_bytes", "cut_off", "fell_behind", "gaps", "joins", "lagging", "loop_lag_s", "opened", "published",
        "sent_live", "sent_past", "unsent_bytes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.opened: Counter[tuple[str, str]] = Counter()
        self.joins: Counter[Resume] = Counter()
        self.published = 0
        self.sent_live = 0
        self.sent_past = 0
        self.fell_behind = 0
        self.gaps = 0
        self.cut_off = 0
        self.closed_bytes = 0
        self.lagging = 0
        self.unsent_bytes = 0
        self.loop_lag_s = Histogram(LATENCIES_S)
