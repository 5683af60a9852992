"""The seam between runs and the place where their events are kept.

Rule 1: an event is visible to nobody, neither by `read` nor by a watch, before it is as durable as the broker
promises.
Rule 2: a stream takes exactly one terminal event and nothing after it, whoever asks.
Rule 3: nothing above this room knows which broker it is talking to; one contract suite holds for all of them.
"""

from gateway.broker.base import (
    Broker,
    Key,
    NewRun,
    Page,
    Position,
    Producer,
    Revocation,
    Run,
    Sink,
    Snapshot,
    Visible,
)
from gateway.broker.memory import MemoryBroker
from gateway.broker.sqlite import SqliteBroker

__all__ = [
    "Broker",
    "Key",
    "MemoryBroker",
    "NewRun",
    "Page",
    "Position",
    "Producer",
    "Revocation",
    "Run",
    "Sink",
    "Snapshot",
    "SqliteBroker",
    "Visible",
]
