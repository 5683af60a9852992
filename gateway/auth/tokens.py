"""JSON Web Tokens: verified, remembered until they expire, and made for development (RFC 7519, PROTOCOL section 7)."""

import base64
import hashlib
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import jwt

from gateway.auth.keys import KeySource, UnknownKey
from gateway.auth.principal import Principal
from gateway.errors import Unauthorized

MAX_TOKEN_BYTES = 8192
MAX_REMEMBERED = 10_000
LEEWAY_S = 5


class Tokens:
    """`issuer` and `audience` are required of a token once they are set; `now` gives Unix seconds.

    `max_life_s`: a token made for longer is refused, so what is known of old ones can be forgotten at some time.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str | None,
        audience: str | None,
        max_life_s: float,
        now: Callable[[], float],
    ) -> None:
        self.keys = keys
        self._issuer = issuer
        self._audience = audience
        self._max_life_s = max_life_s
        self._now = now
        self._jwt = jwt.PyJWT({"enforce_minimum_key_length": True})
        self.hits = 0
        self.misses = 0
        self._good: OrderedDict[bytes, Principal] = OrderedDict()

    @property
    def remembered(self) -> int:
        return len(self._good)

    async def verify(self, token: str) -> Principal:
        """Raises Unauthorized (`auth.invalid`, `auth.expired`), and Unavailable when its key cannot be asked for."""
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise Unauthorized
        # Remembered by digest: the tokens themselves need not lie about in memory.
        digest = hashlib.sha256(token.encode()).digest()
        principal = self._good.get(digest)
        if principal is not None and self.keys.holds(principal.key):
            self.hits += 1
        else:
            self.misses += 1
            principal = await self._read(token)
            self._good[digest] = principal
            if len(self._good) > MAX_REMEMBERED:
                self._good.popitem(last=False)
        if self._now() >= principal.expires_at:
            self._good.pop(digest, None)
            raise Unauthorized("auth.expired")
        return principal

    async def _read(self, token: str) -> Principal:
        try:
            return self._decode(token)
        except UnknownKey:
            again = await self.keys.learn()
        if again:
            try:
                return self._decode(token)
            except UnknownKey:
                pass
        raise Unauthorized

    def _decode(self, token: str) -> Principal:
        """Raises Unauthorized, UnknownKey."""
        required = ["exp", "sub"]
        required += ["iss"] if self._issuer else []
        required += ["aud"] if self._audience else []
        try:
            _check_form(token)
            key = self.keys.choose(token)
            claims = self._jwt.decode(
                token,
                key.verifying,
                algorithms=list(key.algorithms),
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": required, "verify_aud": self._audience is not None},
            )
            principal = _principal(claims, key.id)
        except jwt.ExpiredSignatureError:
            raise Unauthorized("auth.expired") from None
        except (jwt.InvalidTokenError, TypeError, ValueError, OverflowError, RecursionError):
            raise Unauthorized from None
        began = self._now() if principal.issued_at is None else principal.issued_at
        if principal.expires_at - began > self._max_life_s:
            raise Unauthorized(detail=f"tokens live for at most {self._max_life_s:.0f} seconds")
        return principal


def _check_form(token: str) -> None:
    """Three parts in base64url as it is written and in no other way, and no name twice in their JSON.

    Libraries read other spellings as well; then one token has many texts, and two readers may read different claims.
    Raises ValueError.
    """
    parts = token.split(".")
    decoded = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts]
    if ".".join(base64.urlsafe_b64encode(data).rstrip(b"=").decode() for data in decoded) != token:
        raise ValueError("not base64url")
    for data in decoded[:2]:
        json.loads(data.decode(), object_pairs_hook=_each_once)  # text: of bytes it would guess the encoding


def _each_once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("a name stands there twice")
    return found


def _principal(claims: dict[str, Any], key: str | None) -> Principal:
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
        key=key,
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
    """A token of our own: for development, tests and operators at a terminal. It has a name, to be revoked by."""
    claims: dict[str, Any] = {"sub": subject, "scope": scope, "iat": int(now), "exp": int(now + ttl_s)}
    claims["jti"] = secrets.token_hex(8)
    claims |= {"runs": list(runs)} if runs else {}
    claims |= {"iss": issuer} if issuer else {}
    claims |= {"aud": audience} if audience else {}
    return jwt.encode(claims, secret, algorithm=algorithm)
