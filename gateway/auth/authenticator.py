"""From what a request presents to a Principal.

Rule 1: one credential counts. The header goes before a ticket, a ticket before the cookie; the cookie is a browser's
own doing, so it needs a sign that the page in front of the user belongs here.
"""

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.auth.principal import Principal
from gateway.auth.tickets import Tickets
from gateway.auth.tokens import Tokens
from gateway.errors import Forbidden, Unauthorized


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request brought. `joins`: it opens a stream, so a ticket will do. `safe`: a GET that is no WebSocket."""

    authorization: str | None
    ticket: str | None
    cookie: str | None
    origin: str | None
    host: str | None
    fetch_site: str | None
    joins: bool
    safe: bool


class Authenticator:
    """`allowed_origins`: other sites whose pages may call, use the cookie and open the WebSocket."""

    def __init__(self, tokens: Tokens, tickets: Tickets, *, allowed_origins: Collection[str]) -> None:
        self._tokens = tokens
        self._tickets = tickets
        self._allowed = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)

    def identify(self, presented: Presented) -> Principal | None:
        """None when no credential is there. Raises Unauthorized, Forbidden."""
        if presented.authorization is not None:
            scheme, _, token = presented.authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthorized(detail="the Authorization scheme is Bearer")
            return self._tokens.verify(token.strip())
        if presented.ticket is not None:
            if not presented.joins:
                raise Unauthorized(detail="a ticket opens streams, nothing else")
            return self._tickets.redeem(presented.ticket)
        if presented.cookie is not None:
            self._check_site(presented)
            return self._tokens.verify(presented.cookie)
        return None

    def token(self, token: str) -> Principal:
        """The bearer of a token in an `authenticate` frame. Raises Unauthorized."""
        return self._tokens.verify(token)

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
            return host is not None and urlsplit(origin.lower()).netloc == host.lower()
        except ValueError:
            return False
