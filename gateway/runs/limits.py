"""What runs may take."""

from typing import NamedTuple


class Limits(NamedTuple):
    max_runs: int
    max_runs_per_subject: int
    max_event_bytes: int
    cancel_grace_s: float
    external_idle_s: float
    max_events_per_run: int
    max_bytes_per_run: int
