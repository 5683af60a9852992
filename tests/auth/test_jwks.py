"""Keys that an issuer publishes: fetched from a real server, kept while it is away, let go of when it says so.

Over 300 lines, because fetching, keeping and letting go are told of the same issuer.
"""

import asyncio
import gzip
import json
import time
from contextlib import asynccontextmanager

import jwt
import pytest

from gateway.auth import PUBLIC, Issuer, Jwks
from gateway.auth import jwks as module
from gateway.auth.jwks import MAX_BYTES, MAX_KEYS, read_set
from gateway.auth.keys import UnknownKey
from gateway.errors import Unauthorized, Unavailable
from tests.auth.doubles import assemble, b64, claims, private, public_pem, tokens, with_hmac
from tests.auth.issuer import PublishedKeys, huge, jwk, rude, says, silent, slow

ALGORITHMS = {"RS256": "RS256", "ES256": "ES256", "ES384": "ES384", "ES512": "ES512", "ES256K": "ES256K",
              "Ed25519": "EdDSA", "Ed448": "EdDSA"}  # fmt: skip


def signed(kind: str = "ES256", *, kid: str | None = "", alg: str | None = None, **more) -> str:
    """A good token by a key of ours; `kid` None leaves it out, and by default it is that of `jwk`."""
    alg = alg or ALGORITHMS[kind]
    header = {"alg": alg, "kid": kind if kid == "" else kid}
    return assemble({k: v for k, v in header.items() if v is not None}, claims(**more), alg=alg, key=private(kind))


@asynccontextmanager
async def fetching(url: str, **more):
    """A key source that has asked once."""
    source = Jwks(Issuer(url), **{"algorithms": PUBLIC, "refresh_s": 3600, **more})
    try:
        first = source._ask()
        source.start()
        await first
        yield source
    finally:
        await source.close()


@pytest.fixture
async def issuer():
    async with PublishedKeys(jwk("ES256")) as issuer:
        yield issuer


async def refused(verifier, token) -> str:
    with pytest.raises(Unauthorized) as caught:
        await verifier.verify(token)
    return caught.value.code


@pytest.mark.parametrize("kind", ALGORITHMS)
async def test_a_published_key_of_every_kind_vouches_for_its_tokens(issuer, kind):
    issuer.keys = [jwk("ES384" if kind == "ES256" else "ES256", kid="other"), jwk(kind)]
    async with fetching(issuer.url) as source:
        verifier = tokens(source)
        assert (await verifier.verify(signed(kind))).subject == "alice"
        assert await refused(verifier, signed(kind, kid="other")) == "auth.invalid"
        for _ in range(2):
            assert await refused(verifier, signed(kind)[:-8] + "AAAAAAAA") == "auth.invalid"


async def test_without_a_kid_the_only_key_that_takes_the_algorithm_counts(issuer):
    issuer.keys = [jwk("ES256"), jwk("ES384")]
    async with fetching(issuer.url) as source:
        assert (await tokens(source).verify(signed(kid=None))).subject == "alice"
    issuer.keys.insert(0, {**jwk("ES256"), **another_point(), "kid": "another"})
    async with fetching(issuer.url) as source:
        assert await refused(tokens(source), signed(kid=None)) == "auth.invalid"
        assert (await tokens(source).verify(signed())).subject == "alice"


def another_point() -> dict[str, str]:
    """Where another key of the same curve lies."""
    from cryptography.hazmat.primitives.asymmetric import ec

    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    return {"x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}


async def test_two_keys_under_one_name_vouch_for_nothing(issuer):
    other = {**jwk("ES256"), **another_point()}
    for keys in ([jwk("ES256"), other], [other, jwk("ES256")], [other, jwk("ES256"), jwk("ES256")]):
        issuer.keys = keys
        async with fetching(issuer.url) as source:
            assert await refused(tokens(source), signed()) == "auth.invalid"
    issuer.keys = [jwk("ES256"), jwk("ES256")]
    async with fetching(issuer.url) as source:
        assert (await tokens(source).verify(signed())).subject == "alice"


USELESS = {
    "a secret": {"kty": "oct", "k": b64(b"s" * 64), "kid": "ES256"},
    "a private key": jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).to_jwk(
        private("ES256"), as_dict=True
    )
    | {"kid": "ES256"},
    "for encryption": jwk("ES256", use="enc"),
    "use a number": jwk("ES256", use=1),
    "only for signing": jwk("ES256", key_ops=["sign"]),
    "for nothing": jwk("ES256", key_ops=[]),
    "key_ops a text": jwk("ES256", key_ops="verify"),
    "of another algorithm": jwk("ES256", alg="ES384"),
    "of an HMAC algorithm": jwk("ES256", alg="HS256"),
    "alg a list": jwk("ES256", alg=["ES256"]),
    "kid a number": jwk("ES256") | {"kid": 1},
    "off the curve": jwk("ES256", x=b64(b"\1" * 32)),
    "without a point": jwk("ES256", x=None),
    "x a number": jwk("ES256", x=1),
    "x no base64": jwk("ES256", x="é"),
    "an unknown curve": jwk("ES256", crv="P-999"),
    "an unknown kind": jwk("ES256", kty="XYZ"),
    "kty a list": jwk("ES256", kty=["EC"]),
    "a small RSA key": {"kty": "RSA", "kid": "ES256", "n": b64(b"\xff" * 128), "e": "AQAB"},
    "an RSA key of nothing": {"kty": "RSA", "kid": "ES256", "n": "", "e": ""},
    "null": None,
    "a text": "ES256",
    "a list": [],
    "empty": {},
}


@pytest.mark.parametrize("name", USELESS)
async def test_a_key_that_is_not_public_and_for_signatures_is_passed_over(issuer, name):
    issuer.keys = [USELESS[name], jwk("Ed25519")]
    async with fetching(issuer.url) as source:
        assert await refused(tokens(source), signed()) == "auth.invalid"
        assert (await tokens(source).verify(signed("Ed25519"))).subject == "alice"


FINE = [{"use": "sig"}, {"key_ops": ["verify"]}, {"key_ops": ["sign", "verify"]}, {"alg": "ES256"},
        {"x5c": ["nonsense"]}, {"x5u": "https://attacker.example"}]  # fmt: skip


@pytest.mark.parametrize("more", FINE, ids=str)
async def test_a_key_that_says_what_it_is_for_counts(issuer, more):
    issuer.keys = [jwk("ES256", **more)]
    async with fetching(issuer.url) as source:
        assert (await tokens(source).verify(signed())).subject == "alice"


async def test_a_key_takes_no_algorithm_but_its_own_and_those_that_were_chosen(issuer):
    issuer.keys = [jwk("RS256", alg="RS256")]
    async with fetching(issuer.url) as source:
        assert (await tokens(source).verify(signed("RS256"))).subject == "alice"
        for alg in ("RS512", "PS256"):
            assert await refused(tokens(source), signed("RS256", alg=alg)) == "auth.invalid"
    async with fetching(issuer.url, algorithms=("PS256", "ES256")) as source:
        assert await refused(tokens(source), signed("RS256")) == "auth.invalid"


async def test_a_secret_made_of_what_is_published_signs_nothing(issuer):
    issuer.keys = [jwk("RS256"), USELESS["a secret"]]
    async with fetching(issuer.url) as source:
        for secret in (public_pem(private("RS256")).encode(), json.dumps(issuer.keys[0]).encode(), b"s" * 64):
            for kid in ("RS256", "ES256", None):
                forged = with_hmac({"alg": "HS256", "kid": kid} if kid else {"alg": "HS256"}, claims(), secret)
                assert await refused(tokens(source), forged) == "auth.invalid"


async def test_a_rotation_is_followed_at_the_first_token_of_the_new_key(issuer):
    async with fetching(issuer.url) as source:
        verifier = tokens(source)
        await verifier.verify(signed())
        issuer.keys = [jwk("ES256"), jwk("Ed25519")]
        assert (await verifier.verify(signed("Ed25519"))).subject == "alice"
        assert issuer.asked == 2
        await verifier.verify(signed())


async def test_keys_that_nobody_knows_make_one_question_in_half_a_minute(issuer, monkeypatch):
    async with fetching(issuer.url) as source:
        verifier = tokens(source)
        strange = [signed("Ed25519", kid=f"k{number}") for number in range(20)]
        assert await asyncio.gather(*(refused(verifier, each) for each in strange)) == ["auth.invalid"] * 20
        assert issuer.asked == 2
        await refused(verifier, signed("Ed25519"))
        assert issuer.asked == 2
        monkeypatch.setattr(source, "_asked_at", source._asked_at - module.UNKNOWN_EVERY_S)
        await refused(verifier, signed("Ed25519"))
        assert issuer.asked == 3


async def test_a_removed_key_is_of_no_use_also_for_what_is_remembered(issuer):
    gone = []
    async with fetching(issuer.url, refresh_s=0.02, changed=lambda: gone.append(issuer.asked)) as source:
        verifier = tokens(source)
        token = signed()
        bearer = await verifier.verify(token)
        assert source.holds(bearer.key)
        issuer.keys = [jwk("Ed25519")]
        async with asyncio.timeout(10):
            while source.holds(bearer.key):
                await asyncio.sleep(0.01)
        for text in (token, signed()):
            assert await refused(verifier, text) == "auth.invalid"
        assert len(gone) == 1
        issuer.keys = []
        async with asyncio.timeout(10):
            while len(gone) < 2:
                await asyncio.sleep(0.01)
        assert await refused(verifier, signed("Ed25519")) == "auth.invalid"


async def test_another_key_under_the_same_name_is_another_key(issuer):
    async with fetching(issuer.url, refresh_s=0.02) as source:
        verifier, token = tokens(source), signed()
        before = await verifier.verify(token)
        issuer.keys = [{**jwk("ES256"), **another_point()}]
        async with asyncio.timeout(10):
            while source.holds(before.key):
                await asyncio.sleep(0.01)
        assert await refused(verifier, token) == "auth.invalid"


WRONG = {
    "status 500": says(b"{}", status="500 Oops"),
    "status 404": says(b'{"keys":[]}', status="404 Not Found"),
    "status 204": says(b"", status="204 No Content"),
    "nothing": says(b""),
    "a page": says(b"<!doctype html>"),
    "a list": says(b"[]"),
    "no keys": says(b"{}"),
    "keys an object": says(b'{"keys":{}}'),
    "keys null": says(b'{"keys":null}'),
    "cut off": says(b'{"keys":['),
    "deep": says(b'{"keys":' * 50_000),
    "not UTF-8": says(b'{"keys":["\xff"]}'),
    "too many keys": says(json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode()),
    "too large": says(b'{"keys":[]}' + b" " * MAX_BYTES),
    "compressed": says(gzip.compress(b'{"keys":[]}'), "Content-Encoding: gzip"),
    "huge": huge,
    "slow": slow,
    "silent": silent,
    "rude": rude,
    "no HTTP": says(b"", status="nonsense"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_an_issuer_that_talks_nonsense_changes_nothing(issuer, name, monkeypatch):
    monkeypatch.setattr(module, "FETCH_TIMEOUT_S", 0.3)
    async with fetching(issuer.url, refresh_s=0.02) as source:
        verifier = tokens(source)
        held = await verifier.verify(signed())
        issuer.instead, before = WRONG[name], issuer.asked
        async with asyncio.timeout(10):
            while issuer.asked < before + 2 or source._fresh:
                await asyncio.sleep(0.01)
        assert source.holds(held.key)
        assert (await verifier.verify(signed(sub="bob"))).subject == "bob"
        # Whether a key that is not held would be good, nobody can tell now.
        with pytest.raises(Unavailable) as caught:
            await verifier.verify(signed("Ed25519"))
        assert (caught.value.code, caught.value.retryable) == ("server.busy", True)
        issuer.instead, issuer.keys = None, [jwk("Ed25519")]
        async with asyncio.timeout(10):
            while not source._fresh:
                await asyncio.sleep(0.01)
        assert (await verifier.verify(signed("Ed25519"))).subject == "alice"


async def test_a_fault_of_our_own_in_reading_keys_is_an_outage_and_not_the_end(issuer, monkeypatch):
    async with fetching(issuer.url, refresh_s=0.02) as source:
        await tokens(source).verify(signed())
        with monkeypatch.context() as broken:
            broken.setattr(module, "read_jwk", lambda *_, **__: 1 / 0)
            async with asyncio.timeout(10):
                while source._fresh:
                    await asyncio.sleep(0.01)
            await tokens(source).verify(signed())
        async with asyncio.timeout(10):
            while not source._fresh:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 There", "308 There"])
async def test_a_redirect_leads_nowhere(issuer, status):
    async with PublishedKeys(jwk("Ed25519")) as attacker:
        issuer.instead = says(b"", f"Location: {attacker.url}", status=status)
        async with fetching(issuer.url) as source:
            with pytest.raises(Unavailable):
                await tokens(source).verify(signed("Ed25519"))
        assert attacker.asked == 0


async def test_an_issuer_that_is_away_from_the_start_is_found_when_it_comes(issuer):
    await issuer.end()
    async with fetching(issuer.url, refresh_s=0.02) as source:
        with pytest.raises(Unavailable):
            await tokens(source).verify(signed())
        await issuer.begin()
        async with asyncio.timeout(10):
            while not source._fresh:
                await asyncio.sleep(0.01)
        assert (await tokens(source).verify(signed())).subject == "alice"


async def test_whoever_waits_for_a_key_keeps_nobody_else_waiting(issuer):
    issuer.instead, began = silent, time.monotonic()
    source = Jwks(Issuer(issuer.url), algorithms=PUBLIC, refresh_s=3600)
    source._take(read_set(json.dumps({"keys": [jwk("ES256")]}).encode(), PUBLIC))
    try:
        waiting = asyncio.ensure_future(tokens(source).verify(signed("Ed25519")))
        while issuer.asked == 0:
            await asyncio.sleep(0.001)
        for number in range(100):
            await tokens(source).verify(signed(sub=f"s{number}"))
        assert not waiting.done()
        assert time.monotonic() - began < module.FETCH_TIMEOUT_S
        waiting.cancel()
        # The question goes on for the others, whoever stops waiting.
        await asyncio.wait([waiting])
        assert source._asking is not None
    finally:
        await source.close()


def test_a_set_names_keys_by_kid_and_algorithm():
    held = read_set(json.dumps({"keys": [jwk("RS256"), jwk("ES256", kid="e"), jwk("Ed25519")]}).encode(), PUBLIC)
    assert ("RS256", "PS512") in held
    assert held["e", "ES256"] == held[None, "ES256"]
    assert ("e", "RS256") not in held


async def test_a_token_that_names_no_key_at_all_asks_nobody(issuer):
    async with fetching(issuer.url) as source:
        asked = issuer.asked
        unsigned = assemble({"alg": "none"}, claims(), alg=None, key=None)
        for bad in (with_hmac({"alg": "HS256", "kid": "x"}, claims(), b"s" * 64), unsigned, "a.b.c"):
            assert await refused(tokens(source), bad) == "auth.invalid"
        assert issuer.asked == asked
        with pytest.raises(UnknownKey):
            source.choose(signed("Ed25519"))
