"""From a declared endpoint and a request to a response, whatever happens on the way."""

from quart import Response

from gateway.errors import Problem
from gateway.routes.audit import visit_of
from gateway.routes.endpoint import Endpoint, answer, incident
from gateway.routes.request import BoundedRequest
from gateway.routes.services import Services
from gateway.routes.streams import refuse_call


async def respond(
    endpoint: Endpoint, services: Services, request: BoundedRequest, *, run: str | None = None, file: str = ""
) -> Response:
    try:
        return await answer(endpoint, services, request, run=run, file=file)
    except Problem as problem:
        return await refuse_call(problem, services, request, dialect=endpoint.dialect)
    except Exception as error:  # noqa: BLE001 - it is logged, and the client gets its number
        return await refuse_call(incident(error, visit_of(request)), services, request)
