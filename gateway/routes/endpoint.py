"""One HTTP address: what it needs, what it takes, who answers.

Rule 1: the checks answer in the order of PROTOCOL section 4: 401, 403 (scope), 404, 422, 409. They stand in `answer`,
once for all addresses.
Rule 2: whatever goes wrong leaves as problem+json, and never with a traceback.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError
from quart import Response
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from gateway.auth import Presented, Principal, Scope
from gateway.broker import Run
from gateway.errors import Internal, Invalid, NotFound, Problem, TooLarge, Unauthorized
from gateway.routes.audit import Visit, visit_of
from gateway.routes.request import BoundedRequest
from gateway.routes.services import Services, caller
from gateway.runs import Caller
from gateway.wire import json
from gateway.wire.events import problems

log = structlog.get_logger(__name__)

M = TypeVar("M", bound=BaseModel)
_JWT = re.compile(r"(?<![\w-])ey[\w-]{5,}\.[\w-]+\.[\w-]*")


class Query(BaseModel):
    """Base of the models for query strings, whose values are text."""

    model_config = ConfigDict(extra="forbid")


class Nothing(Query):
    """No query parameters of its own."""

    model_config = ConfigDict(extra="ignore")


class Body(BaseModel):
    """Base of the models for JSON bodies."""

    model_config = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class Call:
    """One request on its way to a handler."""

    services: Services
    request: BoundedRequest
    principal: Principal | None
    run_or_none: Run | None = None
    file: str = ""

    @property
    def bearer(self) -> Principal:
        if self.principal is None:
            raise Unauthorized("auth.missing")
        return self.principal

    @property
    def caller(self) -> Caller:
        return caller(self.bearer)

    @property
    def run(self) -> Run:
        """The run that the path names; it is there and may be seen."""
        if self.run_or_none is None:
            raise NotFound("run.not_found")
        return self.run_or_none

    @property
    def visit(self) -> Visit:
        return visit_of(self.request)

    def started(self, run: Run) -> None:
        """The audit has it now: the answer may take as long as the run."""
        self.visit.run = run.id
        self.services.audit.write(self.visit)

    def query(self, model: type[M]) -> M:
        """The query string. Raises Invalid."""
        return _validate(model, self.request.args.to_dict())

    async def raw_body(self) -> bytes:
        """Raises TooLarge, and Invalid when the client does not go on sending."""
        try:
            return await self.request.take_body()
        except RequestEntityTooLarge:
            raise TooLarge(detail=f"at most {self.services.max_body_bytes} bytes are taken") from None
        except RequestTimeout:
            raise Invalid(detail="the body did not come in whole in time") from None

    async def body(self, model: type[M]) -> M:
        """The JSON body; none at all counts as `{}`. Raises TooLarge, Invalid."""
        data = await self.raw_body()
        try:
            value = json.loads(data) if data else {}
        except ValueError as error:
            raise Invalid(detail=f"the body is not JSON: {error}") from None
        return _validate(model, value)


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """A declared address. A `{id}` in `path` names a run. `public`: no credential is needed.

    `joins`: it opens streams. `busy`: it is asked so often that it pays to answer it past Quart, as streams are.
    `also`: further media types by their status, where it answers in several ways; `answer`: the shape of those in JSON;
    `headers`: which of its own it reads.
    `dialect`: what its streams are spelled in, unless the query says otherwise (None: native). `action`: its name in
    the audit ("": only refusals stand there).
    """

    method: str
    path: str
    handler: Handler
    summary: str
    scopes: tuple[Scope, ...] = ()
    public: bool = False
    joins: bool = False
    busy: bool = False
    query: type[BaseModel] = Nothing
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    media: str = "application/json"
    status: int = 200
    also: tuple[tuple[int, str], ...] = ()
    headers: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    dialect: str | None = None
    action: str = ""

    @property
    def names_run(self) -> bool:
        return "{id}" in self.path


@dataclass
class Endpoints:
    """Collects declarations; used as a decorator by the modules of this room."""

    found: list[Endpoint] = field(default_factory=list)

    def add(self, method: str, path: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        def declare(handler: Handler) -> Handler:
            self.found.append(Endpoint(method, path, handler, summary, **more))
            return handler

        return declare


async def answer(
    endpoint: Endpoint, services: Services, request: BoundedRequest, *, run: str | None = None, file: str = ""
) -> Response:
    """Check and call. Raises Problem, and whatever is our own fault."""
    visit = visit_of(request)
    if visit.refusal is not None:
        raise visit.refusal
    visit.action, visit.run = endpoint.action, (run or "")[:64]
    if endpoint.public:
        return await endpoint.handler(Call(services, request, None, file=file))
    joins = endpoint.joins and request.method in ("GET", "HEAD")
    principal = await services.authenticator.identify(presented(request, services, joins=joins))
    if principal is None:
        raise Unauthorized("auth.missing")
    visit.subject = principal.subject
    services.rates.subject(principal.subject)
    principal.require(*endpoint.scopes)
    found = await services.runs.views.find(caller(principal), run) if run is not None else None
    response = await endpoint.handler(Call(services, request, principal, found))
    await request.body.received()  # also where no body is taken: a reply to half a request is often lost
    return response


def presented(request: Any, services: Services, *, joins: bool, websocket: bool = False) -> Presented:
    """What a request or WebSocket handshake presents. Raises Unauthorized for a JWT in the URL."""
    headers: Mapping[str, str] = request.headers
    if any(_JWT.search(text) for text in (request.path, *chain(*request.args.items(multi=True)))):
        raise Unauthorized(detail="a token does not travel in a URL")
    return Presented(
        authorization=headers.get("Authorization"),
        ticket=request.args.get("ticket"),
        cookie=request.cookies.get(services.cookie) if services.cookie else None,
        origin=headers.get("Origin"),
        host=headers.get("Host"),
        fetch_site=headers.get("Sec-Fetch-Site"),
        joins=joins,
        safe=not websocket and request.method in ("GET", "HEAD"),
        twice=any(
            len(found) > 1
            for found in (
                request.headers.getlist("Authorization"),
                request.args.getlist("ticket"),
                request.cookies.getlist(services.cookie or ""),
            )
        ),
    )


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response; `value` may be finished JSON bytes."""
    body = value if isinstance(value, bytes) else json.dumps(value)
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, content_type="application/json")


async def refuse(problem: Problem, request: BoundedRequest | None) -> Response:
    """A problem+json response (RFC 9457), once the request's body is in; a WebSocket handshake has none."""
    if isinstance(request, BoundedRequest):
        await request.body.received()
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_ms is not None:
        headers["Retry-After"] = str(-(-problem.retry_after_ms // 1000))
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    document = json.dumps(problem.document())
    return Response(document, problem.status, headers, content_type="application/problem+json")


def incident(error: Exception, visit: Visit) -> Internal:
    """Log an unexpected exception and give it a number that is safe to tell."""
    number = secrets.token_hex(6)
    names = {"incident": number, "request": visit.request, "method": visit.method, "path": visit.path}
    log.error("request failed", **names, exc_info=error)
    return Internal(members={"incident": number})


def _validate(model: type[M], value: Any) -> M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = problems(error)
        where = ".".join(map(str, found[0]["path"]))
        message = f"{where}: {found[0]['message']}" if where else found[0]["message"]
        raise Invalid(detail=message, errors=found) from None
