"""What the hub asks of a transport."""

from collections.abc import AsyncGenerator
from typing import Protocol


class Transport(Protocol):
    """One client's outgoing bytes."""

    def write(self, data: bytes) -> None:
        """Send these bytes after all earlier ones; after `finish` or a loss they are dropped."""

    def begin(self) -> None:
        """The response's head is out, so what is written may follow. Until then it is held back."""

    def offer(self, data: bytes) -> bool:
        """The hot path: write, unless more than the transport's limit is unsent; False when nothing was taken."""

    def has_room(self) -> bool:
        """Whether `offer` would take something now."""

    def unsent(self) -> int:
        """How many bytes this process still holds for the client."""

    def taken(self) -> int:
        """A count that grows while the client takes what had to wait for it."""

    async def drained(self) -> None:
        """Return when little enough is unsent to go on writing. Raises ConnectionError when the client is gone."""

    def heard_at(self) -> float | None:
        """When the client was heard of last, in loop time; None when this transport cannot tell."""

    def finish(self) -> None:
        """Nothing more will be written: once all is sent, `outlet` ends. Idempotent."""

    def abort(self) -> None:
        """Cut the client off at once, whatever is unsent."""

    def outlet(self) -> AsyncGenerator[bytes]:
        """What the owner of the response has to send by its own means, until the transport is finished.

        A transport that reaches the socket itself yields nothing here, and just ends when it is finished.
        """
