"""Request bodies that cannot fill the memory, and refusals that reach the client.

A response sent before the whole request has come in is often lost: closing a socket with unread bytes resets it. So a
body that is too large is read to its end and thrown away, within bounds, before the refusal goes out.
"""

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any

from quart import Request
from quart.wrappers.request import Body
from werkzeug.exceptions import RequestEntityTooLarge

MAX_DISCARDED_BYTES = 64 << 20
DISCARD_TIMEOUT_S = 5


class BoundedBody(Body):
    """Keeps at most `max_content_length` bytes; what comes after them is dropped."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._dropped = 0

    def append(self, data: bytes) -> None:
        if self._must_raise is None:
            self._data.extend(data)
            if self._max_content_length is not None and len(self._data) > self._max_content_length:
                self._must_raise = RequestEntityTooLarge()
                self._dropped = len(self._data)
                self._data.clear()
        else:
            self._dropped += len(data)
            if self._dropped > MAX_DISCARDED_BYTES:
                self.set_complete()

    def __await__(self) -> Generator[Any, None, Any]:
        yield from self._complete.wait().__await__()
        if self._must_raise is not None:
            raise self._must_raise
        return bytes(self._data)

    @property
    def whole(self) -> bool:
        return self._complete.is_set()

    async def received(self) -> None:
        """Return when the client has sent everything, or when enough has been waited for."""
        if not self.whole:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._complete.wait(), DISCARD_TIMEOUT_S)


class BoundedRequest(Request):
    body_class = BoundedBody
    body: BoundedBody

    async def take_body(self) -> bytes:
        """The body, which is not kept. Raises RequestEntityTooLarge, RequestTimeout."""
        if not self.body.whole:
            data: bytes = await self.get_data(False, False, False)
            return data
        data = await self.body  # waiting with a time limit would take a task
        self.body.clear()
        return data
