"""What can go wrong.

RuncastError
├── Refused            the gateway said no: `code` tells why (PROTOCOL section 8), `retryable` whether for good
│   ├── Unauthorized   no token, or not a good one, also after a fresh one was fetched (401)
│   ├── Forbidden      the token's scopes or subject do not allow it (403)
│   ├── NotFound       no such run or pipeline, or not for this token (404)
│   ├── Conflict       the run is not in a state for it (409)
│   └── Invalid        input or event are not as they must be; `errors` has the paths (422)
├── Unreachable        nothing answered, or something else in the gateway's place, as often as it was tried
└── Cancelled          raised by Publisher.checkpoint: the run that this worker speaks for was cancelled
"""

from typing import Any


class RuncastError(Exception):
    """`retryable`: it may go better later; `retry_after_ms`: when, if that was said."""

    retryable = False
    retry_after_ms: float | None = None


class Unreachable(RuncastError):
    retryable = True

    def __init__(self, message: str, *, retry_after_ms: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Cancelled(RuncastError):
    pass


class Refused(RuncastError):
    """`document` is the problem as it came, `status` the HTTP status (0: refused on a WebSocket)."""

    def __init__(self, document: dict[str, Any], *, status: int = 0, retry_after_ms: float | None = None) -> None:
        self.status = status
        self.own = "code" in document  # the gateway's words, not those of something between
        self.document = document
        self.code: str = str(document.get("code") or f"http.{status}")
        self.title: str = str(document.get("title") or self.code)
        self.detail: str | None = document.get("detail")
        self.errors: list[dict[str, Any]] = document.get("errors") or []
        self.incident: str | None = document.get("incident")
        self.retryable = bool(document.get("retryable"))
        self.retry_after_ms = retry_after_ms
        super().__init__(f"{self.detail or self.title} ({self.code})")


class Unauthorized(Refused):
    pass


class Forbidden(Refused):
    pass


class NotFound(Refused):
    pass


class Conflict(Refused):
    pass


class Invalid(Refused):
    pass


_OF_STATUS: dict[int, type[Refused]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
}


def refused(document: dict[str, Any], *, status: int, retry_after_ms: float | None = None) -> Refused:
    return _OF_STATUS.get(status, Refused)(document, status=status, retry_after_ms=retry_after_ms)
