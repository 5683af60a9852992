"""Bad input at the HTTP doors: refused with one problem document, and the gateway goes on."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.routes import ENDPOINTS
from tests.e2e.clients import assert_problem, caller, finished, started
from tests.e2e.process import ALL_SCOPES, bearer

DEEP = b'{"pipeline":"words","input":%b}'
NOT_OBJECTS = {
    "nothing-but-a-brace": b"{",
    "two-values": b"{}{}",
    "not-json": b"pipeline=words",
    "single-quotes": b"{'pipeline': 'words'}",
    "nan": b'{"pipeline":"words","input":{"gap_s":NaN}}',
    "array": b"[]",
    "array-of-objects": b'[{"pipeline":"words"}]',
    "string": b'"words"',
    "null": b"null",
    "number": b"1",
    "true": b"true",
    "invalid-utf-8": b'{"pipeline":"w\xff\xfe"}',
    "utf-16": '{"pipeline":"words"}'.encode("utf-16"),
    "lone-surrogate": b'{"pipeline":"\\ud800"}',
    "nul-bytes": b"\x00" * 64,
    "endless-arrays": b"[" * 100_000,
    "endless-objects": b'{"a":' * 100_000,
    "unknown-field": b'{"no_such_field":1}',
}
WITH_MODEL = [endpoint for endpoint in ENDPOINTS if endpoint.body is not None]
POSTS = [endpoint for endpoint in ENDPOINTS if endpoint.method not in ("GET", "HEAD")]


def named(endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


@pytest.fixture
async def client(gateway):
    """Somebody to whom every address is open."""
    async with caller(gateway, "alice", f"{ALL_SCOPES} admin") as client:
        yield client


@pytest.fixture
async def external(client):
    """A run that waits for its publisher."""
    run = await started(client, "external")
    yield run
    await finished(client, run)


def place(endpoint, run: str) -> str:
    return endpoint.path.replace("{id}", run).replace("{file}", "nothing")


@pytest.mark.parametrize("endpoint", WITH_MODEL, ids=named)
async def test_a_body_that_is_not_the_right_object_is_input_invalid(client, external, endpoint):
    for name, body in NOT_OBJECTS.items():
        answer = await client.request(endpoint.method, place(endpoint, external), content=body)
        assert answer.status_code == 422, (name, answer.text)
        assert_problem(answer, 422, "input.invalid")


async def test_a_publish_that_is_not_events_is_event_invalid(client, external):
    for name, body in NOT_OBJECTS.items():
        answer = await client.post(f"/runs/{external}/events", content=body)
        assert (answer.status_code, name) == (422, name), answer.text
        assert_problem(answer, 422, "event.invalid")
    assert (await client.get(f"/runs/{external}")).json()["tail"].endswith("-2")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"pipeline": None},
        {"pipeline": 1},
        {"pipeline": ["words"]},
        {"pipeline": "words" * 100},
        {"pipeline": "words", "more": 1},
        {"pipeline": "words", "owner": ""},
        {"pipeline": "words", "owner": 7},
        {"pipeline": "words", "owner": "x" * 256},
        {"pipeline": "words", "options": []},
        {"pipeline": "words", "options": None},
        {"pipeline": "words", "options": {"no_such": 1}},
        {"pipeline": "words", "options": {"on_disconnect": "explode"}},
        {"pipeline": "words", "options": {"timeout_s": "5"}},
        {"pipeline": "words", "options": {"timeout_s": 0}},
        {"pipeline": "words", "options": {"timeout_s": True}},
        {"pipeline": "words", "options": {"budget_usd": -1}},
        {"pipeline": "words", "options": {"disconnect_grace_s": 1e300}},
        {"pipeline": "words", "input": []},
        {"pipeline": "words", "input": None},
        {"pipeline": "words", "input": {"count": -1}},
        {"pipeline": "words", "input": {"count": "many"}},
        {"pipeline": "words", "input": {"count": 1e400}},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
async def test_a_start_with_a_wrong_field_is_input_invalid_with_its_path(client, body):
    for path in ("/runs", "/run", "/run/stream"):
        answer = await client.post(path, content=json.dumps(body).replace("Infinity", "1e400"))
        assert_problem(answer, 422, "input.invalid")


@pytest.mark.parametrize("depth", [100, 253, 254, 255, 300, 600, 1000, 1100])
async def test_deep_nesting_is_taken_or_refused_but_never_a_fault(client, external, depth):
    nest = b"[" * depth + b"]" * depth
    deep = [
        ("/runs", DEEP % nest),
        ("/runs", b'{"pipeline":"external","input":%b}' % nest),
        (f"/runs/{external}/events", b'{"type":"x.deep","deep":%b}' % nest),
        (f"/runs/{external}/finish", b'{"status":"completed","result":%b}' % nest),
    ]
    for path, body in deep:
        answer = await client.post(path, content=body)
        assert answer.status_code < 500, (path, answer.text)
        if answer.status_code >= 400:
            assert answer.json()["code"] in ("input.invalid", "event.invalid")
        elif path == "/runs":
            await finished(client, answer.json()["id"])


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
@pytest.mark.parametrize("endpoint", POSTS, ids=named)
async def test_a_body_of_ten_megabytes_gets_its_answer(client, external, endpoint, chunked):
    async def parts():
        for _ in range(160):
            yield b" " * 65536

    body = parts() if chunked else b" " * 10_485_760
    answer = await client.request(endpoint.method, place(endpoint, external), content=body)
    reads = endpoint.body is not None or endpoint.path.endswith("/events")
    if reads:
        assert_problem(answer, 413, "body.too_large")
    else:
        assert answer.status_code < 500


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
@pytest.mark.parametrize(("path", "status"), [("/runs", 401), ("/nothing", 404), ("/pipelines", 405)])
async def test_a_large_body_is_refused_for_what_comes_first(client, path, status, chunked):
    async def parts():
        for _ in range(160):
            yield b"x" * 65536

    headers = {"Authorization": "Bearer nonsense"}
    answer = await client.post(path, content=parts() if chunked else b"x" * 10_485_760, headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=ten",
        "limit=1e2",
        "limit=-1",
        "limit=",
        "status=done",
        "status=",
        f"pipeline={'x' * 65}",
        f"before={'x' * 65}",
        "no_such=1",
    ],
)
async def test_a_bad_query_of_the_list_is_input_invalid(client, query):
    assert_problem(await client.get(f"/runs?{query}"), 422, "input.invalid")


@pytest.mark.parametrize(
    "query",
    [
        "wait=-1",
        "wait=31",
        "wait=nan",
        "wait=inf",
        "wait=soon",
        "limit=0",
        "limit=1001",
        "replay=all",
        "replay=",
        "types=progress,nothing",
        "types=x.",
        "types=X.A",
        "dialect=klingon",
        "no_such=1",
        "dialect=",
    ],
)
async def test_a_bad_query_of_a_stream_is_input_invalid(client, external, query):
    for accept in ("application/json", "text/event-stream"):
        answer = await client.get(f"/runs/{external}/events?{query}", headers={"Accept": accept})
        assert_problem(answer, 422, "input.invalid")


async def test_odd_query_text_is_harmless(client):
    for query in ("before=%00", "before=%ED%A0%80", "before=%FF", "pipeline=%F0%9F%92%A9", "before='%20OR%201=1--"):
        answer = await client.get(f"/runs?{query}")
        assert answer.status_code == 200, (query, answer.text)
        assert "runs" in answer.json()


@pytest.mark.parametrize("name", ["%00", "%FF%FE", "x" * 5000, "%F0%9F%92%A9", "..", "%0d%0aSet-Cookie:a=b", "'--"])
async def test_an_id_that_is_no_run_is_run_not_found(client, name):
    if name != "..":
        assert_problem(await client.get(f"/runs/{name}"), 404, "run.not_found")
    assert_problem(await client.post(f"/runs/{name}/cancel"), 404, "run.not_found" if name != ".." else "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/runs"),
        ("PATCH", "/runs/x"),
        ("DELETE", "/pipelines"),
        ("BREW", "/run"),
        ("GET", "/run"),
        ("HEAD", "/tickets"),
        ("TRACE", "/healthz"),
        ("POST", "/docs"),
    ],
)
async def test_a_wrong_method_is_method_not_allowed_and_says_which_are(client, method, path):
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"]
    if method != "HEAD":
        assert_problem(answer, 405, "method.not_allowed")


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"\xff\xfe\x85", b"tab\there"], ids=repr)
async def test_a_bad_idempotency_key_is_input_invalid(client, key):
    for path in ("/runs", "/run", "/run/stream"):
        answer = await client.post(path, json={"pipeline": "words"}, headers={b"Idempotency-Key": key})
        assert_problem(answer, 422, "input.invalid")


@pytest.mark.parametrize(
    "producer",
    [
        "",
        "p",
        "p; epoch=1",
        "p; epoch=1; seq=0",
        "p; epoch=-1; seq=1",
        "p; epoch=x; seq=1",
        "p; epoch=1; seq=1; more=1",
        "p;epoch=1;seq=" + "9" * 40,
    ],
)
async def test_a_bad_producer_header_is_input_invalid(client, external, producer):
    for path, body in (("events", {"type": "x.a"}), ("finish", {"status": "completed"})):
        answer = await client.post(f"/runs/{external}/{path}", json=body, headers={"Producer": producer})
        assert_problem(answer, 422, "input.invalid")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("pipeline", "input", "options", "owner", "status", "result", "error", "events", "type", "reason", "runs")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(st.sampled_from(NAMES), JSON | st.just("words") | st.just("progress"), max_size=4))
async def test_no_json_object_makes_a_door_fail(gateway, body):
    async with caller(gateway, "fuzz") as client:
        run = await started(client, "external")
        for endpoint in POSTS:
            if endpoint.path in ("/run", "/run/stream"):
                continue
            answer = await client.request(endpoint.method, place(endpoint, run), json=body)
            assert answer.status_code < 500, (endpoint.path, answer.text)
        await client.post(f"/runs/{run}/cancel")


async def test_after_all_that_the_gateway_serves(client):
    answer = await client.post("/run", json={"pipeline": "words", "input": {"count": 1}}, headers=bearer("bob"))
    assert answer.json()["status"] == "completed"
