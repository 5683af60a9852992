"""Tokens that are forged, broken or not for us: each is refused, with the right code and without a word of itself.

Over 300 lines, most of them the table, which is to be read in one piece.
"""

import base64
import hashlib
import json
import time

import pytest

from gateway.errors import Unauthorized
from tests.auth.doubles import AUDIENCE, ISSUER, assemble, b64, claims, encoded, kit, private, public_pem, with_hmac

NOW = int(time.time())
KINDS = ["HS256", "RS256", "ES256", "Ed25519"]
ATTACKER = "ES384"
OTHER = {"RS256": "RS1", "HS256": "HS1"}


def by_attacker(k, header=None, payload=None):
    """Well signed, by a key of somebody else's."""
    head = {"alg": ATTACKER, "typ": "JWT", **(header or {})}
    return assemble(head, payload or claims(), alg=ATTACKER, key=private(ATTACKER))


def unsigned(alg):
    return lambda k: assemble({"alg": alg, "typ": "JWT"}, claims(), alg=None, key=None)


def der(k):
    """The key that everybody knows, as bare bytes."""
    return base64.b64decode(b"".join(k.known.split(b"\n")[1:-2]))


def hmac_of_what_is_known(alg, digest):
    return lambda k: with_hmac({"alg": alg, "typ": "JWT"}, claims(), k.known, digest)


def own_header(**header):
    """By the right key, under a header that must not be taken."""
    return lambda k: k.sign(header=header)


def tampered(k):
    head, _, signature = k.sign().split(".")
    return f"{head}.{encoded(claims(sub='admin'))}.{signature}"


def flipped(k):
    head, payload, signature = k.sign().split(".")
    return f"{head}.{payload}.{('B' if signature[0] == 'A' else 'A') + signature[1:]}"


def part(*indices):
    return lambda k: ".".join(k.sign().split(".")[index] for index in indices)


def saying(**more):
    """By the right key, but what it says is wrong."""
    return lambda k: k.sign(**more)


def payload(data):
    return lambda k: k.sign(data)


def spelled(index, change):
    """A good token one of whose parts is written in another way, which careless readers take for the same."""

    def make(k):
        parts = k.sign().split(".")
        parts[index] = change(parts[index])
        return ".".join(parts)

    return make


def padded(part):
    """With its padding, or with more of it when there is none."""
    return part + ("=" * (-len(part) % 4) or "====")


def loose(part):
    """The same bytes from other text: the bits behind the last byte are not looked at by careless readers."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = {2: 16, 3: 4}.get(len(part) % 4, 0)
    if not spare:
        return part + "A"
    place = alphabet.index(part[-1])
    return part[:-1] + alphabet[place - place % spare + (place + 1) % spare]


def twice(name, value):
    """A claim that stands there twice: the good one last, as most readers take it."""

    def make(k):
        return k.sign(f"{{{json.dumps(name)}:{json.dumps(value)},{json.dumps(claims())[1:]}".encode())

    return make


def raw_header(text):
    return lambda k: assemble(text(k).encode(), claims(), alg=k.alg, key=k.key)


def mine(*names):
    """By the attacker's key, which the header brings along, in every spelling."""
    jwk = {"kty": "EC", "crv": "P-384", "alg": ATTACKER, "kid": "mine"}
    point = private(ATTACKER).public_key().public_numbers()
    jwk |= {"x": b64(point.x.to_bytes(48, "big")), "y": b64(point.y.to_bytes(48, "big"))}
    return lambda k: by_attacker(k, dict.fromkeys(names, jwk))


def signature(data):
    return lambda k: f"{k.sign().rpartition('.')[0]}.{b64(data(k))}"


def raw_claim(name, text):
    """A claim whose value is written in a way that json.dumps does not write."""

    def make(k):
        rest = json.dumps(claims(**{name: None}))
        return k.sign(f'{{"{name}":{text},{rest[1:]}'.encode())

    return make


FORGED = {
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg NONE": unsigned("NONE"),
    "alg nOnE": unsigned("nOnE"),
    "alg empty": unsigned(""),
    "alg none with the good signature": lambda k: ".".join([encoded({"alg": "none"}), *k.sign().split(".")[1:]]),
    "alg missing": lambda k: assemble({"typ": "JWT"}, claims(), alg=None, key=None),
    "alg null": unsigned(None),
    "alg a list": unsigned(["none"]),
    "alg a number": unsigned(0),
    "alg in lower case": own_header(alg="hs256"),
    "HS256 of the public key": hmac_of_what_is_known("HS256", hashlib.sha256),
    "HS384 of the public key": hmac_of_what_is_known("HS384", hashlib.sha384),
    "HS512 of the public key": hmac_of_what_is_known("HS512", hashlib.sha512),
    "HMAC of the public key without its last line": lambda k: with_hmac({"alg": "HS256"}, claims(), k.known.strip()),
    "HMAC of nothing": lambda k: with_hmac({"alg": "HS256"}, claims(), b""),
    "HMAC of a null byte": lambda k: with_hmac({"alg": "HS256", "kid": "../../dev/null"}, claims(), b"\0"),
    "HMAC of the public key as DER": lambda k: with_hmac({"alg": "HS256"}, claims(), der(k)),
    "HMAC of the public key's PEM on one line": lambda k: with_hmac(
        {"alg": "HS256"}, claims(), b"".join(k.known.split(b"\n")[1:-2])
    ),
    "another key": by_attacker,
    "another curve under the right name": lambda k: assemble(
        {"alg": k.alg}, claims(), alg=ATTACKER, key=private(ATTACKER)
    ),
    "another algorithm of the same key": lambda k: k.sign(header={"alg": OTHER.get(k.alg, "ES256K")}),
    "kid out of the key folder": lambda k: by_attacker(k, {"kid": "../../../../etc/passwd"}),
    "kid as SQL": lambda k: by_attacker(k, {"kid": "x' UNION SELECT 'key' --"}),
    "kid a number": own_header(kid=1),
    "kid an object": own_header(kid={}),
    "jku of the attacker": lambda k: by_attacker(k, {"jku": "https://attacker.example/keys"}),
    "x5u of the attacker": lambda k: by_attacker(k, {"x5u": "https://attacker.example/chain"}),
    "x5c of the attacker": lambda k: by_attacker(k, {"x5c": [b64(public_pem(private(ATTACKER)).encode())]}),
    "jwk of the attacker": lambda k: by_attacker(k, {"jwk": {"kty": "oct", "k": b64(b"mine")}}),
    "jwk of the attacker, a true one": mine("jwk"),
    "jwk, jku and kid together": mine("jwk", "key", "keys"),
    "kid as an address": lambda k: by_attacker(k, {"kid": "https://attacker.example/keys.json"}),
    "kid a list": own_header(kid=["any"]),
    "kid null byte": lambda k: by_attacker(k, {"kid": "\0"}),
    "kid as a command": lambda k: by_attacker(k, {"kid": "|/bin/true"}),
    "crit that nobody knows": own_header(crit=["mine"], mine=1),
    "payload not encoded": own_header(b64=False, crit=["b64"]),
    "crit empty": own_header(crit=[]),
    "crit a text": own_header(crit="exp"),
    "encrypted, by its header": own_header(enc="A128GCM", alg="dir"),
    "alg twice": raw_header(lambda k: f'{{"alg":"none","alg":"{k.alg}"}}'),
    "alg with a null byte": raw_header(lambda k: f'{{"alg":"{k.alg}\\u0000"}}'),
    "payload changed": tampered,
    "signature of another token": lambda k: f"{k.sign(sub='admin').rpartition('.')[0]}.{k.sign().rpartition('.')[2]}",
    "signature of zeros": signature(lambda k: bytes(64)),
    "signature of DER zeros": signature(lambda k: bytes.fromhex("3006020100020100")),
    "signature of one zero": signature(lambda k: b"\0"),
    "signature of ones": signature(lambda k: b"\xff" * 64),
    "signature longer": lambda k: k.sign() + "AAAA",
    "header padded": spelled(0, padded),
    "payload padded": spelled(1, padded),
    "signature padded": spelled(2, padded),
    "signature with loose bits": spelled(2, loose),
    "payload with loose bits": spelled(1, loose),
    "a space within": spelled(1, lambda part: f"{part[:8]} {part[8:]}"),
    "a line break within": spelled(2, lambda part: f"{part[:8]}\n{part[8:]}"),
    "a line break at the end": lambda k: k.sign() + "\n",
    "a tab before": lambda k: "\t" + k.sign(),
    "rubbish within base64": spelled(2, lambda part: f"{part[:8]}!{part[8:]}"),
    "a byte order mark": payload(b"\xef\xbb\xbf" + json.dumps(claims()).encode()),
    "claims in UTF-16": payload(json.dumps(claims()).encode("utf-16")),
    "rubbish behind the claims": payload(json.dumps(claims()).encode() + b"{}"),
    "sub twice": twice("sub", "admin"),
    "exp twice": twice("exp", 1),
    "signature changed": flipped,
    "header alone": part(0),
    "no signature": part(0, 1),
    "no header": part(1, 2),
    "parts swapped": part(1, 0, 2),
    "four parts": part(0, 1, 2, 2),
    "five parts, as encrypted": part(0, 1, 2, 2, 2),
    "signature empty": lambda k: k.sign().rpartition(".")[0] + ".",
    "signature cut": lambda k: k.sign()[:-5],
    "header cut": lambda k: k.sign()[5:],
    "nothing": lambda k: "",
    "dots": lambda k: "..",
    "no token at all": lambda k: "swordfish",
    "header no JSON": lambda k: assemble(b"alg", claims(), alg=k.alg, key=k.key),
    "header a list": lambda k: assemble(["alg", k.alg], claims(), alg=k.alg, key=k.key),
    "payload no JSON": payload(b"swordfish"),
    "payload a list": payload(["sub"]),
    "payload a text": payload(b'"alice"'),
    "payload null": payload(b"null"),
    "payload no UTF-8": payload(b'{"sub":"\xff"}'),
    "payload deep": payload(b"[" * 3000),
    "a token in a token": lambda k: k.sign(k.sign().encode(), header={"cty": "JWT"}),
    "a token in a token as text": lambda k: k.sign(json.dumps(k.sign()).encode(), header={"cty": "JWT"}),
    "huge": saying(more="a" * 10_000),
    "endless": lambda k: "a" * 1_000_000,
    "not ASCII": lambda k: k.sign() + "é",
    "a lone surrogate": lambda k: k.sign() + "\udcff",
}
CLAIMS = {
    "exp missing": saying(exp=None),
    "exp null": raw_claim("exp", "null"),
    "exp text": saying(exp="soon"),
    "exp digits as text": saying(exp=str(NOW + 7200)),
    "exp a list": saying(exp=[NOW + 7200]),
    "exp an object": saying(exp={}),
    "exp NaN": raw_claim("exp", "NaN"),
    "exp infinite": raw_claim("exp", "Infinity"),
    "exp beyond all numbers": raw_claim("exp", "1e400"),
    "exp far away": saying(exp=NOW + 100 * 365 * 86_400),
    "exp astronomical": saying(exp=10**18),
    "exp a number too long for a number": raw_claim("exp", "9" * 5000),
    "exp far away from an old iat": saying(iat=NOW - 366 * 86_400, exp=NOW + 7200),
    "sub missing": saying(sub=None),
    "sub null": raw_claim("sub", "null"),
    "sub empty": saying(sub=""),
    "sub a number": saying(sub=1),
    "sub a list": saying(sub=["alice"]),
    "sub true": saying(sub=True),
    "sub too long": saying(sub="a" * 256),
    "sub no Unicode": raw_claim("sub", '"\\ud800"'),
    "nbf in the future": saying(nbf=NOW + 3600),
    "nbf beyond the leeway": lambda k: k.sign(nbf=int(time.time()) + 30),
    "nbf text": saying(nbf="now"),
    "nbf an object": saying(nbf={}),
    "iat in the future": saying(iat=NOW + 3600),
    "iat text": saying(iat="now"),
    "iat true": saying(iat=True),
    "iat a list": saying(iat=[1]),
    "iss missing": saying(iss=None),
    "iss another": saying(iss="https://attacker.example"),
    "iss longer": saying(iss=f"{ISSUER}/"),
    "iss the beginning of it": saying(iss=ISSUER[:-1]),
    "iss in capitals": saying(iss=ISSUER.upper()),
    "iss a list": saying(iss=[ISSUER]),
    "aud missing": saying(aud=None),
    "aud another": saying(aud="other"),
    "aud others": saying(aud=["other", "another"]),
    "aud part of it": saying(aud=AUDIENCE[:-1]),
    "aud longer": saying(aud=f"{AUDIENCE}-admin"),
    "aud in capitals": saying(aud=AUDIENCE.upper()),
    "aud empty": saying(aud=""),
    "aud an empty list": saying(aud=[]),
    "aud a number": saying(aud=1),
    "aud a list with a number": saying(aud=[AUDIENCE, 1]),
    "aud an object": saying(aud={AUDIENCE: 1}),
    "scope a list": saying(scope=["runs:read"]),
    "scope a number": saying(scope=1),
    "scope null": raw_claim("scope", "null"),
    "scope no Unicode": raw_claim("scope", '"\\ud800"'),
    "runs a text": saying(runs="r"),
    "runs numbers": saying(runs=[1]),
    "runs an object": saying(runs={"r": 1}),
    "runs null": raw_claim("runs", "null"),
    "runs no Unicode": raw_claim("runs", '["\\ud800"]'),
    "jti a number": saying(jti=1),
    "jti a list": saying(jti=["a"]),
    "jti no Unicode": raw_claim("jti", '"\\ud800"'),
}
EXPIRED = {
    "exp an hour ago": saying(exp=NOW - 3600),
    "exp just now": saying(exp=NOW - 1),
    "exp zero": saying(exp=0),
    "exp negative": saying(exp=-1),
    "exp ages ago, with a fraction": saying(exp=1.5),
    "exp within the leeway": saying(exp=NOW - 3),
    "exp true, which is one": saying(exp=True),
    "exp false, which is zero": saying(exp=False),
}
BAD = {**{name: (make, "auth.invalid") for name, make in {**FORGED, **CLAIMS}.items()},
       **{name: (make, "auth.expired") for name, make in EXPIRED.items()}}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_refused_with_its_code_and_not_repeated(kind, name):
    make, code = BAD[name]
    k = kit(kind)
    token = make(k)
    with pytest.raises(Unauthorized) as caught:
        await k.tokens().verify(token)
    assert caught.value.code == code
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    told = f"{caught.value!s} {caught.value.document()}"
    assert not any(piece in told for piece in token.split(".") if len(piece) > 8)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_table_is_bad_for_its_own_reasons(kind):
    """The same key, claims and way of signing, with nothing wrong, pass."""
    k = kit(kind)
    assert (await k.tokens().verify(k.sign())).subject == "alice"
    plain = k.sign(json.dumps(claims()).encode(), header={"kid": "any"})
    assert (await k.tokens().verify(plain)).subject == "alice"
    assert (await k.tokens().verify(k.sign(nbf=NOW - 5, iat=NOW, jti="j", runs=["r"], sub="a" * 255))).token_id == "j"


def test_the_table_is_long_enough():
    assert len(BAD) >= 120


async def test_a_bad_token_is_not_remembered_as_good():
    k = kit("HS256")
    tokens = k.tokens()
    for make, _ in BAD.values():
        for _ in range(2):
            with pytest.raises(Unauthorized):
                await tokens.verify(make(k))
    assert len(tokens._good) == 0


async def test_without_an_issuer_and_audience_configured_they_are_not_asked_for():
    k = kit("HS256")
    tokens = k.tokens(issuer=None, audience=None)
    for token in (k.sign(), k.sign(iss=None, aud=None), k.sign(iss="x", aud=["y"])):
        assert (await tokens.verify(token)).subject == "alice"


async def test_a_signature_turned_inside_out_says_the_same_and_is_still_revoked():
    """(r, n - s) is as good a signature as (r, s), in every library; so nothing hangs on a token's bytes."""
    k = kit("ES256")
    token = k.sign(jti="j")
    head, _, signature = token.rpartition(".")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    raw = base64.urlsafe_b64decode(signature + "==")
    other = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    tokens = k.tokens()
    assert await tokens.verify(f"{head}.{b64(other)}") == await tokens.verify(token)
