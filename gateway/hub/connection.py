"""One client's connection: a transport, a framing, and the runs it watches.

Rule 1: whatever the hub decides, the route that owns the response carries it out: `finish` asks, the route's outlet
ends and it closes by its own means, with `close` as the reason.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Protocol

from gateway.hub.subscription import State, Subscription
from gateway.transports import DirectTransport, Transport
from gateway.wire.codes import Close
from gateway.wire.control import Control
from gateway.wire.framing import Framing


class Pump(Protocol):
    """Starts the work of catching up a connection in the background."""

    def __call__(self, connection: "Connection") -> None: ...


class Connection:
    """`subject` is whose it is ("" before authentication), `expires_at` (Unix seconds) when its credential ends.

    `warn_at`: when that is to be told of, or is due if it was.
    `bearer` is the credential itself, which means something to others only.
    `address`: where it comes from ("" where nobody knows). `sole`: it was made for its subscriptions alone (SSE) and
    ends with the last of them. `unsent`: the bytes that waited when the clock last looked.
    """

    __slots__ = (
        "_left",
        "_pinged_at",
        "_pump",
        "_stalled_at",
        "_taken",
        "address",
        "bearer",
        "close",
        "expires_at",
        "framing",
        "id",
        "pumping",
        "sole",
        "subject",
        "subscriptions",
        "transport",
        "unsent",
        "warn_at",
        "wrote_at",
    )  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        framing: Framing,
        *,
        pump: Pump,
        left: Callable[[Subscription], None],
        subject: str,
        address: str,
        expires_at: float,
        warn_at: float,
        sole: bool,
        bearer: object = None,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.transport = transport
        self.framing = framing
        self.subject = subject
        self.address = address
        self.expires_at = expires_at
        self.warn_at = warn_at
        self.sole = sole
        self.bearer = bearer
        self.subscriptions: dict[str, Subscription] = {}
        self.wrote_at = asyncio.get_running_loop().time()
        self.pumping = False
        self.close: Close | None = None
        self._stalled_at: float | None = None
        self._pinged_at: float | None = None
        self.unsent = 0
        self._taken = 0
        self._pump = pump
        self._left = left

    @property
    def kind(self) -> tuple[str, str]:
        """What it is, and the way its bytes go."""
        return "sse" if self.sole else "websocket", "direct" if isinstance(self.transport, DirectTransport) else "asgi"

    def write(self, data: bytes) -> None:
        self.transport.write(data)
        self.wrote_at = asyncio.get_running_loop().time()

    def control(self, frame: Control) -> None:
        self.write(self.framing.control(frame))

    def finish(self, close: Close = Close.NORMAL) -> None:
        """End in order: what is written is still sent. The first reason counts."""
        if self.close is None:
            self.close = close
        self.transport.finish()

    def catch_up(self) -> None:
        if not self.pumping:
            self._pump(self)

    def behind(self) -> list[Subscription]:
        return [each for each in self.subscriptions.values() if each.state is State.BEHIND]

    def left(self, subscription: Subscription) -> None:
        """A subscription ended. A connection made for it alone (SSE) ends with its last one."""
        if self.subscriptions.get(subscription.topic.run) is subscription:
            del self.subscriptions[subscription.topic.run]
        self._left(subscription)
        if self.sole and not self.subscriptions:
            self.finish()

    def beat(self, frame: bytes, now: float) -> None:
        """Send a heartbeat, and ask whether anybody is there, if this transport can tell and was not asked already.

        To be called while nothing is unsent.
        """
        if self.framing.ping and self._pinged_at is None and self.transport.heard_at() is not None:
            frame += self.framing.ping
            self._pinged_at = now
        self.transport.offer(frame)
        self.wrote_at = now

    def waits_for(self, now: float) -> float:
        """Seconds for which the client has taken nothing of what is unsent, or has not been heard of after a ping.

        To be asked every now and then, of a great many: where there is nothing to wait for it costs little.
        """
        self.unsent = self.transport.unsent()
        if not self.unsent and self._pinged_at is None:
            self._stalled_at = None
            return 0.0
        return max(self._stalled_for(now), self._silent_for(now))

    def _stalled_for(self, now: float) -> float:
        taken = self.transport.taken()
        if self.unsent == 0 or taken > self._taken or self._stalled_at is None:
            self._stalled_at = now
        self._taken = taken
        return now - self._stalled_at if self.unsent else 0.0

    def _silent_for(self, now: float) -> float:
        if self._pinged_at is None:
            return 0.0
        heard_at = self.transport.heard_at()
        if heard_at is None or heard_at >= self._pinged_at:
            self._pinged_at = None
            return 0.0
        return now - self._pinged_at
