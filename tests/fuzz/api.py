"""Requests made from the gateway's own OpenAPI document, and the answers held against it."""

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import given
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from tests.e2e.process import ALL_SCOPES, GatewayProcess, bearer
from tests.fuzz.drawn import drawn

PATIENCE_S = 60
SHAPE = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "X")
# What a failed run answers, and a gateway that is drained or has lost its log.
SERVER_ERRORS = {502: {"run.failed"}, 503: {"server.busy", "server.draining", "broker.unavailable"}}
# What these carry is judged by a pipeline or an event's own model, of which the document says nothing.
FREE = ("POST /runs", "POST /run", "POST /run/stream", "POST /runs/{id}/events", "POST /runs/{id}/finish")
FRESH_EVERY = 40
NOBODY = "00000000-0000-7000-8000-000000000000"


@dataclass
class Found:
    """How the requests were answered, by status; `wrong`: answers that are not as the document says."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(self.statuses.values())

    def __str__(self) -> str:
        told = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return f"{self.requests} requests, {len(self.wrong)} wrong answers; {told}"


class Api:
    """One gateway's document, and runs for it to speak of: finished, going on, and none."""

    def __init__(self, gateway: GatewayProcess, *, seed: int) -> None:
        self.found = Found()
        self._session = requests.Session()
        self._session.trust_env = False
        self._url = gateway.url
        self._seed = seed
        self._rng = random.Random(seed)
        self._finished: list[str] = []
        self._going: list[str] = []
        document = self._session.get(f"{gateway.url}/openapi.json").json()
        for operations in document["paths"].values():
            for operation in operations.values():
                operation.pop("security", None)  # credentials are ours: a wrong one would hide what is behind it
        self._schema = schemathesis.openapi.from_dict(document)
        self._schema.config.base_url = gateway.url

    def fuzz(self, count: int) -> Found:
        """About `count` requests over all operations, half of them as the document says, half not."""
        operations = [result.ok() for result in self._schema.get_all_operations()]
        asking = [each for each in operations if list(each.iter_parameters()) or list(each.body)]
        with self._session:
            self._methods(operations)
            for operation in operations:
                # Any text may be a run's name: an address that takes no more cannot be asked wrongly.
                strict = list(operation.query) or list(operation.body)
                for mode in GenerationMode if strict else (GenerationMode.POSITIVE,):
                    self._all(operation, mode, max(1, count // (2 * len(asking))))
        return self.found

    def _all(self, operation: Any, mode: GenerationMode, count: int) -> None:
        judged = [*SHAPE, checks.negative_data_rejection]
        if operation.label not in FREE:
            judged.append(checks.positive_data_acceptance)

        @drawn(self._seed, count)
        @given(case=operation.as_strategy(generation_mode=mode))
        def each(case: Case) -> None:
            self._ask(case, judged)

        each()

    def _ask(self, case: Case, judged: list[Any]) -> None:
        if self.found.requests % FRESH_EVERY == 0:
            self._renew()
        self._place(case, right=case.meta.generation.mode.is_positive)
        headers = bearer("fuzzer", f"{ALL_SCOPES} admin")
        if self._rng.random() < 0.1:
            headers = self._rng.choice(({}, {"Authorization": "Bearer nobody"}, bearer("fuzzer", ttl_s=-60)))
        try:
            answer = case.call(headers=headers, session=self._session, timeout=PATIENCE_S, allow_redirects=False)
        except requests.RequestException as error:
            self._wrong(f"{case.operation.label}: no answer: {error!r} to {case.as_curl_command()}")
            return
        self.found.statuses[answer.status_code] += 1
        if answer.status_code >= 500 and answer.json()["code"] not in SERVER_ERRORS.get(answer.status_code, ()):
            self._wrong(f"{case.operation.label}: {answer.status_code} {answer.text}")
        try:
            case.validate_response(answer, judged, headers=headers)
        except FailureGroup as failures:
            self._wrong(f"{case.operation.label}: {failures}")

    def _place(self, case: Case, *, right: bool) -> None:
        """Speak of runs that are there, and start pipelines that are: else nothing gets past the first check.

        `right`: what the document calls wrong stays as it is.
        """
        streams = case.operation.label.startswith("GET") and case.operation.path.endswith(("events", "stream"))
        named = [*self._finished, *([] if streams else self._going), NOBODY]
        if "id" in (case.path_parameters or {}) and self._rng.random() < 0.8:
            case.path_parameters["id"] = self._rng.choice(named)
        if not right:
            return
        if "run" in (case.query or {}) and isinstance(case.query["run"], list) and self._rng.random() < 0.8:
            case.query["run"] = self._rng.sample(named, min(len(case.query["run"]) or 1, len(named)))
        if isinstance(case.body, dict) and "pipeline" in case.body and self._rng.random() < 0.5:
            case.body["pipeline"] = "words"
            if self._rng.random() < 0.5:
                case.body["input"] = {"count": self._rng.randrange(3)}

    def _renew(self) -> None:
        headers = bearer("fuzzer")
        for _ in range(2):
            body = {"pipeline": "external"}
            self._going.append(self._session.post(f"{self._url}/runs", json=body, headers=headers).json()["id"])
        ended = self._going.pop(0)
        self._session.post(f"{self._url}/runs/{ended}/finish", json={"status": "completed"}, headers=headers)
        self._finished = [*self._finished[-3:], ended]
        self._going = self._going[-4:]

    def _methods(self, operations: list[Any]) -> None:
        """Every address by every method: one that it does not take is 405 and told which are, or 404."""
        taken: dict[str, set[str]] = {}
        for operation in operations:
            taken.setdefault(operation.path, set()).add(operation.method.upper())
        for path, methods in taken.items():
            allowed = methods | ({"HEAD"} if "GET" in methods else set())
            for method in METHODS:
                if method in allowed:
                    continue
                place = path.replace("{id}", NOBODY).replace("{file}", "nothing")
                answer = self._session.request(method, self._url + place, headers=bearer(), timeout=PATIENCE_S)
                self.found.statuses[answer.status_code] += 1
                told = {each.strip() for each in answer.headers.get("Allow", "").split(",")}
                if (answer.status_code, told - {"OPTIONS"}) != (405, allowed) and method != "OPTIONS":
                    self._wrong(f"{method} {path}: {answer.status_code}, Allow: {sorted(told)}")
                if answer.status_code >= 500:
                    self._wrong(f"{method} {path}: {answer.status_code}")

    def _wrong(self, told: str) -> None:
        self.found.wrong.append(told[:2000])
