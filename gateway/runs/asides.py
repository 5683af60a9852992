"""What people may say to a run while it works: pause, resume, the answer to a question (PROTOCOL sections 2 and 4).

Rule 1: a pause takes effect at the pipeline's next checkpoint, and a paused run holds no thread: it awaits.
Rule 2: a question is answered once.
"""

import asyncio
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gateway.errors import Conflict, Invalid
from gateway.wire.events import problems


class Gate:
    """Whether a run may go on. `asked_by`: who wants it paused (None: nobody)."""

    def __init__(self) -> None:
        self.asked_by: str | None = None
        self.resumed_by = ""
        self._open = asyncio.Event()
        self._open.set()

    def shut(self, by: str) -> None:
        self.asked_by = by
        self._open.clear()

    def open(self, by: str) -> None:
        self.asked_by = None
        self.resumed_by = by
        self._open.set()

    async def passed(self) -> None:
        await self._open.wait()


class Questions:
    """The questions a run waits for, by `input_id`."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[TypeAdapter[Any], asyncio.Future[Any]]] = {}

    def ask(self, input_id: str, expected: TypeAdapter[Any]) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open[input_id] = (expected, answer)
        return answer

    def withdraw(self, input_id: str) -> None:
        self._open.pop(input_id, None)

    def take(self, input_id: str, value: Any) -> tuple[asyncio.Future[Any], Any]:
        """Close a question with this answer: who waits for it, and the answer checked.

        Raises Conflict (`input.closed`), Invalid; after Invalid the question is still open.
        """
        if input_id not in self._open:
            raise Conflict("input.closed")
        expected, waiting = self._open[input_id]
        try:
            checked = expected.validate_python(value)
        except ValidationError as error:
            found = problems(error, "value")
            raise Invalid(detail=f"value: {found[0]['message']}", errors=found) from None
        del self._open[input_id]
        return waiting, checked
