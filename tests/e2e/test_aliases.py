"""Aliases over a real gateway: a front end finds a run's stream at its own address, and no check is missing there."""

import json
import subprocess
import sys

import httpx
import pytest

from tests.e2e.clients import PATIENCE_S, STREAM, assert_problem, by_sse, caller, own, served, started, ticket
from tests.e2e.foreign import FAILURE, made, read
from tests.e2e.process import ROOT, SECRET, bearer
from tests.wire.sse_parser import parse

TABLE = [
    {"pattern": "/my/{tenant}/jobs/{job}", "run": "job", "dialect": "content"},
    {"pattern": "/my/newest", "run": "latest:external", "dialect": "plain"},
    {"pattern": "/my/job", "run": "job-id", "dialect": "workflow"},
    {"pattern": "/my/native", "run": "job", "dialect": "native"},
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("gateway"), aliases=json.dumps(TABLE), cookie="session") as running:
        yield running


@pytest.fixture
async def failed(client):
    """A run with something of everything, which failed."""
    return await made(client, status="failed", error=FAILURE)


def addresses(run: str) -> dict[str, tuple[str, str]]:
    """Every alias of a run, and its dialect."""
    return {
        f"/api/autopilot/stream?taskId={run}": "plain",
        f"/api/generation/stream?streamId={run}&_=123": "plain",
        f"/api/v1/agents/a%20b/tasks/{run}/events/stream": "workflow",
        f"/my/tenant.1/jobs/{run}": "content",
        "/my/newest": "plain",
        f"/my/job?job-id={run}": "workflow",
        f"/my/native?job={run}": "native",
    }


async def test_an_alias_gives_the_stream_in_its_dialect(client, failed):
    for path, dialect in addresses(failed).items():
        direct = (await read(client, f"/runs/{failed}/events", replay="full", dialect=dialect)).messages
        if dialect == "native":
            direct = direct[1:]  # its hello names the connection
        joint = "&" if "?" in path else "?"
        for headers in ({}, STREAM):
            answer = await client.get(f"{path}{joint}replay=full", headers=headers)
            assert answer.status_code == 200, (path, answer.text)
            assert [m for m in parse(answer.content).messages if m.event != "hello"] == direct
        middle = direct[1].last_event_id
        assert [
            m for m in (await read(client, path + joint + "replay=full", after=middle)).messages if m.event != "hello"
        ] == direct[2:]
        ended = await client.get(path, headers={**STREAM, "Last-Event-ID": direct[-1].last_event_id})
        assert ended.status_code == 204
        asked = await client.head(path)
        assert (asked.status_code, asked.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


async def test_the_query_may_ask_an_alias_for_another_dialect(client, failed):
    told = await read(client, f"/my/tenant/jobs/{failed}", dialect="workflow")
    assert told.messages[-1].event == "WorkflowFailed"


@pytest.mark.parametrize("accept", [{}, STREAM], ids=["any", "stream"])
async def test_an_alias_checks_as_the_address_does(gateway, client, failed, accept):
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as nobody:
        nowhere = "00000000-0000-7000-8000-000000000000"
        for path in addresses(failed):
            assert_problem(await nobody.get(path, headers=accept), 401, "auth.missing")
            without = bearer("alice", "runs:start runs:cancel")
            assert_problem(await nobody.get(path, headers={**without, **accept}), 403, "auth.forbidden")
            foreign = await nobody.get(path, headers={**bearer("mallory"), **accept}, params=None)
            assert_problem(foreign, 404, "run.not_found")
            refused = await nobody.post(path, headers=bearer())
            assert_problem(refused, 405, "method.not_allowed")
        for path in addresses(nowhere):
            if path != "/my/newest":
                missing = await client.get(path, headers=accept)
                assert_problem(missing, 404, "run.not_found")
                assert_problem(
                    await client.get(path + ("&" if "?" in path else "?") + "replay=no"), 404, "run.not_found"
                )
        for path in ("/api/autopilot/stream", "/my/job?job-id=", "/my/native?taskId=x"):
            assert_problem(await client.get(path, headers=accept), 422, "input.invalid")
        wrong = await client.get(f"/my/tenant/jobs/{failed}?replay=all", headers=accept)
        assert_problem(wrong, 422, "input.invalid")


async def test_an_alias_takes_a_ticket_once_and_a_cookie(gateway, client, failed):
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as nobody:
        path = f"/api/autopilot/stream?taskId={failed}"
        once = await ticket(client)
        assert (await nobody.get(f"{path}&ticket={once}")).status_code == 200
        assert_problem(await nobody.get(f"{path}&ticket={once}"), 401, "auth.invalid")
        cookie = {"Cookie": f"session={bearer()['Authorization'].removeprefix('Bearer ')}"}
        assert (await nobody.get(path, headers=cookie)).status_code == 200
        crossing = await nobody.get(path, headers={**cookie, "Sec-Fetch-Site": "cross-site"})
        assert_problem(crossing, 403, "auth.forbidden")


async def test_latest_is_the_callers_own_newest(gateway, client):
    first = await made(client)
    second = await made(client)
    async with caller(gateway, "bob") as bob:
        assert_problem(await bob.get("/my/newest"), 404, "run.not_found")
        await started(bob, "words", count=0)
        assert_problem(await bob.get("/my/newest"), 404, "run.not_found")
        bobs = await made(bob)
        last = own(await by_sse(bob, bobs))[-1]["id"]
        assert (await read(bob, "/my/newest")).messages[-1].last_event_id == last
    ids = {run: own(await by_sse(client, run))[-1]["id"] for run in (first, second)}
    assert (await read(client, "/my/newest")).messages[-1].last_event_id == ids[second]
    # Who comes back after another run has begun gets that one, whole.
    moved = await read(client, "/my/newest", after=ids[first])
    assert [comment.split()[0] for comment in moved.comments] == ["hello", "gap"]
    assert moved.messages[-1].last_event_id == ids[second]


async def test_the_documentation_names_the_aliases(client):
    document = (await client.get("/openapi.json")).json()
    assert {"/my/{any_tenant}/jobs/{id}", "/my/newest", "/my/job", "/api/autopilot/stream"} <= document["paths"].keys()
    named = document["paths"]["/my/job"]["get"]["parameters"]
    assert "job-id" in {parameter["name"] for parameter in named}
    assert "/my/newest" in (await client.get("/docs")).text


@pytest.mark.parametrize(
    "table",
    [
        [{"pattern": "/runs/{x}/events", "run": "x", "dialect": "plain"}],
        [{"pattern": "/{a}/{b}", "run": "b", "dialect": "plain"}],
        [{"pattern": "/api/x", "run": "task", "dialect": "klingon"}],
        [{"pattern": "/api/x", "run": "task"}],
        {"pattern": "/api/x", "run": "task", "dialect": "plain"},
    ],
    ids=json.dumps,
)
def test_an_alias_that_cannot_be_is_one_line_and_status_2(tmp_path, table):
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--bind", "127.0.0.1:0", "--broker", "memory:"],
        env={"PYTHONPATH": str(ROOT), "RUNCAST_JWT_SECRET": SECRET, "RUNCAST_ALIASES": json.dumps(table)},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: RUNCAST_ALIASES: ")


BY_ONMESSAGE = """
(url) => new Promise((done) => {
  const seen = [];
  const source = new EventSource(url);
  source.onmessage = ({ data, lastEventId }) => {
    const said = JSON.parse(data);
    seen.push([lastEventId, said]);
    if (said.step === "done" || said.step === "error") { source.close(); done(seen); }
  };
})
"""


@pytest.mark.browser
async def test_an_eventsource_with_onmessage_follows_at_its_own_address(page, client):
    run = await started(client, count=20, gap_s=0.02)
    url = f"/api/autopilot/stream?taskId={run}&replay=full&ticket={await ticket(client)}"
    seen = await page.evaluate(BY_ONMESSAGE, url)
    told = (await read(client, f"/runs/{run}/events", dialect="plain", replay="full")).messages
    assert seen == [[message.last_event_id, json.loads(message.data)] for message in told]
    assert seen[-1][1] == {"step": "done", "progress": 100}
    assert "".join(said.get("delta", "") for _, said in seen) == "".join(f"word{number} " for number in range(20))
