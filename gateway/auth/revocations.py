"""Credentials that were taken back before their time (PROTOCOL section 7).

Rule 1: it counts at once and is kept in the broker, so it counts after a restart too.
Rule 2: an entry is forgotten when no token that it could concern can still be good: as long after it was made as a
token may live at most. A `jti` says nothing about the end of its token, so it is kept for as long as a `sub`.
"""

from collections.abc import Callable

from gateway.auth.principal import Principal
from gateway.broker import Broker, Revocation


class Revocations:
    """`max_life_s`: how long any token can be good after its issue; `now` gives Unix seconds."""

    def __init__(self, broker: Broker, *, max_life_s: float, now: Callable[[], float]) -> None:
        self._broker = broker
        self._max_life_s = max_life_s
        self._now = now
        self._made: dict[tuple[str, str], int] = {}

    async def load(self) -> None:
        """Take up what was revoked earlier. Raises Unavailable."""
        for each in await self._broker.revocations():
            self._take(each)

    async def revoke(self, *, token_id: str | None = None, subject: str | None = None) -> None:
        """A token, or all of a subject's that were issued up to now. Returns when that is durable.

        Raises Unavailable; it counts in this process all the same.
        """
        at = int(self._now() * 1000)
        # A token's life is whole seconds, and the clocks of the world differ a little.
        forget = max(0, at - int(self._max_life_s * 1000) - 60_000)
        self._made = {place: made for place, made in self._made.items() if made >= forget}
        for kind, name in (("jti", token_id), ("sub", subject)):
            if name is not None:
                self._take(revocation := Revocation(kind, name, at))
                await self._broker.revoke(revocation, forget_before=forget)

    def cover(self, principal: Principal) -> bool:
        """Whether this credential, or the token that it was made from, is revoked.

        Issue times are whole seconds: a token of the same second as the revocation counts as issued before it.
        """
        if principal.token_id is not None and ("jti", principal.token_id) in self._made:
            return True
        until = self._made.get(("sub", principal.subject))
        return until is not None and (principal.issued_at is None or principal.issued_at * 1000 <= until)

    def _take(self, revocation: Revocation) -> None:
        place = (revocation.kind, revocation.name)
        self._made[place] = max(revocation.at, self._made.get(place, 0))
