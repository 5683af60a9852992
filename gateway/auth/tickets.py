"""Tickets: one use, half a minute, for the places where no header can be set (PROTOCOL section 7)."""

import secrets
from collections.abc import Callable
from itertools import islice

from gateway.auth.principal import Principal
from gateway.errors import Forbidden, TooMany, Unauthorized

LIFE_S = 30
MAX_TICKETS = 100_000


class Tickets:
    """`now` gives Unix seconds."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        # In the order of their making, so the oldest stand first.
        self._tickets: dict[str, tuple[float, Principal]] = {}

    def issue(self, principal: Principal, runs: frozenset[str] | None) -> tuple[str, int]:
        """A ticket and its life in whole seconds. Raises Forbidden when a ticket asks for a ticket."""
        if principal.ticket:
            raise Forbidden(detail="a ticket makes no tickets")
        self._purge()
        if len(self._tickets) >= MAX_TICKETS:
            raise TooMany("rate.limited", retry_after_ms=LIFE_S * 1000)
        ticket = secrets.token_urlsafe(24)
        self._tickets[ticket] = (self._now() + LIFE_S, principal.for_ticket(runs))
        return ticket, LIFE_S

    def redeem(self, ticket: str) -> Principal:
        """Raises Unauthorized for a ticket that is unknown, used or too old."""
        expires_at, principal = self._tickets.pop(ticket, (0.0, None))
        if principal is None or self._now() >= expires_at:
            raise Unauthorized(detail="the ticket is unknown, used or too old")
        if self._now() >= principal.expires_at:
            raise Unauthorized("auth.expired")
        return principal

    def _purge(self) -> None:
        now = self._now()
        for ticket, (expires_at, _) in tuple(islice(self._tickets.items(), 100)):
            if expires_at > now:
                break
            del self._tickets[ticket]
