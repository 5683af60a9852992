"""The audit: who started, watched, steered or erased which run, and who was refused (docs/operations.md).

Rule 1: one place writes it. An HTTP request is told when its answer begins, a WebSocket's command when it is replied
to.
Rule 2: names, ids and codes; never what people say. No input, output, reason, query or credential.
Rule 3: refusals are counted always and told up to a rate: nobody fills a disk by being refused.
"""

import asyncio
import re
import secrets
from collections import Counter
from typing import Any

import structlog

from gateway.errors import Problem
from gateway.routes.rate import Buckets, Rate

log = structlog.get_logger("gateway.audit")

VISIT = "runcast.visit"
REFUSALS_TOLD = Rate(50, 1)
# How a run ended is no refusal, though it is told by a problem document.
OUTCOMES = frozenset({"run.failed", "run.cancelled"})
# What a client calls a run may be anything, a credential too.
_RUN_IDS = re.compile(r"[0-9a-f-]{36}(?: [0-9a-f-]{36})*")
_REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)


class Visit:
    """One request or WebSocket, as far as it is known. `code`: why it was refused ("": it was not).

    `refusal` is set when it was refused before it was read, and only its body has still to come in.
    """

    __slots__ = ("action", "address", "code", "connection", "method", "path", "refusal", "request", "run", "subject")

    def __init__(self, *, request: str, address: str, method: str = "GET", path: str = "") -> None:
        self.request = request
        self.address = address
        self.method = method
        self.path = path
        self.connection = ""
        self.subject = ""
        self.run = ""
        self.action = ""
        self.code = ""
        self.refusal: Problem | None = None


def visit_of(request: Any) -> Visit:
    """The visit of a request or handshake, put there by the gate."""
    visit: Visit = request.scope[VISIT]
    return visit


def request_id(given: bytes | None) -> str:
    """The client's own id if it is short and plain, else a new one."""
    text = given.decode("latin1") if given else ""
    return text if _REQUEST_ID.fullmatch(text) else secrets.token_hex(8)


class Audit:
    """Writes the lines, and counts: `answers` by HTTP status, `refusals` by code, `commands` by type."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.refusals: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()
        self._told = Buckets(REFUSALS_TOLD)
        self._untold = 0

    def write(self, visit: Visit) -> None:
        """Tell what was done, once. Reading without a stream is nothing to tell."""
        if visit.code:
            self.refused(visit, visit.action, visit.run, visit.code)
        elif visit.action:
            self.done(visit, visit.action, visit.run)
        visit.action = visit.code = ""

    def done(self, visit: Visit, action: str, run: str) -> None:
        log.info("audit", action=action, outcome="ok", **_names(visit, run))

    def refused(self, visit: Visit, action: str, run: str, code: str) -> None:
        if code in OUTCOMES:
            return
        self.refusals[code] += 1
        if self._told.take("", asyncio.get_running_loop().time()):
            self._untold += 1
            return
        more, self._untold = {"untold": self._untold} if self._untold else {}, 0
        log.info("audit", action=action or "request", outcome=code, address=visit.address, **_names(visit, run), **more)


def _names(visit: Visit, run: str) -> dict[str, str]:
    run = run if _RUN_IDS.fullmatch(run) else ""
    named = {"subject": visit.subject, "run": run, "request": visit.request, "connection": visit.connection}
    return {name: value for name, value in named.items() if value}
