"""Who is asking: a token, ticket or cookie becomes a Principal.

Rule 1: the only room that knows PyJWT. Rule 2: a credential that is present and bad is refused, never anonymous.
Rule 3: no credential ever stands in a message, a log line or an exception's text.
"""

from gateway.auth.authenticator import Authenticator, Presented
from gateway.auth.keys import Keys, KeysError
from gateway.auth.principal import Principal, Scope
from gateway.auth.tickets import Tickets
from gateway.auth.tokens import Tokens, mint

__all__ = ["Authenticator", "Keys", "KeysError", "Presented", "Principal", "Scope", "Tickets", "Tokens", "mint"]
