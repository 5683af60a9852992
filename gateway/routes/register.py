"""Binds the declared addresses to Quart, with problem+json for everything else."""

from typing import Any, cast

from quart import Quart, Response, has_request_context, request, websocket
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as MethodNotAllowed405

from gateway.errors import Invalid, MethodNotAllowed, NotFound, Problem
from gateway.routes.audit import visit_of
from gateway.routes.door import Door
from gateway.routes.endpoint import Endpoint, incident
from gateway.routes.gate import Gate
from gateway.routes.meta import meta
from gateway.routes.respond import respond
from gateway.routes.runs import runs
from gateway.routes.services import Services
from gateway.routes.socket import Socket
from gateway.routes.streams import refuse_call, streams

ENDPOINTS: tuple[Endpoint, ...] = (*runs.found, *streams.found, *meta.found)
SOCKET_PATH = "/ws"


def register(app: Quart, services: Services) -> None:
    app.url_map.merge_slashes = False  # an address has one spelling: no redirects
    for endpoint in services.endpoints:
        app.add_url_rule(
            endpoint.path.replace("{", "<").replace("}", ">"),
            endpoint=f"{endpoint.method} {endpoint.path}",
            view_func=_view(endpoint, services),
            methods=[endpoint.method],
            strict_slashes=True,
        )

    @app.websocket(SOCKET_PATH)
    async def socket() -> Response | None:
        own = _behind(websocket)
        return await Socket(services, own, visit_of(own)).serve(own)

    # How Quart takes middleware.
    gate = Gate(Door(app.asgi_app, services, services.endpoints), services)
    app.asgi_app = cast("Any", gate)  # type: ignore[method-assign]  # as Quart takes it

    @app.errorhandler(HTTPException)
    async def refused(error: HTTPException) -> Response:
        response = await refuse_call(_problem(error), services, current_request())
        if isinstance(error, MethodNotAllowed405) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    async def failed(error: Exception) -> Response:
        return await refuse_call(incident(error, visit_of(request)), services, current_request())


def _view(endpoint: Endpoint, services: Services) -> Any:
    async def view(id: str | None = None, file: str = "", **_free: str) -> Response:
        return await respond(endpoint, services, current_request(), run=id, file=file)

    return view


def current_request() -> Any:
    """The request, or the WebSocket handshake, that is being answered."""
    return _behind(request if has_request_context() else websocket)


def _behind(proxy: Any) -> Any:
    return proxy._get_current_object()  # noqa: SLF001 - how werkzeug's proxies give their object


def _problem(error: HTTPException) -> Problem:
    if error.code == 405:
        return MethodNotAllowed()
    if error.code == 404:
        return NotFound("not_found")
    return Invalid(detail=error.name)
