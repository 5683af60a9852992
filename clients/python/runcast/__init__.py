"""Runcast's client: start runs, follow them through whatever breaks, command them, publish for them."""

from importlib.metadata import version

from runcast.client import Acknowledged, Client, Pipeline, Run
from runcast.errors import (
    Cancelled,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    RuncastError,
    Unauthorized,
    Unreachable,
)
from runcast.events import Event, Gap
from runcast.follow import Connection
from runcast.publisher import Publisher
from runcast.state import RunState
from runcast.sync import SyncClient, SyncPublisher, SyncRun

__version__ = version("runcast")

__all__ = [
    "Acknowledged", "Cancelled", "Client", "Conflict", "Connection", "Event", "Forbidden", "Gap", "Invalid",
    "NotFound", "Pipeline", "Publisher", "Refused", "Run", "RunState", "RuncastError", "SyncClient", "SyncPublisher",
    "SyncRun", "Unauthorized", "Unreachable",
]  # fmt: skip
