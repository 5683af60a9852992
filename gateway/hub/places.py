"""Who has how many of the places for connections.

Rule 1: an entry that has come down to nothing goes, so what is kept is bounded by the connections that are open.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from gateway.errors import TooMany, Unavailable
from gateway.hub.connection import Connection
from gateway.hub.pacing import Pace


class Limits(NamedTuple):
    max_connections: int
    max_connections_per_subject: int
    max_connections_per_address: int
    max_subscriptions: int
    max_buffer_bytes: int
    max_event_bytes: int
    stall_timeout_s: float
    auth_warning_s: float


class Places:
    """Counts connections by subject, address and kind. "" is nobody's name, and is not limited."""

    def __init__(self, limits: Limits, pace: Pace) -> None:
        self._limits = limits
        self._pace = pace
        self.taken = 0
        self._subjects: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._kinds: Counter[tuple[str, str]] = Counter()

    @property
    def kinds(self) -> Mapping[tuple[str, str], int]:
        """Open connections by transport and by the way their bytes go."""
        return self._kinds

    def take(self, connection: Connection) -> None:
        self.taken += 1
        self._subjects[connection.subject] += 1
        self._addresses[connection.address] += 1
        self._kinds[connection.kind] += 1

    def give_back(self, connection: Connection) -> None:
        self.taken -= 1
        _uncount(self._subjects, connection.subject)
        _uncount(self._addresses, connection.address)
        self._kinds[connection.kind] -= 1

    def change_hands(self, connection: Connection, subject: str) -> None:
        """A connection has proved whose it is. Raises TooMany."""
        if connection.subject != subject:
            self._check_subject(subject)
            _uncount(self._subjects, connection.subject)
            self._subjects[subject] += 1
            connection.subject = subject

    def check(self, subject: str, address: str) -> None:
        """Whether there is one more. Raises TooMany (`limit.connections`), Unavailable (`server.busy`)."""
        if self.taken >= self._limits.max_connections:
            raise Unavailable("server.busy", retry_after_ms=self._pace.after_ms())
        self._check_subject(subject)
        if address and self._addresses[address] >= self._limits.max_connections_per_address:
            raise self._too_many("too many from this address")

    def _check_subject(self, subject: str) -> None:
        if subject and self._subjects[subject] >= self._limits.max_connections_per_subject:
            raise self._too_many("too many of this subject")

    def check_room(self, connection: Connection, run: str | None) -> None:
        """Whether a connection may watch one more run. Raises TooMany (`limit.connections`)."""
        if run not in connection.subscriptions and len(connection.subscriptions) >= self._limits.max_subscriptions:
            raise self._too_many(f"a connection watches at most {self._limits.max_subscriptions} runs")

    def _too_many(self, detail: str) -> TooMany:
        return TooMany("limit.connections", detail, retry_after_ms=self._pace.after_ms())


def _uncount(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if counter[name] <= 0:
        del counter[name]
