"""When clients should come back: every `retry_ms` and `after_ms` comes from here.

Rule 1: the more connections were opened lately and the longer the loop lags, the further apart clients are told to
come; and no two are told the same.
"""

import random
from collections.abc import Callable

MAX_RETRY_MS = 30_000
COMFORTABLE_OPENS_PER_S = 200  # well below what one core can open
COMFORTABLE_LAG_S = 0.1


class Pace:
    """`retry_ms` is the base in quiet times; `rng` gives numbers in [0, 1)."""

    def __init__(self, *, retry_ms: int, rng: Callable[[], float] = random.random) -> None:
        self._base_ms = retry_ms
        self._rng = rng
        self._opens_per_s = 0.0
        self._lag_s = 0.0
        self._opened = 0

    def opened(self) -> None:
        """A connection was opened."""
        self._opened += 1

    def tick(self, *, elapsed_s: float, lag_s: float) -> None:
        """Once a second or so: take stock. `lag_s` is how late the loop is."""
        rate = self._opened / max(elapsed_s, 0.001)
        self._opened = 0
        self._opens_per_s = max(rate, self._opens_per_s / 2)
        self._lag_s = max(lag_s, self._lag_s / 2)

    @property
    def retry_ms(self) -> int:
        """The base of a client's own back-off now."""
        crowd = max(1.0, self._opens_per_s / COMFORTABLE_OPENS_PER_S)
        lag_ms = max(0.0, self._lag_s - COMFORTABLE_LAG_S) * 1000
        return int(min(self._base_ms * crowd + lag_ms, max(MAX_RETRY_MS, self._base_ms)))

    def after_ms(self, at_least_ms: float = 0) -> int:
        """One client's own delay: somewhere in the base's span after what it must wait at least."""
        return int(at_least_ms + self.retry_ms * (0.5 + self._rng()))
