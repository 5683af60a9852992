"""JSON Web Tokens: verified, remembered until they expire, and made for development (RFC 7519, PROTOCOL section 7)."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import jwt

from gateway.auth.keys import Keys
from gateway.auth.principal import Principal
from gateway.errors import Unauthorized

MAX_TOKEN_BYTES = 8192
MAX_REMEMBERED = 10_000
LEEWAY_S = 5


class Tokens:
    """`issuer` and `audience` are required of a token once they are set; `now` gives Unix seconds."""

    def __init__(self, keys: Keys, *, issuer: str | None, audience: str | None, now: Callable[[], float]) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._now = now
        self._jwt = jwt.PyJWT({"enforce_minimum_key_length": True})
        self.hits = 0
        self.misses = 0
        self._good: OrderedDict[bytes, Principal] = OrderedDict()

    @property
    def remembered(self) -> int:
        return len(self._good)

    def verify(self, token: str) -> Principal:
        """Raises Unauthorized (`auth.invalid`, `auth.expired`)."""
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise Unauthorized
        # Remembered by digest: the tokens themselves need not lie about in memory.
        digest = hashlib.sha256(token.encode()).digest()
        principal = self._good.get(digest)
        if principal is not None:
            self.hits += 1
        else:
            self.misses += 1
            principal = self._read(token)
            self._good[digest] = principal
            if len(self._good) > MAX_REMEMBERED:
                self._good.popitem(last=False)
        if self._now() >= principal.expires_at:
            del self._good[digest]
            raise Unauthorized("auth.expired")
        return principal

    def _read(self, token: str) -> Principal:
        required = ["exp", "sub"]
        required += ["iss"] if self._issuer else []
        required += ["aud"] if self._audience else []
        try:
            claims = self._jwt.decode(
                token,
                self._keys.verifying,
                algorithms=list(self._keys.algorithms),
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": required, "verify_aud": self._audience is not None},
            )
            return _principal(claims)
        except jwt.ExpiredSignatureError:
            raise Unauthorized("auth.expired") from None
        except (jwt.InvalidTokenError, TypeError, ValueError, OverflowError, RecursionError):
            raise Unauthorized from None


def _principal(claims: dict[str, Any]) -> Principal:
    """Raises ValueError for a claim of the wrong type."""
    subject, scope, runs = claims["sub"], claims.get("scope", ""), claims.get("runs", [])
    issued_at, token_id = claims.get("iat"), claims.get("jti")
    if not (isinstance(subject, str) and 0 < len(subject) <= 255 and isinstance(scope, str)):
        raise ValueError("sub and scope are text")
    if not (isinstance(runs, list) and all(isinstance(run, str) for run in runs)):
        raise ValueError("runs is a list of ids")
    if not (token_id is None or isinstance(token_id, str)):
        raise ValueError("jti is text")
    # JSON may hold half of a surrogate pair, which no log, database or answer can. UnicodeEncodeError is a ValueError.
    "".join((subject, scope, token_id or "", *runs)).encode()
    for time in (claims["exp"], *([issued_at] if issued_at is not None else [])):
        if isinstance(time, bool) or not isinstance(time, int | float):
            raise ValueError("exp and iat are numbers")
    return Principal(
        subject=subject,
        scopes=frozenset(scope.split()),
        expires_at=float(claims["exp"]),
        issued_at=issued_at,
        token_id=token_id,
        runs=frozenset(runs),
    )


def mint(
    secret: str,
    *,
    subject: str,
    scope: str,
    ttl_s: float,
    now: float,
    runs: Sequence[str] = (),
    issuer: str | None = None,
    audience: str | None = None,
    algorithm: str = "HS256",
) -> str:
    """A token of our own: for development, tests and operators at a terminal."""
    claims: dict[str, Any] = {"sub": subject, "scope": scope, "iat": int(now), "exp": int(now + ttl_s)}
    claims |= {"runs": list(runs)} if runs else {}
    claims |= {"iss": issuer} if issuer else {}
    claims |= {"aud": audience} if audience else {}
    return jwt.encode(claims, secret, algorithm=algorithm)
