"""How a pipeline says that it cannot go on.

    PipelineError                 base; never raised itself
    ├── Rejected                  the input makes no sense to this pipeline; another try would not help
    ├── StagesFailed              every alternative of a stage failed
    ├── ProviderError             a model provider failed; another try may succeed
    │   └── Interrupted           … after part of its answer had been shown
    ├── ProviderRefused           a model provider declined the request: its key, its model or its content
    └── BudgetExceeded            the run has spent what it was allowed: it ends as cancelled, not as failed

The message is shown to the run's viewers: it must be safe to read. Any other exception is a bug, and
viewers see only an incident id.
"""

from collections.abc import Sequence
from typing import ClassVar


class PipelineError(Exception):
    """Ends the run as failed with `code` (PROTOCOL section 2, codes of `run.failed`)."""

    code: ClassVar[str] = "pipeline.error"
    retryable: ClassVar[bool] = False


class Rejected(PipelineError):
    code = "pipeline.rejected"


class StagesFailed(PipelineError):
    code = "stages.failed"


class ProviderError(PipelineError):
    """`retry_after_s`: how long the provider wants to be left alone."""

    code = "provider.error"
    retryable = True

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Interrupted(ProviderError):
    pass


class ProviderRefused(PipelineError):
    code = "provider.refused"


class BudgetExceeded(PipelineError):
    code = "budget"


def none_left(message: str, causes: Sequence[BaseException]) -> PipelineError:
    """What a run ends with when each of its parts failed: the provider's fault where it was that, StagesFailed else."""
    for kind in (ProviderError, ProviderRefused):
        if any(isinstance(cause, kind) for cause in causes):
            return kind(message)
    return StagesFailed(message)
