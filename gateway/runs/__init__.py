"""Runs: started, watched over, cancelled, ended.

Rule 1: one command path. HTTP and WebSocket call the same methods of `Runs`.
Rule 2: only this room writes lifecycle events, and every run that began ends with exactly one terminal event.
"""

from gateway.runs.external import parse_producer, parse_published
from gateway.runs.limits import Limits
from gateway.runs.retention import Policy
from gateway.runs.roster import EXTERNAL
from gateway.runs.service import Cancelled, Runs
from gateway.runs.views import Caller

__all__ = ["EXTERNAL", "Caller", "Cancelled", "Limits", "Policy", "Runs", "parse_producer", "parse_published"]
