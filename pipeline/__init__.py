"""What a pipeline author imports: `pipeline`, `Context` and the errors a pipeline may raise.

Rule 1: this package knows nothing of the gateway. A pipeline runs against any `Sink`, with nobody watching.
"""

from pipeline.context import Context, Recorder, Sink
from pipeline.errors import BudgetExceeded, PipelineError, ProviderError, ProviderRefused, Rejected, StagesFailed
from pipeline.registry import Pipeline, Registry, pipeline

__all__ = [
    "BudgetExceeded",
    "Context",
    "Pipeline",
    "PipelineError",
    "ProviderError",
    "ProviderRefused",
    "Recorder",
    "Registry",
    "Rejected",
    "Sink",
    "StagesFailed",
    "pipeline",
]
