"""The ways bytes leave for one client.

Rule 1: a transport knows bytes and how many are unsent; it knows no event, no run and no credential.
Rule 2: `write` never waits. Whoever writes asks `unsent` first and stops while too much is waiting.
"""

from gateway.transports.asgi import AsgiTransport
from gateway.transports.base import Transport
from gateway.transports.direct import DirectTransport, Wire

__all__ = ["AsgiTransport", "DirectTransport", "Transport", "Wire"]
