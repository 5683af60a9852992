"""What the routes work with, put together by `gateway.app`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.auth import Authenticator, Principal, Revocations, Scope, Tickets
from gateway.broker import Broker, Visible
from gateway.hub import Hub
from gateway.routes.address import Addresses
from gateway.routes.audit import Audit
from gateway.routes.rate import Rates
from gateway.runs import Caller, Runs
from pipeline import Registry

if TYPE_CHECKING:
    from gateway.routes.endpoint import Endpoint


@dataclass(frozen=True)
class Services:
    """`console` and `js` are folders of static files; `console_token` mints the development token, if there is one.

    `metrics` gives the Prometheus text, `metrics_for` says who may see it (setting `RUNCAST_METRICS`). `endpoints` are
    all addresses, the operator's aliases among them.
    """

    runs: Runs
    hub: Hub
    broker: Broker
    pipelines: Registry
    authenticator: Authenticator
    tickets: Tickets
    revocations: Revocations
    cookie: str | None
    max_body_bytes: int
    console: Path
    js: Path
    console_token: Callable[[], tuple[str, int]] | None
    addresses: Addresses
    rates: Rates
    audit: Audit
    metrics: Callable[[], Awaitable[bytes]]
    metrics_for: str
    endpoints: "tuple[Endpoint, ...]"


def caller(principal: Principal) -> Caller:
    """The bearer as the runs room knows it."""
    visible = Visible(everything=principal.admin, subject=principal.subject, runs=principal.runs, only=principal.only)
    return Caller(principal.subject, visible, delegate=Scope.DELEGATE in principal.scopes)
