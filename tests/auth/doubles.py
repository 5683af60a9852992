"""Keys of every kind, and tokens put together by hand, well or badly."""

import base64
import functools
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.auth import Keys, Tokens
from gateway.auth.keys import KeySource

SECRET = "a secret for tests that has more than sixty-four bytes, so every HMAC takes it"
ISSUER = "https://issuer.example"
AUDIENCE = "runcast"

MAKERS = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ES256K": lambda: ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


@functools.cache
def private(kind: str) -> Any:
    return MAKERS[kind]()


def public_pem(key: Any) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(key: Any) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encoded(part: Any) -> str:
    return b64(part if isinstance(part, bytes) else json.dumps(part).encode())


def assemble(header: Any, payload: Any, *, alg: str | None, key: Any) -> str:
    """A token of any header and payload; `alg` None leaves the signature empty."""
    signed = f"{encoded(header)}.{encoded(payload)}"
    if alg is None:
        return f"{signed}."
    algorithm = jwt.algorithms.get_default_algorithms()[alg]
    return f"{signed}.{b64(algorithm.sign(signed.encode(), algorithm.prepare_key(key)))}"


def with_hmac(header: Any, payload: Any, secret: bytes, digest: Any = hashlib.sha256) -> str:
    """Signed with anything at all as secret, also with what PyJWT refuses to sign with."""
    signed = f"{encoded(header)}.{encoded(payload)}"
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), digest).digest())}"


def claims(**more: Any) -> dict[str, Any]:
    """Good claims; a None leaves one out."""
    good = {"sub": "alice", "scope": "runs:read", "exp": int(time.time()) + 600, "iss": ISSUER, "aud": AUDIENCE}
    return {name: value for name, value in {**good, **more}.items() if value is not None}


def tokens(keys: KeySource, **more: Any) -> Tokens:
    """A verifier that asks for nothing but a good signature, unless told."""
    return Tokens(keys, **{"issuer": None, "audience": None, "max_life_s": 31_622_400, "now": time.time, **more})


@dataclass(frozen=True)
class Kit:
    """A verifier's key and what signs for it."""

    alg: str
    key: Any
    keys: Keys
    known: bytes
    """What everybody knows of the key."""

    def sign(self, payload: Any = None, *, header: Any = None, **more: Any) -> str:
        payload = claims(**more) if payload is None else payload
        return assemble({"alg": self.alg, "typ": "JWT", **(header or {})}, payload, alg=self.alg, key=self.key)

    def tokens(self, **more: Any) -> Tokens:
        return tokens(self.keys, **{"issuer": ISSUER, "audience": AUDIENCE, **more})


@functools.cache
def kit(kind: str) -> Kit:
    if kind.startswith("HS"):
        return Kit(kind, SECRET, Keys.from_secret(SECRET, (kind,)), b"")
    key = private(kind)
    pem = public_pem(key)
    return Kit("EdDSA" if kind.startswith("Ed") else kind, key, Keys.from_pem(pem), pem.encode())
