"""How a pipeline says that it cannot go on.

    PipelineError                 base; never raised itself
    ├── Rejected                  the input makes no sense to this pipeline; another try would not help
    ├── StagesFailed              every alternative of a stage failed
    ├── ProviderError             a model provider failed; another try may succeed
    ├── ProviderRefused           a model provider declined the content
    └── BudgetExceeded            the run has spent what it was allowed: it ends as cancelled, not as failed

The message is shown to the run's viewers: it must be safe to read. Any other exception is a bug, and
viewers see only an incident id.
"""

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
    code = "provider.error"
    retryable = True


class ProviderRefused(PipelineError):
    code = "provider.refused"


class BudgetExceeded(PipelineError):
    code = "budget"
