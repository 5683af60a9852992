"""The HTTP and WebSocket doors: parse, authenticate, delegate.

Rule 1: a route decides nothing about runs; it turns a request into one call and the outcome into a response.
Rule 2: every HTTP address is declared once, as an Endpoint with its scopes and models; checks, OpenAPI and the tests'
access matrix all come from that declaration.
"""

from gateway.routes.address import Addresses, grouped
from gateway.routes.aliases import Alias, AliasError, declare
from gateway.routes.audit import Audit
from gateway.routes.endpoint import Endpoint
from gateway.routes.rate import Rate, Rates
from gateway.routes.register import ENDPOINTS, register
from gateway.routes.services import Services

__all__ = [
    "ENDPOINTS",
    "Addresses",
    "Alias",
    "AliasError",
    "Audit",
    "Endpoint",
    "Rate",
    "Rates",
    "Services",
    "declare",
    "grouped",
    "register",
]
