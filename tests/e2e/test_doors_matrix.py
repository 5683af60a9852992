"""Who may do what: every declared address and every command against every kind of caller.

An address or a command that is added later is covered as it is, or makes a test of this module fail.

Over 300 lines, because addresses and commands are held against the same callers, runs and bad tokens.
"""

import json
import time

import httpx
import jwt
import pytest
import websockets

from gateway.auth import Scope
from gateway.routes import ENDPOINTS, declare
from gateway.wire.commands import TYPES
from gateway.wire.dialects import DIALECTS
from tests.e2e.clients import (
    STREAM,
    asked,
    assert_problem,
    caller,
    closed,
    finished,
    heard,
    opened,
    said,
    served,
    started,
)
from tests.e2e.process import SECRET, bearer, token

GUARDED = [endpoint for endpoint in (*ENDPOINTS, *declare()) if not endpoint.public]
SCOPED = [(endpoint, scope) for endpoint in GUARDED for scope in endpoint.scopes]
NAMING = [endpoint for endpoint in GUARDED if endpoint.names_run]
JOINING = [endpoint for endpoint in GUARDED if endpoint.joins]
COOKIE = "session"
NOBODY = "00000000-0000-7000-8000-000000000000"
# A run that is not there, and a body and a query that no address takes: each check must answer before the next.
WRONG = {"content": b"[", "params": {"limit": "none", "no_such": "1"}}
EVERYTHING = " ".join(scope for scope in Scope if scope is not Scope.ADMIN)


# These are made when the module is read, which may be long before they are used.
LONG_S = 36_000


def signed(claims: dict, secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode({"sub": "alice", "scope": EVERYTHING, "exp": time.time() + LONG_S, **claims}, secret, algorithm)


def unsigned(**claims) -> str:
    return jwt.encode({"sub": "alice", "scope": EVERYTHING, "exp": time.time() + LONG_S, **claims}, None, "none")


BAD_TOKENS = {
    "nonsense": ("nonsense", "auth.invalid"),
    "empty-parts": ("..", "auth.invalid"),
    "forged": (signed({}, secret="another-secret-of-at-least-32-bytes!"), "auth.invalid"),
    "unsigned": (unsigned(), "auth.invalid"),
    "cut-off": (token()[:-3], "auth.invalid"),
    "without-exp": (jwt.encode({"sub": "alice", "scope": EVERYTHING}, SECRET), "auth.invalid"),
    "without-sub": (jwt.encode({"scope": EVERYTHING, "exp": time.time() + LONG_S}, SECRET), "auth.invalid"),
    "empty-sub": (signed({"sub": ""}), "auth.invalid"),
    "scope-as-list": (signed({"scope": ["runs:read"]}), "auth.invalid"),
    "runs-as-text": (signed({"runs": "all"}), "auth.invalid"),
    "not-yet": (signed({"nbf": time.time() + LONG_S / 2}), "auth.invalid"),
    "expired": (token(ttl_s=-30), "auth.expired"),
    "just-expired": (token(ttl_s=-1), "auth.expired"),
}


def named(value) -> str:
    return f"{value.method} {value.path}" if hasattr(value, "path") else str(value)


def place(endpoint, run: str) -> str:
    return endpoint.path.replace("{id}", run).replace("{file}", "nothing")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway that takes every kind of credential."""
    with served(tmp_path_factory.mktemp("gateway"), cookie=COOKIE) as running:
        yield running


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


@pytest.mark.parametrize("endpoint", NAMING, ids=named)
async def test_a_token_in_the_path_is_refused(nobody, endpoint):
    answer = await nobody.request(endpoint.method, place(endpoint, token()), headers=bearer())
    assert_problem(answer, 401, "auth.invalid")


@pytest.mark.parametrize("endpoint", GUARDED, ids=named)
async def test_two_credentials_of_one_kind_are_refused(nobody, endpoint):
    place_ = place(endpoint, NOBODY)
    twice = [("Authorization", bearer()["Authorization"]), ("Authorization", bearer("bob")["Authorization"])]
    assert_problem(await nobody.request(endpoint.method, place_, headers=twice), 401, "auth.invalid")
    tickets = {"ticket": [await ticket(nobody), await ticket(nobody)]}
    assert_problem(await nobody.request(endpoint.method, place_, params=tickets), 401, "auth.invalid")
    # A site beside ours can set a cookie for both; which of the two is meant, nobody knows.
    for cookies in ((token(), token("bob")), (token("bob"), token()), (token(), "x")):
        headers = {
            "Cookie": "; ".join(f"{COOKIE}={each}" for each in cookies),
            "Origin": f"http://{nobody.base_url.host}",
        }
        answer = await nobody.request(endpoint.method, place_, headers=headers)
        assert_problem(answer, 401, "auth.invalid")


async def ticket(client, *who, **body) -> str:
    return (await client.post("/tickets", json=body, headers=bearer(*who))).json()["ticket"]


@pytest.mark.parametrize("endpoint", GUARDED, ids=named)
async def test_a_ticket_opens_joins_once_and_nothing_else_at_all(nobody, endpoint):
    path = place(endpoint, NOBODY)
    params = {**WRONG["params"], "ticket": await ticket(nobody)}
    answer = await nobody.request(endpoint.method, path, params=params, content=b"[")
    if not endpoint.joins:
        assert_problem(answer, 401, "auth.invalid")
        return
    assert answer.status_code in (404, 422), answer.text
    assert_problem(await nobody.request(endpoint.method, path, params=params), 401, "auth.invalid")
    weak = {**params, "ticket": await ticket(nobody, "alice", "runs:start")}
    assert_problem(await nobody.request(endpoint.method, path, params=weak), 403, "auth.forbidden")
    for bad in ("", "nonsense", "a" * 5000, "%00"):
        answer = await nobody.request(endpoint.method, path, params={**params, "ticket": bad})
        assert_problem(answer, 401, "auth.invalid")


@pytest.mark.parametrize("endpoint", GUARDED, ids=named)
async def test_a_cookie_counts_where_the_page_belongs_here_and_nowhere_else(gateway, endpoint):
    path, safe = place(endpoint, NOBODY), endpoint.method == "GET"
    good, ours = token("alice", " ".join(Scope)), {"Origin": gateway.url}
    foreign = [{"Origin": "https://evil.example"}, {"Origin": "null"}]
    foreign += [{"Sec-Fetch-Site": "cross-site"}] if safe else [{}, {"Sec-Fetch-Site": "same-origin"}]
    async with httpx.AsyncClient(base_url=gateway.url, cookies={COOKIE: good}) as browser:
        for headers in foreign:
            answer = await browser.request(endpoint.method, path, headers=headers, **WRONG)
            assert_problem(answer, 403, "auth.forbidden")
        for headers in [ours] + ([{}, {"Sec-Fetch-Site": "same-origin"}] if safe else []):
            answer = await browser.request(endpoint.method, path, headers=headers, **WRONG)
            assert answer.status_code not in (401, 403), answer.text
    for bad, code in (("nonsense", "auth.invalid"), (good[:-4], "auth.invalid"), (token(ttl_s=-9), "auth.expired")):
        async with httpx.AsyncClient(base_url=gateway.url, cookies={COOKIE: bad}) as browser:
            answer = await browser.request(endpoint.method, path, headers=ours, **WRONG)
            assert_problem(answer, 401, code)


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


def streams_of(run: str) -> list[str]:
    """Every address of a stream of this run: by path and by query, alone and among others, in every dialect."""
    found = []
    for endpoint in JOINING:
        by_query = [field.alias for name, field in endpoint.query.model_fields.items() if name == "named"]
        query = f"?{by_query[0]}={run}" if by_query else ""
        if endpoint.path == "/events":
            query = f"?run={run}"
        address = place(endpoint, run).replace("{any_agent_id}", "any") + query
        assert run in address, f"how does {endpoint.path} name a run?"
        found.append(address)
        if endpoint.path != "/events":
            found += [f"{address}{'&' if query else '?'}dialect={dialect}" for dialect in DIALECTS]
    return found


@pytest.mark.parametrize("number", range(len(streams_of(NOBODY))), ids=lambda n: streams_of("RUN")[n])
async def test_no_address_of_a_stream_shows_anothers_run(nobody, gateway, alices, number):
    own_runs_only = await ticket(nobody, "alice", EVERYTHING, runs=[NOBODY])
    credentials = [
        bearer("mallory", EVERYTHING),
        {"Cookie": f"{COOKIE}={token('mallory', EVERYTHING)}"},
    ]
    for going in (True, False):
        theirs, none = streams_of(alices[0 if going else 1])[number], streams_of(NOBODY)[number]
        for credential in credentials:
            answers = [await nobody.get(each, headers={**credential, **STREAM}) for each in (theirs, none)]
            for answer in answers:
                assert_problem(answer, 404, "run.not_found")
            assert answers[0].content == answers[1].content
    for unspent in (await ticket(nobody, "mallory", EVERYTHING), own_runs_only):
        join = "&" if "?" in theirs else "?"
        answer = await nobody.get(f"{theirs}{join}ticket={unspent}", headers=STREAM)
        assert_problem(answer, 404, "run.not_found")
    # The owner does see it there, so it is not the address that is wrong.
    shown = await nobody.get(streams_of(alices[1])[number], headers={**bearer(), **STREAM})
    assert shown.status_code == 200
    assert shown.headers["content-type"].startswith("text/event-stream")


async def test_of_several_runs_one_of_anothers_is_enough_to_refuse(nobody, alices):
    mine = (await nobody.post("/run", json={"pipeline": "words", "input": {"count": 0}}, headers=bearer("m"))).json()[
        "id"
    ]
    for order in ((mine, alices[0]), (alices[0], mine)):
        answer = await nobody.get("/events", params={"run": order}, headers={**bearer("m"), **STREAM})
        assert_problem(answer, 404, "run.not_found")


# What each command needs, and how it is said about a run; None: it is about no run, or about nothing but the socket.
COMMANDS: dict[str, tuple[tuple[Scope, ...], dict | None]] = {
    "authenticate": ((), None),
    "ping": ((), None),
    "unsubscribe": ((), None),
    "start": ((Scope.START, Scope.READ), None),
    "subscribe": ((Scope.READ,), {}),
    "cancel": ((Scope.CANCEL,), {}),
    "pause": ((Scope.CONTROL,), {}),
    "resume": ((Scope.CONTROL,), {}),
    "input": ((Scope.CONTROL,), {"input_id": "i", "value": 1}),
}
ABOUT_RUNS = [type for type, (_, more) in COMMANDS.items() if more is not None]


def said_about(type: str, run: str) -> dict:
    more = {"start": {"pipeline": "words"}, "unsubscribe": {"run": run}}.get(type, COMMANDS[type][1])
    return {"type": type, **({"run": run} if type in ABOUT_RUNS else {}), **(more or {})}


def test_the_table_of_commands_is_complete():
    assert set(COMMANDS) == TYPES


@pytest.mark.parametrize("type", sorted(TYPES - {"authenticate"}))
async def test_no_command_is_taken_before_the_socket_knows_who_speaks(gateway, type):
    async with websockets.connect(gateway.ws) as ws:
        assert (await heard(ws))["type"] == "hello"
        await said(ws, **said_about(type, NOBODY))
        assert await closed(ws) == 4001


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_a_bad_token_closes_the_socket_however_it_comes(gateway, name):
    bad, code = BAD_TOKENS[name]
    close = {"auth.invalid": 4001, "auth.expired": 4200}[code]
    cookie = {"Cookie": f"{COOKIE}={bad}", "Origin": gateway.url}
    for headers in ({"Authorization": f"Bearer {bad}"}, cookie):
        async with websockets.connect(gateway.ws, additional_headers=headers) as ws:
            assert await closed(ws) == close
            assert ws.close_reason == code
    async with websockets.connect(gateway.ws) as first, opened(gateway) as renewing:
        assert (await heard(first))["type"] == "hello"
        for ws in (first, renewing):
            reply = await asked(ws, type="authenticate", token=bad)
            assert reply["error"]["code"] == code
            assert bad not in str(reply)
            assert await closed(ws) == close


@pytest.mark.parametrize(
    ("type", "scope"), [(type, scope) for type, (scopes, _) in COMMANDS.items() for scope in scopes], ids=str
)
async def test_each_missing_scope_refuses_a_command_before_the_run_is_looked_for(gateway, alices, type, scope):
    others = " ".join(each for each in Scope if each is not scope)
    async with opened(gateway, headers=bearer("alice", others)) as ws:
        for run in (alices[0], NOBODY):
            reply = await asked(ws, **said_about(type, run))
            assert reply["error"]["code"] == "auth.forbidden"
            assert scope in reply["error"]["detail"]


@pytest.mark.parametrize("type", ABOUT_RUNS)
async def test_a_command_about_anothers_run_is_answered_as_about_none(gateway, nobody, alices, type):
    narrowed = await ticket(nobody, "alice", EVERYTHING, runs=[NOBODY])
    async with (
        opened(gateway, headers=bearer("mallory", EVERYTHING)) as mallory,
        websockets.connect(f"{gateway.ws}?ticket={narrowed}") as narrow,
    ):
        assert (await heard(narrow))["type"] == "hello"
        for ws in (mallory, narrow):
            replies = [await asked(ws, **said_about(type, run)) for run in (*alices, NOBODY)]
            assert replies[0] == replies[1] == replies[2]
            assert replies[0]["error"]["code"] == "run.not_found"


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
