"""Good tokens: read, remembered for their time, made."""

import time

import pytest

from gateway.auth import Keys, Scope, mint
from gateway.auth import tokens as module
from gateway.errors import Forbidden, Unauthorized
from tests.auth.doubles import SECRET, assemble, claims, kit, private, public_pem
from tests.auth.doubles import tokens as verifier
from tests.broker.doubles import Clock

RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")


@pytest.mark.parametrize("kind", ["HS256", "HS384", "HS512", "ES256", "ES384", "ES512", "ES256K", "Ed25519", "Ed448"])
async def test_a_good_token_of_every_algorithm_passes(kind):
    k, now = kit(kind), int(time.time())
    principal = await k.tokens().verify(k.sign(scope="runs:read  runs:start", runs=["r1"], jti="j", iat=now))
    assert (principal.subject, principal.scopes) == ("alice", {"runs:read", "runs:start"})
    assert (principal.runs, principal.token_id, principal.issued_at) == ({"r1"}, "j", now)
    assert principal.only is None
    assert principal.ticket is False


@pytest.mark.parametrize("alg", RSA)
async def test_an_rsa_key_takes_each_of_its_algorithms_or_the_one_that_was_chosen(alg):
    key = private("RS256")
    token = assemble({"alg": alg}, claims(), alg=alg, key=key)
    await verifier(Keys.from_pem(public_pem(key), (alg,))).verify(token)
    await verifier(Keys.from_pem(public_pem(key))).verify(token)
    other = Keys.from_pem(public_pem(key), tuple(set(RSA) - {alg}))
    with pytest.raises(Unauthorized):
        await verifier(other).verify(token)


async def test_a_secret_takes_only_the_algorithms_that_were_chosen():
    k = kit("HS256")
    for alg in ("HS384", "HS512"):
        with pytest.raises(Unauthorized):
            await k.tokens().verify(assemble({"alg": alg}, claims(), alg=alg, key=SECRET))


@pytest.mark.parametrize("secret_bytes, alg", [(32, "HS256"), (48, "HS384"), (64, "HS512")])
async def test_the_shortest_secret_that_is_taken_signs_and_verifies(secret_bytes, alg):
    """A key that `Keys` accepts works: nothing is left to fail at the first request."""
    keys = Keys.from_secret("s" * secret_bytes, (alg,))
    token = mint(keys.signing, subject="a", scope="", ttl_s=60, now=time.time(), algorithm=alg)
    assert (await verifier(keys).verify(token)).subject == "a"


@pytest.mark.parametrize("exp", [100, 100.75])
async def test_a_token_is_good_until_its_end_whether_or_not_it_was_seen_before(exp):
    clock, k = Clock(float(int(time.time()))), kit("HS256")
    began = clock.now
    token = k.sign(exp=began + exp)
    for seen_before in (True, False):
        tokens = k.tokens(now=clock)
        clock.now = began
        if seen_before:
            assert (await tokens.verify(token)).expires_at == began + exp
        clock.now = began + exp - 0.01
        await tokens.verify(token)
        clock.now = began + exp
        for _ in range(2):
            with pytest.raises(Unauthorized) as caught:
                await tokens.verify(token)
            assert caught.value.code == "auth.expired"
        assert len(tokens._good) == 0


async def test_a_token_is_read_once_and_remembered_without_its_text(monkeypatch):
    k = kit("ES256")
    tokens, token, reads = k.tokens(), k.sign(), []
    decode = tokens._decode
    monkeypatch.setattr(tokens, "_decode", lambda text: (reads.append(text), decode(text))[1])
    assert await tokens.verify(token) is await tokens.verify(token)
    assert len(reads) == 1
    assert all(token.encode() not in digest and len(digest) == 32 for digest in tokens._good)


async def test_no_more_tokens_are_remembered_than_a_limit_and_all_stay_good(monkeypatch):
    monkeypatch.setattr(module, "MAX_REMEMBERED", 10)
    k = kit("HS256")
    tokens, many = k.tokens(), [k.sign(sub=f"s{number}") for number in range(50)]
    for _ in range(2):
        for number, token in enumerate(many):
            assert (await tokens.verify(token)).subject == f"s{number}"
            assert len(tokens._good) <= 10


async def test_a_minted_token_says_what_was_asked():
    now = time.time()
    token = mint(SECRET, subject="bob", scope="runs:read", ttl_s=60, now=now, runs=["r"], issuer="i", audience="a")
    tokens = verifier(Keys.from_secret(SECRET), issuer="i", audience="a")
    principal = await tokens.verify(token)
    assert (principal.subject, principal.scopes, principal.runs) == ("bob", {"runs:read"}, {"r"})
    assert principal.expires_at == pytest.approx(now + 60, abs=1)


async def test_a_scope_that_is_missing_is_named_and_admin_gives_no_other():
    k = kit("HS256")
    principal = await k.tokens().verify(k.sign(scope="admin runs:read"))
    assert principal.admin
    principal.require(Scope.READ)
    principal.require()
    with pytest.raises(Forbidden, match="runs:start"):
        principal.require(Scope.READ, Scope.START)
