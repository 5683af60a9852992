"""Who is asking: a token, ticket or cookie becomes a Principal.

Rule 1: the only room that knows PyJWT. Rule 2: a credential that is present and bad is refused, never anonymous.
Rule 3: no credential ever stands in a message, a log line or an exception's text.
"""

from gateway.auth.authenticator import Authenticator, Presented
from gateway.auth.jwks import Issuer, Jwks
from gateway.auth.keys import PUBLIC, Keys, KeysError, choose_algorithms
from gateway.auth.principal import Principal, Scope
from gateway.auth.revocations import Revocations
from gateway.auth.tickets import Tickets
from gateway.auth.tokens import Tokens, mint

__all__ = [
    "PUBLIC",
    "Authenticator",
    "Issuer",
    "Jwks",
    "Keys",
    "KeysError",
    "Presented",
    "Principal",
    "Revocations",
    "Scope",
    "Tickets",
    "Tokens",
    "choose_algorithms",
    "mint",
]
