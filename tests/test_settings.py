"""Settings: read from the environment, checked, and refused in one line that names the fault."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import settings
from gateway.settings import PREFIX, Settings, SettingsError, load, table, unknown
from tests.wire.doubles import BOUNDED


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    import os

    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def refusal(**overrides) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**overrides)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(PREFIX)
    return text


def test_the_defaults_are_valid_and_documented():
    chosen = load()
    assert chosen.address == ("127.0.0.1", 8000)
    assert [name for name, _, _ in table()] == [PREFIX + name.upper() for name in Settings.model_fields]
    assert all(meaning for _, _, meaning in table())
    assert ("RUNCAST_HEARTBEAT_S", "15") in [(name, default) for name, default, _ in table()]


def test_the_environment_counts_and_the_command_line_goes_before_it(monkeypatch):
    monkeypatch.setenv("RUNCAST_BIND", "0.0.0.0:1")
    monkeypatch.setenv("RUNCAST_HEARTBEAT_S", "2.5")
    chosen = load(bind="[::1]:9", broker=None)
    assert (chosen.address, chosen.heartbeat_s) == (("::1", 9), 2.5)
    assert load(bind=None).address == ("0.0.0.0", 1)  # noqa: S104 - nothing listens


def test_a_variable_that_is_empty_is_not_set(monkeypatch):
    for name in ("BIND", "JWT_SECRET", "HEARTBEAT_S", "PIPELINES", "LOG_LEVEL"):
        monkeypatch.setenv(PREFIX + name, "")
    assert load() == Settings()


@pytest.mark.parametrize("text, names", [("a,b", ("a", "b")), (" a  b ,, c\n", ("a", "b", "c")), (" , ", ())])
def test_lists_are_separated_by_commas_or_spaces(monkeypatch, text, names):
    monkeypatch.setenv("RUNCAST_PIPELINES", text)
    monkeypatch.setenv("RUNCAST_JWT_ALGORITHMS", text)
    chosen = load()
    assert chosen.pipelines == chosen.jwt_algorithms == names


@pytest.mark.parametrize(
    "name, value",
    [
        ("HEARTBEAT_S", "soon"),
        ("HEARTBEAT_S", "0"),
        ("HEARTBEAT_S", "-1"),
        ("HEARTBEAT_S", "nan"),
        ("HEARTBEAT_S", "inf"),
        ("HEARTBEAT_S", "1e9"),
        ("HEARTBEAT_S", "1e-9"),
        ("JWKS_REFRESH_S", "1e-9"),
        ("RETRY_MS", "1.5"),
        ("RETRY_MS", "0"),
        ("DRAIN_S", "-0.1"),
        ("STALL_TIMEOUT_S", "nan"),
        ("STALL_TIMEOUT_S", "1e9"),
        ("EXTERNAL_IDLE_S", "inf"),
        ("MAX_RUNS", "0"),
        ("MAX_RUNS", "many"),
        ("MAX_CONNECTIONS", "-5"),
        ("MAX_BUFFER_BYTES", "1"),
        ("MAX_BUFFER_BYTES", "9" * 30),
        ("MAX_EVENT_BYTES", "2000000"),
        ("MAX_BODY_BYTES", "0x10"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("SQLITE_SYNC", "sometimes"),
        ("DRAIN_RUNS", "maybe"),
        ("BIND", "localhost"),
        ("BIND", ":8000"),
        ("BIND", "[]:8000"),
        ("BIND", "localhost:"),
        ("BIND", "localhost:http"),
        ("BIND", "localhost:65536"),
        ("BIND", "localhost:-1"),
        ("BIND", "localhost:٣"),
        ("JWT_PUBLIC_KEY", "/no/such/file.pem"),
        ("ALLOWED_ORIGINS", "*"),
        ("ALLOWED_ORIGINS", "https://a.example,b.example"),
        ("ALLOWED_ORIGINS", "https://a.example/path"),
        ("ALLOWED_ORIGINS", "https://*.example"),
        ("ALLOWED_ORIGINS", "https://ä.example"),
        ("ALLOWED_ORIGINS", "https://a.example:443"),
        ("ALLOWED_ORIGINS", "http://a.example:80"),
        ("ALLOWED_ORIGINS", "https://a.example:"),
        ("ALLOWED_ORIGINS", "https://[::1"),
        ("COOKIE", "a b"),
        ("COOKIE", "a=b"),
        ("COOKIE", "ä"),
        ("JWKS_URL", "https://a.example:b/"),
        ("JWKS_URL", "https://a.example:65536/"),
        ("TRUSTED_PROXIES", "10.0.0.1,nginx"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("RATE_LIMIT", "20"),
        ("RATE_LIMIT", "0/s"),
        ("RATE_LIMIT", "20/d"),
        ("COMMAND_RATE", "fast"),
        ("MAX_SUBSCRIPTIONS", "31"),
        ("METRICS", "yes"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_in_one_line_with_its_name(monkeypatch, name, value):
    monkeypatch.setenv(PREFIX + name, value)
    assert refusal().startswith(f"{PREFIX}{name}: ")


def test_origins_are_as_browsers_send_them():
    origins = "https://a.example http://a.example:443 https://a_b.example:8443 http://[::1]:3000 HTTP://XN--4CA.example"
    assert load(allowed_origins=[origins]).allowed_origins == tuple(origins.split())


def test_a_secret_stands_in_no_message_and_no_representation(monkeypatch):
    monkeypatch.setenv("RUNCAST_JWT_SECRET", "swordfish" * 5)
    monkeypatch.setenv("RUNCAST_HEARTBEAT_S", "swordfish")
    assert "swordfish" not in refusal()
    monkeypatch.delenv("RUNCAST_HEARTBEAT_S")
    assert "swordfish" not in repr(load())
    assert "swordfish" not in str(load())


def test_a_public_key_is_read_from_its_file(tmp_path):
    pem = "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n"
    (tmp_path / "key.pem").write_text(pem)
    assert load(jwt_public_key=str(tmp_path / "key.pem")).jwt_public_key == pem
    assert load(jwt_public_key=pem).jwt_public_key == pem
    (tmp_path / "key.der").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "key.der", tmp_path / "missing"):
        refusal(jwt_public_key=str(path))


def test_settings_do_not_change():
    with pytest.raises(Exception, match="frozen"):
        load().bind = "x:1"


def test_a_variable_that_means_nothing_is_told_with_the_nearest_that_does():
    said = unknown({"RUNCAST_HEARTBEET_S": "1", "RUNCAST_JWT_SECRT": "swordfish", "OTHER": "x", "RUNCAST_BIND": "x"})
    assert len(said) == 2
    assert "RUNCAST_HEARTBEET_S" in said[0]
    assert said[0].endswith("RUNCAST_HEARTBEAT_S")
    assert said[1].endswith("RUNCAST_JWT_SECRET")
    assert "swordfish" not in " ".join(said)
    assert unknown({name: "1" for name, _, _ in table()}) == []


@given(st.text("ABCDEFGHIJ_1", max_size=12))
@BOUNDED
def test_any_unknown_variable_gets_a_suggestion(name):
    known = {variable for variable, _, _ in table()}
    for warning in unknown({PREFIX + name: "x"}):
        assert warning.rsplit(" ", 1)[1] in known


def test_the_prefix_stands_once():
    assert Settings.model_config["env_prefix"] == settings.PREFIX


@pytest.mark.parametrize(
    "url",
    ["https://issuer.example/keys", "https://issuer.example:8443/a?b=c", "http://localhost:1/k", "http://127.0.0.1/k",
     "http://[::1]:9/k"],
)  # fmt: skip
def test_published_keys_come_by_https_or_from_this_machine(url):
    assert load(jwks_url=url).jwks_url == url


@pytest.mark.parametrize(
    "url",
    ["http://issuer.example/keys", "http://localhost.issuer.example/", "http://127.0.0.1.example/", "file:///etc/passwd",
     "ftp://127.0.0.1/k", "issuer.example/keys", "https:///keys", "https://", "https://user:secret@issuer.example/",
     "http://attacker.example@127.0.0.1/", "http://0.0.0.0/k", "http://10.0.0.1/k", "https://a b/", "https://ä.example/",
     "https://[::1/", "//issuer.example/keys", "keys.json"],
)  # fmt: skip
def test_keys_from_anywhere_else_are_refused_and_the_address_not_repeated(url):
    assert refusal(jwks_url=url).startswith("RUNCAST_JWKS_URL: ")
    assert "secret" not in refusal(jwks_url=url)
