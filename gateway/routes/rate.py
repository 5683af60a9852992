"""How often somebody may ask: a token bucket for each name (docs/decisions/013).

Rule 1: a bucket is one number, the time at which it is full again. A bucket that is full says nothing, so it goes.
Rule 2: however many names turn up, memory is bounded: above the bound the name that was not heard of for longest goes.
"""

import asyncio
from collections import OrderedDict
from typing import NamedTuple, Self

from gateway.errors import TooMany

MAX_NAMES = 100_000
_UNITS_S = {"s": 1, "m": 60, "h": 3600}


class Rate(NamedTuple):
    """At most so many in so many seconds. After a silence all of them may come at once."""

    most: int
    span_s: float

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """`20/s`, `600/m`, `1000/h`; None for `off`."""
        if text == "off":
            return None
        count, _, unit = text.partition("/")
        return cls(int(count), _UNITS_S[unit])


class Buckets:
    """One bucket for each name, all of the same rate; None: nothing is limited."""

    def __init__(self, rate: Rate | None, *, max_names: int = MAX_NAMES) -> None:
        self._span_s = rate.span_s if rate else 0.0
        self._each_s = rate.span_s / rate.most if rate else 0.0
        self._max_names = max_names
        # In the order of their last use, so the stale ones stand first.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: str, now: float) -> float:
        """Take one out of a bucket: 0, or the seconds until there is one again. `now` is any steady clock's."""
        if not self._each_s:
            return 0.0
        names = self._full_at
        full_at = max(names.get(name, now), now) + self._each_s
        wait_s = full_at - now - self._span_s
        if wait_s > 1e-9:  # less is how floats add up
            return wait_s
        names[name] = full_at
        names.move_to_end(name)
        # Two for one: what attackers leave behind goes as fast as others come.
        for _ in range(2):
            oldest = next(iter(names))
            if names[oldest] > now and len(names) <= self._max_names:
                break
            del names[oldest]
        return 0.0


class Rates:
    """The rates of this gateway. Everything raises TooMany (`rate.limited`) with the time to wait."""

    def __init__(self, *, requests: Rate | None, commands: Rate | None) -> None:
        self._addresses = Buckets(requests)
        self._subjects = Buckets(requests)
        self._connections = Buckets(commands)

    @property
    def names(self) -> int:
        """How many buckets are not full."""
        return len(self._addresses) + len(self._subjects) + len(self._connections)

    def address(self, address: str) -> None:
        """A request or handshake comes from there, whoever it says it is."""
        _take(self._addresses, address)

    def subject(self, subject: str) -> None:
        """A request or command of somebody who has proved who it is."""
        _take(self._subjects, subject)

    def connection(self, connection: str) -> None:
        """A command on a WebSocket."""
        _take(self._connections, connection)


def _take(buckets: Buckets, name: str) -> None:
    wait_s = buckets.take(name, asyncio.get_running_loop().time())
    if wait_s:
        raise TooMany("rate.limited", retry_after_ms=int(wait_s * 1000) + 1)
