"""The command line `runcast`.

Rule 1: what goes wrong is one clear line on stderr and an exit status that tells its kind, never a traceback.
Rule 2: stdout carries what was asked for and nothing else, so that it can be piped; whatever is for eyes alone goes to
stderr.
"""

import argparse
import asyncio
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from runcast.cli.arguments import Usage, parse
from runcast.cli.commands import COMMANDS
from runcast.cli.exits import Exit, exit_of, told
from runcast.client import Client
from runcast.errors import RuncastError
from runcast.policy import TRANSPORTS


def main(arguments: Sequence[str] | None = None) -> int:
    _open_streams()
    options, usage = parse(arguments)
    try:
        return asyncio.run(_perform(options))
    except Usage as error:
        usage(str(error))  # exits with 2
    except RuncastError as error:
        _say(told(error))
        return exit_of(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # whoever read has enough
        return Exit.CLOSED_PIPE
    except OSError as error:
        _drop_output()
        _say(str(error))
        return Exit.NO_OUTPUT
    return Exit.USAGE


def _token_of(options: argparse.Namespace) -> str | None:
    """Out of a file it comes with a newline."""
    token: str = (options.token or "").strip()
    if not token.isascii():
        raise Usage("--token: this is no JWT")
    return token or None


def _open_streams() -> None:
    """One that was closed before the program began is None in Python; what cannot be spelled is escaped."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - to the program's end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """What Python would still flush at its end has nowhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _perform(options: argparse.Namespace) -> int:
    chosen = getattr(options, "transport", None)
    transports = (chosen,) if chosen else TRANSPORTS
    try:
        # A person who waits is told at once that nothing answers.
        client = Client(options.url, token=_token_of(options), attempts=1, transports=transports)
    except ValueError as error:
        raise Usage(f"--url: {error}") from None
    async with client:
        return await COMMANDS[options.command](client, options)


def _say(line: str) -> None:
    sys.stderr.write(f"error: {' '.join(line.split())}\n")
