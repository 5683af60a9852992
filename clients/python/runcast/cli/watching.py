"""Show a run as it goes, until it ends or whoever watches has enough.

A person at a terminal is asked what the run asks.

Rule 1: Ctrl-C ends nothing but the watching unless the answer is yes; a second one leaves at once.
"""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from typing import Any, NamedTuple, Protocol

import orjson
from rich.console import Console
from rich.live import Live

from runcast.cli.asking import Questions, attended, line
from runcast.cli.display import Picture, line_of, plain
from runcast.cli.exits import Exit, exit_after
from runcast.client import Run
from runcast.events import Delta, Draft, Event, Gap
from runcast.follow import Connection
from runcast.state import RunState

_FRAMES_A_SECOND = 8
_QUESTION = "\nCancel the run? [y] cancel it  [Enter] only stop watching  [Ctrl-C] leave at once: "


_INTERRUPTED, _TYPED = 0, 2  # among what may come first


class _Came(NamedTuple):
    number: int
    value: Any


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
    questions = Questions(run, picture)
    following = asyncio.create_task(_follow(run, picture, screen, questions))
    try:
        stopped = await _until_end(run, following, interrupts, screen, questions)
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


async def _follow(run: Run, picture: Picture, screen: Screen, questions: Questions) -> None:
    async with aclosing(run.events(on_connection=screen.connection)) as events:
        async for event in events:
            picture.take(event)
            if isinstance(event, Gap) and not event.anew:
                picture.state = await run.state()
            screen.take(event)
            questions.look()


async def _until_end(
    run: Run, following: asyncio.Task[None], interrupts: asyncio.Queue[None], screen: Screen, questions: Questions
) -> bool:
    """Whether it was left before the run's end."""
    while True:
        asked = questions.first if attended() else None
        if asked is None:
            came = await _first(following, interrupts.get(), questions.other_than(None))
        else:
            screen.end()
            _put(f"\n{plain(asked.prompt)} [Enter: leave it to others]: ")
            came = await _first(following, interrupts.get(), questions.other_than(asked), line())
            if came is None or came.number != _TYPED:
                _put("\n")
            else:
                await questions.answer(asked, came.value)
            screen.begin()
        if came is None:
            return False
        if came.number == _INTERRUPTED:
            return await _leaves(run, following, interrupts, screen)


async def _leaves(run: Run, following: asyncio.Task[None], interrupts: asyncio.Queue[None], screen: Screen) -> bool:
    """After Ctrl-C: whether it was left before the run's end."""
    if not attended():
        return True
    screen.end()
    _put(_QUESTION)
    came = await _first(following, interrupts.get(), line())
    if came is None:
        _put("\n")
        return False
    if came.number == _INTERRUPTED or came.value.strip().lower() not in ("y", "yes"):
        return True
    screen.begin()
    came = await _first(following, interrupts.get(), run.cancel("cancelled from the command line"))
    if came is None or came.number == _INTERRUPTED:
        return came is not None
    return await _first(following, interrupts.get()) is not None


async def _first(following: asyncio.Task[None], *others: Coroutine[Any, Any, Any]) -> _Came | None:
    """Which of the others came before the end of following, and with what."""
    waiting = [asyncio.create_task(other) for other in others]
    try:
        await asyncio.wait((following, *waiting), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            return None
        return next(_Came(number, one.result()) for number, one in enumerate(waiting) if one.done())
    finally:
        for one in waiting:
            one.cancel()


def _put(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


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
        sys.stderr.write(f"error: {plain(state.error.message)} ({state.error.code}{incident})\n")
    else:
        sys.stderr.write("The run was cancelled.\n")


def _text_of(result: Any) -> str:
    if isinstance(result, dict) and isinstance(result.get("markdown"), str):
        return str(result["markdown"])
    return result if isinstance(result, str) else orjson.dumps(result, option=orjson.OPT_INDENT_2).decode()
