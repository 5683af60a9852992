"""From what a request presents to a Principal.

Rule 1: one credential counts. The header goes before a ticket, a ticket before the cookie; the cookie is a browser's
own doing, so it needs a sign that the page in front of the user belongs here.
Rule 2: what was good once is asked about again (`check`) wherever time has passed: a credential can expire, be revoked,
or lose the key that vouched for it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.auth.principal import Principal
from gateway.auth.revocations import Revocations
from gateway.auth.tickets import Tickets
from gateway.auth.tokens import Tokens
from gateway.errors import Forbidden, Unauthorized


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request brought. `joins`: it opens a stream, so a ticket will do. `safe`: a GET that is no WebSocket.

    `twice`: it brought two credentials of one kind, and two readers may each believe another.
    """

    authorization: str | None
    ticket: str | None
    cookie: str | None
    origin: str | None
    host: str | None
    fetch_site: str | None
    joins: bool
    safe: bool
    twice: bool = False


class Authenticator:
    """`allowed_origins`: other sites whose pages may call, use the cookie and open the WebSocket.

    `now` gives Unix seconds.
    """

    def __init__(
        self,
        tokens: Tokens,
        tickets: Tickets,
        revocations: Revocations,
        *,
        allowed_origins: Collection[str],
        now: Callable[[], float],
    ) -> None:
        self._tokens = tokens
        self._tickets = tickets
        self._revocations = revocations
        self._now = now
        self._allowed = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)

    async def identify(self, presented: Presented) -> Principal | None:
        """None when no credential is there. Raises Unauthorized, Forbidden, Unavailable."""
        principal = await self._read(presented)
        if principal is not None:
            self.check(principal)
        return principal

    async def _read(self, presented: Presented) -> Principal | None:
        if presented.twice:
            raise Unauthorized(detail="one credential is enough")
        if presented.authorization is not None:
            scheme, _, token = presented.authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthorized(detail="the Authorization scheme is Bearer")
            return await self._tokens.verify(token.strip(" "))
        if presented.ticket is not None:
            if not presented.joins:
                raise Unauthorized(detail="a ticket opens streams, nothing else")
            return self._tickets.redeem(presented.ticket)
        if presented.cookie is not None:
            self._check_site(presented)
            return await self._tokens.verify(presented.cookie)
        return None

    async def token(self, token: str) -> Principal:
        """The bearer of a token in an `authenticate` frame. Raises Unauthorized, Unavailable."""
        principal = await self._tokens.verify(token)
        self.check(principal)
        return principal

    def check(self, principal: Principal) -> None:
        """Whether a credential that was good is good now. Raises Unauthorized (`auth.expired`, `auth.revoked`).

        When its key was withdrawn that is its end too: its bearer needs a new one, as after an expiry.
        """
        if self._revocations.cover(principal):
            raise Unauthorized("auth.revoked")
        if self._now() >= principal.expires_at or not self._tokens.keys.holds(principal.key):
            raise Unauthorized("auth.expired")

    def welcomes(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of this origin may open a WebSocket; programs send no Origin."""
        return origin is None or self._same_site(origin, host)

    def allows(self, origin: str) -> bool:
        """Whether a page of this other origin may call and read the answers."""
        return origin.lower() in self._allowed

    def _check_site(self, presented: Presented) -> None:
        if presented.origin is not None:
            if not self._same_site(presented.origin, presented.host):
                raise Forbidden(detail="this origin may not use the cookie")
        elif not presented.safe or presented.fetch_site == "cross-site":
            raise Forbidden(detail="a cookie needs an Origin that belongs here")

    def _same_site(self, origin: str, host: str | None) -> bool:
        if self.allows(origin):
            return True
        try:
            own = urlsplit(origin.lower()).netloc
        except ValueError:
            return False
        # The origin `null` has no host, as a request may have that names none.
        return host is not None and own != "" and own == host.lower()
