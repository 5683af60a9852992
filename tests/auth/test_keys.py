"""Keys that can be used, and those that cannot, each with one line that says why."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x25519

from gateway.auth import Keys, KeysError
from tests.auth.doubles import MAKERS, SECRET, private, private_pem, public_pem

HMAC = ("HS256", "HS384", "HS512")


def unknown_curve() -> str:
    """A public key on a curve that nobody has heard of (object identifier 1.2.3.4)."""
    point = b"\x04" + b"\x01" * 64
    algorithm = bytes.fromhex("06072a8648ce3d0201") + bytes.fromhex("06032a0304")
    bits = b"\x03" + bytes([len(point) + 1]) + b"\x00" + point
    body = b"\x30" + bytes([len(algorithm)]) + algorithm + bits
    der = b"\x30" + bytes([len(body)]) + body
    return f"-----BEGIN PUBLIC KEY-----\n{base64.encodebytes(der).decode()}-----END PUBLIC KEY-----\n"


def refused(make, *args) -> str:
    with pytest.raises(KeysError) as caught:
        make(*args)
    text = str(caught.value)
    assert text.startswith("RUNCAST_JWT_")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("secret", ["", "short", "a" * 31, "ä" * 15])
def test_a_short_secret_is_refused_and_not_repeated(secret):
    text = refused(Keys.from_secret, secret)
    assert "RUNCAST_JWT_SECRET" in text
    assert not secret or secret not in text


def test_a_secret_that_is_a_public_key_or_no_text_is_refused_before_the_first_token():
    for secret in (public_pem(private("ES256")), "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB a@example", "\udcff" * 40):
        assert "RUNCAST_JWT_SECRET: is " in refused(Keys.from_secret, secret)


def test_the_length_of_a_secret_is_its_bytes():
    assert Keys.from_secret("ä" * 16).algorithms == ("HS256",)
    assert Keys.from_secret("a" * 32).signing == "a" * 32


@pytest.mark.parametrize("alg, size", [("HS384", 47), ("HS512", 63), ("HS512", 32)])
def test_a_secret_that_is_too_short_for_its_algorithm_is_refused(alg, size):
    refused(Keys.from_secret, "a" * size, (alg,))
    refused(Keys.from_secret, "a" * size, ("HS256", alg))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "hs256", "HS1", "nonsense", "RS256 ", "dir"])
def test_an_algorithm_that_is_none_or_unknown_is_refused_for_every_key(algorithm):
    assert "RUNCAST_JWT_ALGORITHMS" in refused(Keys.from_secret, SECRET, (algorithm,))
    for kind in MAKERS:
        refused(Keys.from_pem, public_pem(private(kind)), (algorithm,))


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_a_secret_and_a_public_key_algorithm_never_mix(algorithm):
    assert "does not fit" in refused(Keys.from_secret, SECRET, (algorithm,))
    refused(Keys.from_secret, SECRET, ("HS256", algorithm))


@pytest.mark.parametrize("kind", MAKERS)
def test_a_public_key_takes_no_algorithm_of_another_family(kind):
    pem = public_pem(private(kind))
    fitting = Keys.from_pem(pem).algorithms
    assert Keys.from_pem(pem, fitting[:1]).algorithms == fitting[:1]
    assert Keys.from_pem(pem).signing is None
    for other in {*HMAC, "RS256", "ES256", "ES384", "ES512", "ES256K", "EdDSA"} - set(fitting):
        refused(Keys.from_pem, pem, (other,))
        refused(Keys.from_pem, pem, (*fitting, other))


@pytest.mark.parametrize(
    "kind, algorithms",
    [
        ("RS256", {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        ("ES256", {"ES256"}),
        ("ES384", {"ES384"}),
        ("ES512", {"ES512"}),
        ("ES256K", {"ES256K"}),
        ("Ed25519", {"EdDSA"}),
        ("Ed448", {"EdDSA"}),
    ],
)
def test_without_a_choice_a_key_takes_all_that_fit_it(kind, algorithms):
    assert set(Keys.from_pem(public_pem(private(kind))).algorithms) == algorithms


def test_a_small_rsa_key_is_refused():
    small = public_pem(rsa.generate_private_key(public_exponent=65537, key_size=1024))  # noqa: S505 - that is the case
    assert "2048" in refused(Keys.from_pem, small)


@pytest.mark.parametrize(
    "make",
    [
        lambda: public_pem(dsa.generate_private_key(key_size=2048)),
        lambda: public_pem(x25519.X25519PrivateKey.generate()),
        lambda: public_pem(ec.generate_private_key(ec.BrainpoolP256R1())),
        lambda: public_pem(ec.generate_private_key(ec.SECP224R1())),
        unknown_curve,
        lambda: private_pem(private("ES256")),
        lambda: public_pem(private("ES256")).replace("A", "!"),
        lambda: public_pem(private("ES256"))[:60],
        lambda: "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        lambda: "",
        lambda: "-----BEGIN nonsense",
        lambda: "\udcff",
    ],
)
def test_what_is_no_usable_public_key_is_refused_in_one_line(make):
    pem = make()
    text = refused(Keys.from_pem, pem)
    assert "RUNCAST_JWT_PUBLIC_KEY" in text
    assert not any(line in text for line in pem.splitlines() if len(line) > 30)
