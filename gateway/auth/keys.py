"""The key that tokens are verified with, and the algorithms that fit it.

Rule 1: a key belongs to one family; HMAC and public-key algorithms never mix (RFC 8725, section 3.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

_HMAC = {"HS256": 32, "HS384": 48, "HS512": 64}  # and the bytes that a secret needs (RFC 7518, section 3.2)
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}


class KeysError(Exception):
    """The configured key cannot be used; the message is one line."""


@dataclass(frozen=True)
class Keys:
    """`signing` is the secret when tokens can also be made with it."""

    verifying: Any
    algorithms: tuple[str, ...]
    signing: str | None = None

    @classmethod
    def from_secret(cls, secret: str, algorithms: Sequence[str] = ()) -> "Keys":
        """Raises KeysError."""
        chosen = _choose(algorithms, fitting=tuple(_HMAC), default=("HS256",))
        least = max(_HMAC[algorithm] for algorithm in chosen)
        if len(secret.encode()) < least:
            raise KeysError(f"RUNCAST_JWT_SECRET: must have at least {least} bytes for {', '.join(chosen)}")
        return cls(secret, chosen, signing=secret)

    @classmethod
    def from_pem(cls, pem: str, algorithms: Sequence[str] = ()) -> "Keys":
        """Raises KeysError."""
        try:
            key = load_pem_public_key(pem.encode())
        except (ValueError, UnsupportedAlgorithm):
            raise KeysError("RUNCAST_JWT_PUBLIC_KEY: not a public key in PEM") from None
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size < 2048:
                raise KeysError("RUNCAST_JWT_PUBLIC_KEY: an RSA key must have at least 2048 bits")
            return cls(key, _choose(algorithms, fitting=_RSA, default=_RSA))
        if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
            fitting = (_CURVES[key.curve.name],)
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            fitting = ("EdDSA",)
        else:
            raise KeysError("RUNCAST_JWT_PUBLIC_KEY: this kind of key is not supported")
        return cls(key, _choose(algorithms, fitting=fitting, default=fitting))


def _choose(asked: Sequence[str], *, fitting: Sequence[str], default: Sequence[str]) -> tuple[str, ...]:
    for algorithm in asked:
        if algorithm not in jwt.algorithms.get_default_algorithms() or algorithm == "none":
            raise KeysError(f"RUNCAST_JWT_ALGORITHMS: {algorithm!r} is not a known algorithm")
        if algorithm not in fitting:
            raise KeysError(f"RUNCAST_JWT_ALGORITHMS: {algorithm} does not fit the key ({', '.join(fitting)} do)")
    return tuple(asked) or tuple(default)
