"""The keys that tokens are verified with, and the algorithms that fit them.

Rule 1: a key belongs to one family; HMAC and public-key algorithms never mix (RFC 8725, section 3.1).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

_HMAC = {"HS256": 32, "HS384": 48, "HS512": 64}  # and the bytes that a secret needs (RFC 7518, section 3.2)
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
PUBLIC = (*_RSA, *_CURVES.values(), "EdDSA")


class KeysError(Exception):
    """The configured key cannot be used; the message is one line."""


class UnknownKey(Exception):
    """A token is signed by a key that is not held; the issuer may have it."""


class Key(NamedTuple):
    """`id` tells it from every other key that may come and go; None: it is configured and stays."""

    id: str | None
    verifying: Any
    algorithms: tuple[str, ...]


class KeySource(Protocol):
    """Where the key to a token comes from."""

    def choose(self, token: str) -> Key:
        """The key that a token names. Raises UnknownKey, jwt.InvalidTokenError."""

    def holds(self, id: str | None) -> bool:
        """Whether a key that was chosen earlier still counts."""

    async def learn(self) -> bool:
        """Look for keys that are not held yet; whether it makes sense to choose again. Raises Unavailable."""


@dataclass(frozen=True)
class Keys:
    """One key for all tokens (a KeySource). `signing` is the secret when tokens can also be made with it."""

    verifying: Any
    algorithms: tuple[str, ...]
    signing: str | None = None

    @classmethod
    def from_secret(cls, secret: str, algorithms: Sequence[str] = ()) -> "Keys":
        """Raises KeysError."""
        chosen = choose_algorithms(algorithms, fitting=tuple(_HMAC), default=("HS256",))
        least = max(_HMAC[algorithm] for algorithm in chosen)
        try:
            size = len(secret.encode())
            # What would otherwise fail with each token: everybody may know a public key.
            jwt.algorithms.get_default_algorithms()[chosen[0]].prepare_key(secret)
        except UnicodeEncodeError:
            raise KeysError("RUNCAST_JWT_SECRET: is not UTF-8") from None
        except jwt.InvalidKeyError:
            raise KeysError("RUNCAST_JWT_SECRET: is a public key, which is for RUNCAST_JWT_PUBLIC_KEY") from None
        if size < least:
            raise KeysError(f"RUNCAST_JWT_SECRET: must have at least {least} bytes for {', '.join(chosen)}")
        return cls(secret, chosen, signing=secret)

    @classmethod
    def from_pem(cls, pem: str, algorithms: Sequence[str] = ()) -> "Keys":
        """Raises KeysError."""
        try:
            key = load_pem_public_key(pem.encode())
        except (ValueError, UnsupportedAlgorithm):
            raise KeysError("RUNCAST_JWT_PUBLIC_KEY: not a public key in PEM") from None
        try:
            fitting = _fitting(key)
        except ValueError as error:
            raise KeysError(f"RUNCAST_JWT_PUBLIC_KEY: {error}") from None
        return cls(key, choose_algorithms(algorithms, fitting=fitting, default=fitting))

    def choose(self, token: str) -> Key:  # noqa: ARG002 - whatever the token says of keys, there is one
        return Key(None, self.verifying, self.algorithms)

    def holds(self, id: str | None) -> bool:
        return id is None

    async def learn(self) -> bool:
        return False


def read_jwk(jwk: Any, *, allowed: Sequence[str]) -> tuple[str | None, Key]:
    """The `kid` and the key of one member of a JWK set (RFC 7517), for verifying with `allowed` algorithms.

    Raises ValueError, which says why, for everything that is not a public key made for that.
    """
    if not isinstance(jwk, dict) or jwk.get("kty") not in ("RSA", "EC", "OKP"):
        raise ValueError("not an asymmetric key")
    if "d" in jwk:
        raise ValueError("a private key")
    kid, use, alg = jwk.get("kid"), jwk.get("use", "sig"), jwk.get("alg")
    operations = jwk.get("key_ops", ["verify"])
    if not (kid is None or isinstance(kid, str)):
        raise ValueError("its kid is not text")
    if use != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("not for signatures")
    try:
        bare = {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk}
        # The curve says the rest; PyJWK knows only one of EdDSA's by itself.
        key = jwt.PyJWK(bare, "EdDSA" if jwk["kty"] == "OKP" else None).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        raise ValueError("malformed, or of an unknown kind") from None
    fitting = tuple(each for each in _fitting(key) if each in allowed and alg in (None, each))
    if not fitting:
        raise ValueError("no algorithm that is accepted fits it")
    bytes_ = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return kid, Key(hashlib.sha256(bytes_ + " ".join(fitting).encode()).hexdigest(), key, fitting)


def choose_algorithms(asked: Sequence[str], *, fitting: Sequence[str], default: Sequence[str]) -> tuple[str, ...]:
    """Raises KeysError for one that is unknown or not `fitting`."""
    for algorithm in asked:
        if algorithm not in jwt.algorithms.get_default_algorithms() or algorithm == "none":
            raise KeysError(f"RUNCAST_JWT_ALGORITHMS: {algorithm!r} is not a known algorithm")
        if algorithm not in fitting:
            raise KeysError(f"RUNCAST_JWT_ALGORITHMS: {algorithm} does not fit the key ({', '.join(fitting)} do)")
    return tuple(asked) or tuple(default)


def _fitting(key: Any) -> tuple[str, ...]:
    """The algorithms of a public key. Raises ValueError when it is too weak or of another kind."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            raise ValueError("an RSA key must have at least 2048 bits")
        return _RSA
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return (_CURVES[key.curve.name],)
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return ("EdDSA",)
    raise ValueError("this kind of key is not supported")
