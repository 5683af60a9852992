"""What may stand on the command line."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import orjson

from runcast.cli.exits import MEANING
from runcast.policy import TRANSPORTS

DEFAULT_URL = "http://127.0.0.1:8000"
STATUSES = ("queued", "running", "paused", "cancelling", "completed", "failed", "cancelled")
_EPILOG = "exit status:\n" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in MEANING.items())


class Usage(Exception):
    """The command line is not right, in a line for its author."""


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Callable[[str], NoReturn]]:
    """The options, and what ends the program with a word about them."""
    parser, commands = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest:
        # Fields may stand anywhere among the options.
        if options.command != "start" or any(field.startswith("-") for field in rest):
            commands[options.command].error(f"unrecognized arguments: {' '.join(rest)}")
        options.pairs += rest
    environment = {
        "url": os.environ.get("RUNCAST_URL") or DEFAULT_URL,
        "token": os.environ.get("RUNCAST_TOKEN"),
    }
    for name, value in environment.items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)
    return options, commands[options.command].error


def input_of(options: argparse.Namespace) -> Any:
    """The run's input from `--input` and the pairs. Raises Usage."""
    given = {} if options.input is None else _json(_text_of(options.input, "--input"), "--input")
    for pair in options.pairs:
        name, value = _pair(pair)
        if not isinstance(given, dict):
            raise Usage(f"{pair}: --input is not an object that a field could be set in")
        given[name] = value
    return given


def _pair(pair: str) -> tuple[str, Any]:
    name, sign, value = pair.partition("=")
    if not sign or not name.rstrip(":"):
        raise Usage(f"{pair}: a field is NAME=TEXT, NAME=@FILE or NAME:=JSON")
    if name.endswith(":"):
        return name[:-1], _json(value, name[:-1])
    return name, _text_of(value, name) if value.startswith("@") else value


def _text_of(value: str, name: str) -> str:
    try:
        if value in ("-", "@-"):
            return sys.stdin.read()
        return Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not a text in UTF-8"
        raise Usage(f"{name}: {value[1:]}: {reason}") from None


def _json(text: str, name: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Usage(f"{name}: not JSON: {error}") from None


def value_of(text: str) -> Any:
    """JSON if it is, otherwise the text itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


class _Commands:
    """Each command with what all of them take."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.all: dict[str, argparse.ArgumentParser] = {}
        self._add = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser

    def __call__(self, name: str, help: str, *, run: bool = False) -> argparse.ArgumentParser:
        made = self._add(
            name, help=help, description=help, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        # Before the command, too: what is not said here must not cover what was said there.
        _where(made, default=argparse.SUPPRESS)
        if run:
            made.add_argument("run", metavar="ID", help="the run")
        self.all[name] = made
        return made


def _where(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    parser.add_argument("--url", default=default, help="the gateway (RUNCAST_URL, or http://127.0.0.1:8000)")
    token = "the JWT (RUNCAST_TOKEN, which others on this machine cannot see)"  # noqa: S105 - words about one
    parser.add_argument("--token", default=default, help=token)


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="runcast",
        description="Start, watch and command the runs of a Runcast gateway.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("runcast"))
    _where(parser)
    command = _Commands(parser)
    _start(command("start", "start a run; prints its id"))
    watch = command("watch", "show a run as it goes; prints its result", run=True)
    _transport(watch)
    _tail(command("tail", "print a run's events, one on a line", run=True))
    cancel = command("cancel", "ask for a run's end", run=True)
    cancel.add_argument("--reason", help="a word to its viewers")
    command("pause", "hold a run at its next checkpoint", run=True)
    command("resume", "let a paused run go on", run=True)
    answer = command("input", "answer a run's question", run=True)
    answer.add_argument("input_id", metavar="QUESTION", help="the question's input_id")
    answer.add_argument("value", metavar="VALUE", help="JSON, or else a text")
    retry = command("retry", "start a run anew; prints the new one's id", run=True)
    retry.add_argument("--watch", action="store_true", help="show it as it goes, and print its result")
    _transport(retry)
    _ls(command("ls", "list runs, newest first"))
    pipelines = command("pipelines", "list what can be run, and the fields of its input")
    pipelines.add_argument("--json", action="store_true", help="one JSON object on each line, with the schemas")
    _bench(command("bench", "measure delivery with a small load"))
    return parser, command.all


def _start(start: argparse.ArgumentParser) -> None:
    start.add_argument("pipeline", metavar="PIPELINE")
    start.add_argument(
        "pairs", metavar="FIELD", nargs="*", help="NAME=TEXT, NAME=@FILE or NAME:=JSON, set in the input"
    )
    start.add_argument("--input", metavar="JSON", help="the input: JSON, @FILE, or - for standard input")
    start.add_argument("--watch", action="store_true", help="show it as it goes, and print its result")
    start.add_argument("--key", help="an Idempotency-Key: the same again gives the same run")
    start.add_argument("--owner", help="for whom (scope runs:delegate)")
    start.add_argument("--budget-usd", type=float, metavar="USD", help="what it may spend on models")
    start.add_argument("--timeout-s", type=float, metavar="SECONDS", help="how long it may take")
    start.add_argument("--on-disconnect", choices=("continue", "cancel"), help="when nobody watches any more")
    _transport(start)


def _tail(tail: argparse.ArgumentParser) -> None:
    tail.add_argument("--json", action="store_true", help="the events themselves, one JSON object on each line")
    tail.add_argument("--after", metavar="CURSOR", help="only what comes after this event's id")
    tail.add_argument(
        "--replay", choices=("full", "folded", "none"), default="full", help="how the past is told (full)"
    )
    tail.add_argument("--types", metavar="TYPE,…", help="only these types, and the lifecycle")
    _transport(tail)


def _ls(ls: argparse.ArgumentParser) -> None:
    ls.add_argument("--status", choices=STATUSES)
    ls.add_argument("--pipeline")
    ls.add_argument("--limit", type=_within(1, 10_000), default=20, help="how many at most (20)")
    ls.add_argument("--json", action="store_true", help="one JSON object on each line")


def _bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("--viewers", type=_within(1, 1_000), default=20, help="who watch one run (20)")
    bench.add_argument("--events", type=_within(1, 100_000), default=200, help="how many it says (200)")
    bench.add_argument("--rate", type=_within(1, 2_000), default=50, help="how many in a second (50)")
    bench.add_argument("--json", action="store_true", help="the figures as one JSON object")
    _transport(bench)


def _transport(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--transport", choices=TRANSPORTS, help="use this one (the first of them that works)")


def _within(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if text.isdecimal() and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be a number from {least} to {most}")

    return number
