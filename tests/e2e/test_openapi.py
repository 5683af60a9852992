"""The OpenAPI document: what it says of the answers is what they are."""

import httpx
import jsonschema
import pytest

from gateway.routes import ENDPOINTS
from tests.e2e.clients import eventually, served, started

JSON = "application/json"


class Documented:
    """Asks as a client does, and holds what is answered to the document. `seen`: each answer that was looked at."""

    def __init__(self, client: httpx.AsyncClient, document: dict) -> None:
        self._client = client
        self._document = document
        self.seen: set[tuple[str, str, int]] = set()

    async def __call__(self, method: str, path: str, *, status: int = 200, run: str = "", **sent):
        answer = await self._client.request(method, path.replace("{id}", run), **sent)
        assert answer.status_code == status, answer.text
        declared = self._document["paths"][path][method.lower()]["responses"][str(status)]
        schema = declared["content"][JSON]["schema"]
        told = answer.json()
        jsonschema.validate(told, {**schema, "components": self._document["components"]})
        self._complete(schema, told)
        self.seen.add((method, path, status))
        return told

    def _complete(self, schema: dict, told) -> None:
        """Nothing is told that the document is silent about."""
        if told is not None:
            schema = next((kind for kind in schema.get("anyOf", ()) if "$ref" in kind), schema)
        if "$ref" in schema:
            schema = self._document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        if isinstance(told, list):
            for each in told:
                self._complete(schema["items"], each)
        elif isinstance(told, dict) and "properties" in schema:
            assert told.keys() <= schema["properties"].keys()
            for name, value in told.items():
                self._complete(schema["properties"][name], value)


@pytest.fixture
async def asked(client) -> Documented:
    return Documented(client, (await client.get("/openapi.json")).json())


async def test_every_answer_in_json_is_as_the_document_says(asked, client):
    words = {"pipeline": "words", "input": {"count": 1}}
    key = {"Idempotency-Key": "once"}
    first = await asked("POST", "/runs", status=201, json=words, headers=key)
    assert (await asked("POST", "/runs", json=words, headers=key))["id"] == first["id"]
    done = await asked("POST", "/run", json=words)
    await asked("POST", "/runs/{id}/retry", status=201, run=done["id"])
    await asked("GET", "/runs/{id}", run=done["id"])
    assert (await asked("POST", "/runs/{id}/cancel", run=done["id"]))["final"] == "completed"

    external = await started(client, "external")
    await asked("POST", "/runs/{id}/events", status=202, run=external, json={"type": "x.a"})
    await asked("POST", "/runs/{id}/pause", status=202, run=external)
    await asked("POST", "/runs/{id}/resume", status=202, run=external)
    page = await asked("GET", "/runs/{id}/events", run=external, params={"after": "none-1"})
    assert (page["resume"], page["events"][0]["type"]) == ("gap", "gap")
    ended = {"status": "failed", "error": {"code": "x.bad", "message": "Bad.", "retryable": False}}
    await asked("POST", "/runs/{id}/finish", run=external, json=ended)
    assert (await asked("GET", "/runs/{id}", run=external))["error"]["code"] == "x.bad"

    asking = await started(client, "asking")

    async def question():
        page = await asked("GET", "/runs/{id}/events", run=asking)
        return [event["input_id"] for event in page["events"] if event["type"] == "input.requested"]

    (id,) = await eventually(question)
    await asked("POST", "/runs/{id}/input", status=202, run=asking, json={"input_id": id, "value": 7})

    forever = await started(client, "forever")
    await asked("POST", "/runs/{id}/cancel", status=202, run=forever)

    async def cancelled():
        return (await asked("GET", "/runs/{id}", run=forever))["status"] == "cancelled"

    await eventually(cancelled)
    assert (await asked("GET", "/runs", params={"limit": 2}))["next"]
    await asked("GET", "/runs")
    await asked("POST", "/tickets", status=201, json={})
    for path in ("/pipelines", "/healthz", "/readyz", "/schema/events.json", "/openapi.json"):
        await asked("GET", path)
    declared = {
        (endpoint.method, endpoint.path, status)
        for endpoint in ENDPOINTS
        for status, media in ((endpoint.status, endpoint.media), *endpoint.also)
        if media == JSON and status != 204
    }
    assert declared - asked.seen == {("GET", "/console/token", 200)}, "which only --dev answers"


async def test_the_development_token_is_as_the_document_says(tmp_path):
    with served(tmp_path, "--dev", jwt_secret=None) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, headers={"Sec-Fetch-Site": "same-origin"}) as client:
            asked = Documented(client, (await client.get("/openapi.json")).json())
            assert (await asked("GET", "/console/token"))["token"]
