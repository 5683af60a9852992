"""What a run asks, put to the person who watches it.

Rule 1: a question is put once; whoever presses Enter leaves it to others, and it stays in the picture.
"""

import asyncio
import os
import sys
from typing import Any

from runcast.cli.arguments import value_of
from runcast.cli.display import Picture
from runcast.cli.exits import told
from runcast.client import Run
from runcast.errors import Conflict, RuncastError
from runcast.events import InputRequested


class Questions:
    """Those of the picture's run that nobody has answered and this person has not passed over."""

    def __init__(self, run: Run, picture: Picture) -> None:
        self._run = run
        self._picture = picture
        self._passed: set[str] = set()
        self._changed = asyncio.Event()

    @property
    def first(self) -> InputRequested | None:
        state = self._picture.state
        waiting = () if state.finished else state.inputs
        return next((one for one in waiting if one.input_id not in self._passed), None)

    def look(self) -> None:
        """The picture has changed."""
        self._changed.set()

    async def other_than(self, asked: InputRequested | None) -> None:
        """Return when something else, or nothing any more, is asked first."""
        while self.first is asked:
            self._changed.clear()
            await self._changed.wait()

    async def answer(self, question: InputRequested, said: str) -> None:
        """Send what was typed. What is refused is told, and may be asked again."""
        text = said.strip()
        if not text:
            self._passed.add(question.input_id)
            return
        try:
            await self._run.input(question.input_id, _value(question, text))
        except Conflict as conflict:
            sys.stderr.write(f"{told(conflict)}\n")
        except RuncastError as error:
            sys.stderr.write(f"{told(error)}\n")
            return
        self._passed.add(question.input_id)  # until the event comes that says so


def _value(question: InputRequested, text: str) -> Any:
    wants_text = isinstance(question.schema_, dict) and question.schema_.get("type") == "string"
    return text if wants_text else value_of(text)


def attended() -> bool:
    """Whether somebody is there to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def line() -> str:
    """A line from the terminal, while the loop goes on. Empty at its end."""
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
        return os.read(descriptor, 4096).decode(errors="replace")
    finally:
        loop.remove_reader(descriptor)
