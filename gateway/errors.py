"""Everything the gateway refuses or fails at, with the code that PROTOCOL section 8 gives it.

    Problem                       carries code, status, title, retryable
    ├── Unauthorized       401    auth.missing  auth.invalid  auth.expired  auth.revoked
    ├── Forbidden          403    auth.forbidden
    ├── NotFound           404    not_found  run.not_found  pipeline.unknown
    ├── MethodNotAllowed   405    method.not_allowed
    ├── Conflict           409    run.finished  run.active  run.not_external  run.cancelled  key.conflict
    │                             input.closed  producer.gap  producer.fenced
    ├── TooLarge           413    body.too_large
    ├── Invalid            422    input.invalid  event.invalid
    ├── FrameInvalid       —      frame.invalid (WebSocket only)
    ├── TooMany            429    rate.limited  limit.connections  limit.runs
    ├── Internal           500    internal
    ├── RunFailed          502    run.failed
    └── Unavailable        503    server.busy  server.draining  broker.unavailable

Rule 1: a code, its status and its title stand here once; everyone else raises the class with the code.
"""

from typing import Any, ClassVar


class Problem(Exception):
    """A refusal or failure that is told to the caller.

    `detail` is a sentence about this occurrence, `errors` a list of `{path, message}`, `members` further members
    of the problem document (such as the `id` of a failed run).
    """

    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    titles: ClassVar[dict[str, str]] = {"internal": "The server failed"}
    code: str = "internal"

    def __init__(
        self,
        code: str | None = None,
        detail: str | None = None,
        *,
        retry_after_ms: int | None = None,
        errors: list[dict[str, Any]] | None = None,
        members: dict[str, Any] | None = None,
    ) -> None:
        if code is not None:
            self.code = code
        self.title = self.titles[self.code]
        self.detail = detail
        self.retry_after_ms = retry_after_ms
        self.errors = errors
        self.members = members or {}
        super().__init__(f"{self.code}: {detail or self.title}")

    def error(self) -> dict[str, Any]:
        """The `error` object of a WebSocket reply: `{code, title, retryable, …}`."""
        present = {"detail": self.detail, "retry_after_ms": self.retry_after_ms, "errors": self.errors}
        return {
            "code": self.code,
            "title": self.title,
            "retryable": self.retryable,
            **{name: value for name, value in present.items() if value is not None},
            **self.members,
        }

    def document(self) -> dict[str, Any]:
        """The `application/problem+json` body (RFC 9457)."""
        return {"type": "about:blank", "status": self.status, **self.error()}


class Unauthorized(Problem):
    status = 401
    titles: ClassVar[dict[str, str]] = {
        "auth.missing": "A credential is required",
        "auth.invalid": "The credential is not valid",
        "auth.expired": "The credential has expired",
        "auth.revoked": "The credential has been revoked",
    }
    code = "auth.invalid"


class Forbidden(Problem):
    status = 403
    titles: ClassVar[dict[str, str]] = {
        "auth.forbidden": "The credential does not allow this",
    }
    code = "auth.forbidden"


class NotFound(Problem):
    status = 404
    titles: ClassVar[dict[str, str]] = {
        "not_found": "There is nothing at this address",
        "run.not_found": "There is no such run",
        "pipeline.unknown": "There is no such pipeline",
    }
    code = "run.not_found"


class MethodNotAllowed(Problem):
    status = 405
    titles: ClassVar[dict[str, str]] = {
        "method.not_allowed": "This address does not take this method",
    }
    code = "method.not_allowed"


class Conflict(Problem):
    status = 409
    titles: ClassVar[dict[str, str]] = {
        "run.finished": "The run has already finished",
        "run.active": "The run has not finished yet",
        "run.not_external": "Only an external run takes events from outside",
        "run.cancelled": "The run was cancelled",
        "key.conflict": "This Idempotency-Key, or number of a producer, was used for a different request",
        "input.closed": "This question is not open",
        "producer.gap": "An earlier request of this producer is missing",
        "producer.fenced": "A newer epoch of this producer has taken over",
    }
    code = "run.finished"


class TooLarge(Problem):
    status = 413
    titles: ClassVar[dict[str, str]] = {
        "body.too_large": "The body is too large",
    }
    code = "body.too_large"


class Invalid(Problem):
    status = 422
    titles: ClassVar[dict[str, str]] = {
        "input.invalid": "The request is not valid",
        "event.invalid": "The event is not valid",
    }
    code = "input.invalid"


class FrameInvalid(Problem):
    status = 422
    titles: ClassVar[dict[str, str]] = {
        "frame.invalid": "The frame is not a command",
    }
    code = "frame.invalid"


class TooMany(Problem):
    status = 429
    titles: ClassVar[dict[str, str]] = {
        "rate.limited": "Too many requests",
        "limit.connections": "Too many connections",
        "limit.runs": "Too many unfinished runs",
    }
    code = "rate.limited"
    retryable = True


class Internal(Problem):
    pass


class RunFailed(Problem):
    status = 502
    titles: ClassVar[dict[str, str]] = {
        "run.failed": "The run failed",
    }
    code = "run.failed"


class Unavailable(Problem):
    status = 503
    titles: ClassVar[dict[str, str]] = {
        "server.busy": "The server is busy",
        "server.draining": "The server is shutting down",
        "broker.unavailable": "The event log is not available",
    }
    code = "server.busy"
    retryable = True


_KINDS: list[type[Problem]] = [Problem, *Problem.__subclasses__()]
STATUSES = {code: kind.status for kind in _KINDS for code in kind.titles}
