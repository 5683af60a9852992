"""The command line: `python -m gateway [serve] …` and `python -m gateway token …`.

Rule 1: a mistake of the operator's is one clear line and exit status 2, never a traceback.
"""

import argparse
import sys
import time
from collections.abc import Sequence

import structlog

from gateway import __version__, settings
from gateway.app import Gateway, keys_of
from gateway.auth import mint
from gateway.errors import Problem
from gateway.logs import configure
from gateway.server import listen, serve
from gateway.settings import SettingsError
from pipeline.builtin import load

log = structlog.get_logger(__name__)
COMMANDS = ("serve", "token")


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0] not in COMMANDS and given[0] not in ("-h", "--help", "--version")):
        given.insert(0, "serve")
    options = _parser().parse_args(given)
    for warning in settings.unknown():
        print(f"warning: {warning}", file=sys.stderr)
    try:
        return _token(options) if options.command == "token" else _serve(options)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _serve(options: argparse.Namespace) -> int:
    chosen = settings.load(bind=options.bind, broker=options.broker, pipelines=options.pipelines)
    configure(format=chosen.log_format, level=chosen.log_level)
    try:
        registry = load(chosen.pipelines)
    except Exception as error:
        raise SettingsError(f"RUNCAST_PIPELINES: {type(error).__name__}: {error}") from None
    gateway = Gateway(chosen, registry, dev=options.dev)
    try:
        listening = listen(chosen)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"RUNCAST_BIND: cannot listen on {chosen.bind}: {error}") from None
    if options.dev:
        _warn_of_development(chosen.bind)
    try:
        serve(gateway, listening)
    except Problem as problem:
        print(f"error: {problem.detail or problem}", file=sys.stderr)
        return 1
    return 0


def _warn_of_development(bind: str) -> None:
    print(
        "\n  DEVELOPMENT MODE: tokens are signed with a secret that is made up now and gone at the end,\n"
        "  and the console on this machine is given one. Never expose this to a network.\n"
        f"\n  Console: http://{bind}/\n",
        file=sys.stderr,
    )


def _token(options: argparse.Namespace) -> int:
    chosen = settings.load()
    keys = None if chosen.jwks_url else keys_of(chosen, dev=False)
    if keys is None or keys.signing is None:
        raise SettingsError("RUNCAST_JWT_SECRET: only a secret can sign tokens; a public key cannot")
    if options.ttl > chosen.max_token_life_s:
        raise SettingsError(f"RUNCAST_MAX_TOKEN_LIFE_S: a token may live for {chosen.max_token_life_s:.0f} s at most")
    token = mint(
        keys.signing,
        subject=options.sub,
        scope=options.scope,
        ttl_s=options.ttl,
        now=time.time(),
        runs=options.runs,
        issuer=chosen.jwt_issuer,
        audience=chosen.jwt_audience,
        algorithm=keys.algorithms[0],
    )
    print(token)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway", description="Runcast, a realtime gateway.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{serve,token}")
    serving = commands.add_parser(
        "serve",
        help="serve the gateway and its console (the default)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="environment:\n" + _environment(),
    )
    serving.add_argument("--bind", metavar="HOST:PORT", help="address to listen on")
    serving.add_argument("--broker", metavar="URL", help="sqlite:///PATH or memory:")
    serving.add_argument("--pipelines", metavar="MODULE", nargs="+", help="modules that declare pipelines")
    serving.add_argument("--dev", action="store_true", help="ephemeral secret, and a token for the local console")
    token = commands.add_parser("token", help="print a token signed with RUNCAST_JWT_SECRET")
    token.add_argument("--sub", required=True, type=_subject, help="whose token it is")
    token.add_argument("--scope", default="", help="space-separated scopes")
    token.add_argument("--ttl", type=_positive, default=3600, metavar="SECONDS", help="how long it is good (3600)")
    token.add_argument("--runs", nargs="+", default=[], metavar="ID", help="further runs that it may see")
    return parser


def _subject(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 10**10:
        raise argparse.ArgumentTypeError("must be a positive number of seconds")
    return value


def _environment() -> str:
    rows = settings.table()
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(
        f"  {name:{width}}  {meaning}" + (f" ({default})" if default else "") for name, default, meaning in rows
    )


if __name__ == "__main__":
    sys.exit(main())
