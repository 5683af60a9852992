"""Who may do what: every declared address against every kind of caller. An address added later is covered as it is."""

import json
import time

import httpx
import jwt
import pytest

from gateway.auth import Scope
from gateway.routes import ENDPOINTS, declare
from tests.e2e.clients import assert_problem, caller, finished, started
from tests.e2e.process import SECRET, bearer, token

GUARDED = [endpoint for endpoint in (*ENDPOINTS, *declare()) if not endpoint.public]
SCOPED = [(endpoint, scope) for endpoint in GUARDED for scope in endpoint.scopes]
NAMING = [endpoint for endpoint in GUARDED if endpoint.names_run]
NOBODY = "00000000-0000-7000-8000-000000000000"
# A run that is not there, and a body and a query that no address takes: each check must answer before the next.
WRONG = {"content": b"[", "params": {"limit": "none", "no_such": "1"}}
EVERYTHING = " ".join(scope for scope in Scope if scope is not Scope.ADMIN)


def signed(claims: dict, secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode({"sub": "alice", "scope": EVERYTHING, "exp": time.time() + 60, **claims}, secret, algorithm)


def unsigned(**claims) -> str:
    return jwt.encode({"sub": "alice", "scope": EVERYTHING, "exp": time.time() + 60, **claims}, None, "none")


BAD_TOKENS = {
    "nonsense": ("nonsense", "auth.invalid"),
    "empty-parts": ("..", "auth.invalid"),
    "forged": (signed({}, secret="another-secret-of-at-least-32-bytes!"), "auth.invalid"),
    "unsigned": (unsigned(), "auth.invalid"),
    "cut-off": (token()[:-3], "auth.invalid"),
    "without-exp": (jwt.encode({"sub": "alice", "scope": EVERYTHING}, SECRET), "auth.invalid"),
    "without-sub": (jwt.encode({"scope": EVERYTHING, "exp": time.time() + 60}, SECRET), "auth.invalid"),
    "empty-sub": (signed({"sub": ""}), "auth.invalid"),
    "scope-as-list": (signed({"scope": ["runs:read"]}), "auth.invalid"),
    "runs-as-text": (signed({"runs": "all"}), "auth.invalid"),
    "not-yet": (signed({"nbf": time.time() + 3600}), "auth.invalid"),
    "expired": (token(ttl_s=-30), "auth.expired"),
    "just-expired": (token(ttl_s=-1), "auth.expired"),
}


def named(value) -> str:
    return f"{value.method} {value.path}" if hasattr(value, "path") else str(value)


def place(endpoint, run: str) -> str:
    return endpoint.path.replace("{id}", run).replace("{file}", "nothing")


@pytest.fixture
async def nobody(gateway):
    async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
        yield client


@pytest.fixture
async def alices(gateway):
    """A run of alice's that goes on, and one that has ended."""
    async with caller(gateway, "alice") as alice:
        going, gone = await started(alice, "external"), await started(alice, "external")
        await finished(alice, gone)
        yield going, gone
        await finished(alice, going)


@pytest.mark.parametrize("endpoint", GUARDED, ids=named)
async def test_without_a_credential_it_is_auth_missing(nobody, endpoint):
    answer = await nobody.request(endpoint.method, place(endpoint, NOBODY), **WRONG)
    assert_problem(answer, 401, "auth.missing")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("endpoint", GUARDED, ids=named)
async def test_a_bad_credential_is_refused_before_anything_else(nobody, endpoint):
    for name, (bad, code) in BAD_TOKENS.items():
        headers = {"Authorization": f"Bearer {bad}"}
        answer = await nobody.request(endpoint.method, place(endpoint, NOBODY), headers=headers, **WRONG)
        assert (name, answer.status_code) == (name, 401)
        assert_problem(answer, 401, code)
        assert bad not in answer.text


@pytest.mark.parametrize("endpoint", GUARDED, ids=named)
async def test_a_token_in_the_url_is_refused(nobody, endpoint):
    for name in ("token", "access_token", "ticket", "after"):
        params = {name: token()}
        answer = await nobody.request(endpoint.method, place(endpoint, NOBODY), params=params, headers=bearer())
        assert_problem(answer, 401, "auth.invalid")


@pytest.mark.parametrize(("endpoint", "scope"), SCOPED, ids=named)
async def test_each_missing_scope_is_forbidden_before_the_run_is_looked_for(nobody, endpoint, scope):
    others = " ".join(each for each in Scope if each is not scope)
    answer = await nobody.request(endpoint.method, place(endpoint, NOBODY), headers=bearer("alice", others), **WRONG)
    assert_problem(answer, 403, "auth.forbidden")
    assert scope in answer.json()["detail"]


@pytest.mark.parametrize("endpoint", NAMING, ids=named)
async def test_anothers_run_looks_exactly_like_none_at_all(nobody, alices, endpoint):
    answers = []
    for run in (*alices, NOBODY):
        answer = await nobody.request(
            endpoint.method, place(endpoint, run), headers=bearer("mallory", EVERYTHING), **WRONG
        )
        assert_problem(answer, 404, "run.not_found")
        answers.append((answer.content, sorted(answer.headers.keys())))
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("endpoint", NAMING, ids=named)
async def test_a_stream_of_anothers_run_is_not_opened(nobody, alices, endpoint):
    headers = {**bearer("mallory", EVERYTHING), "Accept": "text/event-stream"}
    answer = await nobody.request(endpoint.method, place(endpoint, alices[0]), headers=headers)
    assert_problem(answer, 404, "run.not_found")


@pytest.mark.parametrize("endpoint", [each for each in NAMING if each.body], ids=named)
async def test_a_bad_body_is_told_before_a_conflict(gateway, alices, endpoint):
    async with caller(gateway) as alice:
        answer = await alice.request(endpoint.method, place(endpoint, alices[1]), content=b'{"no_such":1}')
        assert_problem(answer, 422, "input.invalid")


async def test_a_bad_event_is_told_before_a_conflict(gateway, alices):
    async with caller(gateway) as alice:
        words = (await alice.post("/run", json={"pipeline": "words", "input": {"count": 0}})).json()["id"]
        for run in (alices[1], words):
            for event in ({}, {"type": "run.completed"}, {"type": "progress"}, {"type": "x.a", "id": "1"}):
                answer = await alice.post(f"/runs/{run}/events", json=event)
                assert_problem(answer, 422, "event.invalid")


@pytest.mark.parametrize("endpoint", [each for each in ENDPOINTS if each.method == "GET"], ids=named)
async def test_head_answers_as_get_does_without_a_body(nobody, alices, endpoint):
    stream = {"Accept": "text/event-stream"} if endpoint.media == "text/event-stream" else {}
    for credential in ({}, bearer(), bearer("mallory", EVERYTHING), bearer("alice", "")):
        headers = {**credential, **stream}
        path = place(endpoint, alices[1])
        asked, got = await nobody.head(path, headers=headers), await nobody.get(path, headers=headers)
        assert (asked.status_code, asked.headers["content-type"]) == (got.status_code, got.headers["content-type"])
        assert asked.content == b""


@pytest.mark.parametrize("endpoint", [each for each in ENDPOINTS if each.public], ids=named)
async def test_a_public_address_needs_no_credential(nobody, endpoint):
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        answer = await nobody.request(endpoint.method, place(endpoint, NOBODY), headers=headers)
        if answer.status_code != 200:
            assert_problem(answer, 404, "not_found")
        else:
            assert answer.headers["content-type"].startswith(endpoint.media)


async def test_admin_widens_which_runs_and_gives_no_other_scope(nobody, alices):
    for scope, status in (("admin", 403), ("admin runs:read", 200), ("runs:read", 404)):
        answer = await nobody.get(f"/runs/{alices[0]}", headers=bearer("root", scope))
        assert answer.status_code == status
    listed = await nobody.get("/runs", headers=bearer("root", "admin runs:read"))
    assert set(alices) <= {run["id"] for run in listed.json()["runs"]}


async def test_a_runs_claim_shows_the_named_runs_and_no_others(nobody, alices):
    headers = bearer("guest", "runs:read", runs=[alices[0]])
    assert (await nobody.get(f"/runs/{alices[0]}", headers=headers)).status_code == 200
    assert_problem(await nobody.get(f"/runs/{alices[1]}", headers=headers), 404, "run.not_found")
    listed = (await nobody.get("/runs", headers=headers)).json()["runs"]
    assert [run["id"] for run in listed] == [alices[0]]


async def test_starting_for_another_needs_delegate_and_both_see_the_run(nobody):
    body = {"pipeline": "words", "input": {"count": 1}, "owner": "carol"}
    refused = await nobody.post("/runs", json=body, headers=bearer("bot", "runs:start runs:read"))
    assert_problem(refused, 403, "auth.forbidden")
    made = await nobody.post("/runs", json=body, headers=bearer("bot", "runs:start runs:read runs:delegate"))
    assert made.status_code == 201
    for subject, status in (("bot", 200), ("carol", 200), ("alice", 404)):
        seen = await nobody.get(f"/runs/{made.json()['id']}", headers=bearer(subject, "runs:read"))
        assert seen.status_code == status
        assert status != 200 or seen.json()["owner"] == "carol"


async def test_the_log_holds_no_credential(gateway, nobody):
    secret = token("spy")
    await nobody.get("/runs", headers={"Authorization": f"Bearer {secret}"})
    await nobody.get("/runs", headers={"Authorization": f"Bearer {secret[:-2]}"})
    await nobody.get("/runs", params={"token": secret})
    assert secret[:-2] not in gateway.output
    assert SECRET not in gateway.output
    assert json.dumps(secret) not in gateway.output
