"""The command line: a mistake is one line and exit status 2, never a traceback."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.auth import Keys
from tests.auth.doubles import tokens

ROOT = Path(__file__).parents[1]
SECRET = "a secret for tests that is long enough"


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in os.environ:
        if name.startswith("RUNCAST_"):
            monkeypatch.delenv(name)


def command(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNCAST_")}
    environment |= {f"RUNCAST_{name.upper()}": value for name, value in variables.items()}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments, variables, named",
    [
        ([], {}, "RUNCAST_JWT_SECRET"),
        (["serve", "--broker", "redis://localhost"], {"jwt_secret": SECRET}, "RUNCAST_BROKER"),
        (["--broker", "sqlite:///"], {"jwt_secret": SECRET}, "RUNCAST_BROKER"),
        (["--broker", "sqlite:////"], {"jwt_secret": SECRET}, "RUNCAST_BROKER"),
        (["--pipelines", "no.such.module"], {"jwt_secret": SECRET}, "RUNCAST_PIPELINES"),
        ([], {"jwt_secret": "short"}, "RUNCAST_JWT_SECRET"),
        ([], {"jwt_secret": SECRET, "jwt_algorithms": "none"}, "RUNCAST_JWT_ALGORITHMS"),
        ([], {"jwt_secret": SECRET, "jwt_public_key": "-----BEGIN PUBLIC KEY-----"}, "RUNCAST_JWT_SECRET"),
        ([], {"jwt_public_key": "-----BEGIN PUBLIC KEY-----\nnonsense"}, "RUNCAST_JWT_PUBLIC_KEY"),
        ([], {"jwt_secret": SECRET, "jwks_url": "https://issuer.example/"}, "RUNCAST_JWKS_URL"),
        ([], {"jwks_url": "http://issuer.example/"}, "RUNCAST_JWKS_URL"),
        ([], {"jwks_url": "https://issuer.example/", "jwt_algorithms": "HS256"}, "RUNCAST_JWT_ALGORITHMS"),
        (["token", "--sub", "a"], {"jwks_url": "https://issuer.example/"}, "RUNCAST_JWT_SECRET"),
        (["token", "--sub", "a", "--ttl", "1e9"], {"jwt_secret": SECRET}, "RUNCAST_MAX_TOKEN_LIFE_S"),
        (["--bind", "256.0.0.1:1"], {"jwt_secret": SECRET, "broker": "memory:"}, "RUNCAST_BIND"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_status_2(tmp_path, arguments, variables, named):
    done = command(tmp_path, *arguments, **variables)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {named}")
    assert SECRET not in line


def test_a_log_that_cannot_be_opened_is_one_line_without_a_traceback(tmp_path):
    (tmp_path / "log.db").write_bytes(b"this is no database" * 100)
    done = command(tmp_path, "--bind", "127.0.0.1:0", jwt_secret=SECRET, broker="sqlite:///log.db", log_level="error")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "log.db" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("variable, value", [("HEARTBEAT_S", "soon"), ("BIND", "nowhere"), ("LOG_LEVEL", "loud")])
def test_a_setting_that_cannot_be_used_is_one_line_and_status_2(monkeypatch, capsys, variable, value):
    monkeypatch.setenv(f"RUNCAST_{variable}", value)
    for arguments in (["serve"], [], ["token", "--sub", "a"]):
        assert main(arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        (line,) = said.err.splitlines()
        assert line.startswith(f"error: RUNCAST_{variable}: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-option"],
        ["serve", "--bind"],
        ["nonsense"],
        ["serve", "nonsense"],
        ["token"],
        ["token", "--sub", ""],
        ["token", "--sub", "a", "--ttl", "0"],
        ["token", "--sub", "a", "--ttl", "-1"],
        ["token", "--sub", "a", "--ttl", "nan"],
        ["token", "--sub", "a", "--ttl", "inf"],
        ["token", "--sub", "a", "--ttl", "soon"],
        ["token", "--sub", "a", "--no-such-option"],
        ["token", "--sub", "a", "extra"],
    ],
)
def test_an_argument_that_is_wrong_is_status_2_and_says_so(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "error: " in said.err.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["serve", "--help"], ["token", "--help"], ["--version"]])
def test_help_and_version_are_told_and_succeed(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert capsys.readouterr().out


def test_the_help_names_every_setting(capsys):
    from gateway.settings import table

    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    told = capsys.readouterr().out
    assert all(name in told for name, _, _ in table())


def test_a_token_stands_alone_on_the_last_line_and_is_good(monkeypatch, capsys):
    monkeypatch.setenv("RUNCAST_JWT_SECRET", SECRET)
    monkeypatch.setenv("RUNCAST_JWT_ISSUER", "me")
    monkeypatch.setenv("RUNCAST_JWT_AUDIENCE", "you")
    monkeypatch.setenv("RUNCAST_NONSENSE", "x")
    assert main(["token", "--sub", "alice", "--scope", "runs:read admin", "--ttl", "60", "--runs", "a", "b"]) == 0
    said = capsys.readouterr()
    token = said.out.splitlines()[-1]
    assert said.out == f"{token}\n"
    principal = asyncio.run(tokens(Keys.from_secret(SECRET), issuer="me", audience="you").verify(token))
    assert (principal.subject, principal.scopes, principal.runs) == ("alice", {"runs:read", "admin"}, {"a", "b"})
    assert 0 < principal.expires_at - time.time() <= 60
    assert said.err.startswith("warning: RUNCAST_NONSENSE is not a setting; the nearest is RUNCAST_")


def test_a_token_needs_a_secret(monkeypatch, capsys):
    assert main(["token", "--sub", "a"]) == 2
    assert capsys.readouterr().err.startswith("error: RUNCAST_JWT_SECRET")


def test_a_public_key_signs_no_tokens(monkeypatch, capsys):
    from tests.auth.doubles import private, public_pem

    monkeypatch.setenv("RUNCAST_JWT_PUBLIC_KEY", public_pem(private("ES256")))
    assert main(["token", "--sub", "a"]) == 2
    assert "only a secret can sign" in capsys.readouterr().err
