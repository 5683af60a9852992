"""Show a run as it goes, until it ends or whoever watches has enough.

Rule 1: Ctrl-C ends nothing but the watching unless the answer is yes; a second one leaves at once.
"""

import asyncio
import os
import signal
import sys
from contextlib import aclosing, suppress
from typing import Any, Protocol

import orjson
from rich.console import Console
from rich.live import Live

from runcast.cli.display import Picture, line_of
from runcast.cli.exits import Exit, exit_after
from runcast.client import Run
from runcast.events import Delta, Draft, Event, Gap
from runcast.follow import Connection
from runcast.state import RunState

_FRAMES_A_SECOND = 8
_QUESTION = "\nCancel the run? [y] cancel it  [Enter] only stop watching  [Ctrl-C] leave at once: "


class Screen(Protocol):
    def take(self, event: Event) -> None: ...
    def connection(self, connection: Connection) -> None: ...
    def begin(self) -> None: ...
    def end(self) -> None: ...


async def watch(run: Run) -> int:
    """Show the run on stderr, print its result on stdout. Raises Refused, Unreachable."""
    await run.state()  # what cannot be watched at all is told at once, not after the retries
    console = Console(stderr=True, markup=False, highlight=False)
    picture = Picture(run.id)
    screen: Screen = _Moving(console, picture) if console.is_terminal else _Lines(picture)
    interrupts: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupts.put_nowait, None)
    screen.begin()
    following = asyncio.create_task(_follow(run, picture, screen))
    try:
        stopped = await _until_end(run, following, interrupts, screen)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait([following])
        screen.end()
    if stopped:
        sys.stderr.write(f"The run goes on: runcast watch {run.id}\n")
        return Exit.INTERRUPTED
    following.result()
    _print_end(picture.state)
    return exit_after(picture.state)


async def _follow(run: Run, picture: Picture, screen: Screen) -> None:
    async with aclosing(run.events(on_connection=screen.connection)) as events:
        async for event in events:
            picture.take(event)
            if isinstance(event, Gap) and not event.anew:
                picture.state = await run.state()
            screen.take(event)


async def _until_end(run: Run, following: asyncio.Task[None], interrupts: asyncio.Queue[None], screen: Screen) -> bool:
    """Whether it was left before the run's end."""
    if not await _first(following, interrupts.get()):
        return False
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    screen.end()
    sys.stderr.write(_QUESTION)
    sys.stderr.flush()
    answer = asyncio.create_task(_line())
    leaving = asyncio.create_task(interrupts.get())
    try:
        await asyncio.wait((following, answer, leaving), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            sys.stderr.write("\n")
            return False
        if leaving.done() or answer.result().strip().lower() not in ("y", "yes"):
            return True
        screen.begin()
        await run.cancel("cancelled from the command line")
        return await _first(following, interrupts.get())
    finally:
        answer.cancel()
        leaving.cancel()


async def _first(following: asyncio.Task[None], other: Any) -> bool:
    """Whether the other came before the end of following."""
    waiting = asyncio.ensure_future(other)
    await asyncio.wait((following, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return not following.done()


async def _line() -> str:
    """A line from the terminal, while the loop goes on. Empty at its end."""
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
        return os.read(descriptor, 1024).decode(errors="replace")
    finally:
        loop.remove_reader(descriptor)


class _Moving:
    """A picture that is drawn again and again."""

    def __init__(self, console: Console, picture: Picture) -> None:
        self._console = console
        self._picture = picture
        self._live: Live | None = None

    def begin(self) -> None:
        self._live = Live(
            console=self._console,
            get_renderable=lambda: self._picture.drawn(height=self._console.height, width=self._console.width),
            refresh_per_second=_FRAMES_A_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def end(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def take(self, event: Event) -> None:
        pass  # it is in the picture

    def connection(self, connection: Connection) -> None:
        self._picture.connection = connection


class _Lines:
    """Where nothing can move: a line for each event but the growing text's."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def begin(self) -> None:
        sys.stderr.write(f"{self._picture.state.id}\n")

    def end(self) -> None:
        sys.stderr.flush()

    def take(self, event: Event) -> None:
        if not isinstance(event, Delta | Draft):
            sys.stderr.write(f"{line_of(event)}\n")

    def connection(self, connection: Connection) -> None:
        if connection.status == "retrying" and connection.retry_in_ms is not None:
            sys.stderr.write(f"the connection was lost; again in {connection.retry_in_ms / 1000:.1f} s\n")


def _print_end(state: RunState) -> None:
    """The result on stdout, or on stderr why there is none."""
    if state.status == "completed":
        if state.result is not None:
            sys.stdout.write(_text_of(state.result).rstrip("\n") + "\n")
            sys.stdout.flush()
    elif state.error is not None:
        incident = f", incident {state.error.incident}" if state.error.incident else ""
        sys.stderr.write(f"error: {state.error.message} ({state.error.code}{incident})\n")
    else:
        sys.stderr.write("The run was cancelled.\n")


def _text_of(result: Any) -> str:
    if isinstance(result, dict) and isinstance(result.get("markdown"), str):
        return str(result["markdown"])
    return result if isinstance(result, str) else orjson.dumps(result, option=orjson.OPT_INDENT_2).decode()
