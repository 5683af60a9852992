"""Front ends that were written for other servers, unchanged in a real Chromium, at their own addresses.

The pages in `front_ends/` are such front ends. They are served from the gateway's own origin, as behind a proxy.

Over 300 lines, because all pages are visited in one way, and share one browser.
"""

import json
import random
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright import async_api as playwright

from tests.e2e.clients import PATIENCE_S, by_sse, caller, eventually, own, published, served, started, terminals, ticket
from tests.e2e.foreign import FAILURE, WORK, read
from tests.e2e.process import bearer
from tests.faults.proxy import Proxy
from tests.pipeline.texts import WORKS
from tests.pipeline.texts import read as text_of

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]
PAGES = Path(__file__).parent / "front_ends"
TABLE = [{"pattern": "/my/{tenant}/jobs/{job}", "run": "job", "dialect": "content"}]
TEXT = text_of(WORKS[0])[:6000]
TIDES = (
    "The tides follow the moon. Twice a day the sea rises and falls. Spring tides come when sun and moon pull together."
)
CLOSED = 2


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """With a cookie, an alias of the operator's own, and browsers that come back soon."""
    folder = tmp_path_factory.mktemp("gateway")
    with served(folder, aliases=json.dumps(TABLE), cookie="session", retry_ms=50, heartbeat_s=0.5) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway):
    async with caller(gateway) as client:
        yield client


@pytest.fixture(scope="module")
def credential():
    """What the cookie holds."""
    return bearer()["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def visit(gateway, browser, credential):
    """Opens a front end's page; `cookie`: its visitor has signed in; `port`: not the gateway's but that of a proxy."""

    async def visit(name: str, query: str = "", *, cookie: bool = True, port: int | None = None) -> playwright.Page:
        origin = f"http://127.0.0.1:{port or gateway.port}"
        context = await browser.new_context()
        if cookie:
            held = {"name": "session", "value": credential, "url": origin, "httpOnly": True, "sameSite": "Strict"}
            await context.add_cookies([held])
        await context.route(
            "**/front/*",
            lambda route: route.fulfill(path=PAGES / f"{name}.html", content_type="text/html; charset=utf-8"),
        )
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        page.answers = []
        page.on("response", lambda response: page.answers.append((response.url, response.status)))
        await page.goto(f"{origin}/front/{name}.html{query}", wait_until="commit")
        return page

    return visit


async def titled(page: playwright.Page, *titles: str) -> None:
    await page.wait_for_function("(titles) => titles.includes(document.title)", arg=list(titles))


async def entered(way: str, client) -> tuple[str, bool]:
    """What a page's address gets to be let in, and whether its visitor has a cookie."""
    return (f"&ticket={await ticket(client)}", False) if way == "ticket" else ("", True)


@asynccontextmanager
async def breaking(gateway, seed: int, *, reach: int, limit: int):
    """A way to the gateway on which connections break, so many times.

    By resets alone: Chromium takes a head that merely ends for a whole one, and gives up on it.
    """
    async with Proxy(gateway.port, random.Random(seed), reach=reach, limit=limit, kinds=("rst",)) as proxy:
        yield proxy


def streams(page: playwright.Page, path: str) -> list[int]:
    """How the requests of a stream were answered, one after the other."""
    return [status for url, status in page.answers if path in url]


WAYS = pytest.mark.parametrize("way", ["cookie", "ticket"])


@WAYS
async def test_the_autopilot_page_shows_a_search(client, visit, way):
    """`onmessage` alone: every step with its numbers, and the document at the end."""
    run = await started(client, "autopilot", topic=WORKS[0].topic, documents=[TEXT], max_sections=2, doc_id="doc-7")
    entry, cookie = await entered(way, client)
    page = await visit("autopilot", f"?taskId={run}{entry}", cookie=cookie)
    await titled(page, "done")
    result = (await client.get(f"/runs/{run}")).json()["result"]
    assert await page.inner_text("#step") == "Document doc-7"
    stats = result["stats"]
    shown = await page.inner_text("#stats")
    assert shown == f"{stats['hits']} hits, {stats['verified']} verified, {stats['sections']} sections"
    steps = [each["step"] for each in await page.evaluate("seen")]
    assert list(dict.fromkeys(steps)) == ["search", "strategy", "outline", "done"]


@WAYS
async def test_the_editor_writes_blocks_side_by_side_and_stops_at_the_end(client, visit, way):
    """Deltas by block with their sources; a page that never closes its EventSource is not kept coming for ever."""
    run = await started(client, "generation", topic=WORKS[0].topic, documents=[TEXT], max_words=250)
    entry, cookie = await entered(way, client)
    page = await visit("generation", f"?streamId={run}{entry}", cookie=cookie)
    await titled(page, "done, closed")
    result = (await client.get(f"/runs/{run}")).json()["result"]
    blocks = await page.evaluate("Object.entries(blocks).map(([id, { text, done }]) => [id, text.trim(), done])")
    assert sorted(blocks) == [[name, text, True] for name, text in sorted(result["blocks"].items())]
    assert len(blocks) >= 2
    assert await page.evaluate("[...cited]") == sorted({f"{one['key']} {one['source']}" for one in result["citations"]})
    assert await page.evaluate("es.readyState") == CLOSED
    # What it got when it came back after the end; a ticket was spent by then.
    assert streams(page, "/api/generation/stream") == [200, 204 if way == "cookie" else 401]


@WAYS
async def test_the_agent_platform_follows_a_workflow(client, visit, way):
    """Each event under its own name, with the platform's fields; costs add up to the run's usage."""
    task = "What follows the moon? What is 6 * 7? How many words are there?"
    run = await started(client, "agent", task=task, documents=[TIDES])
    entry, cookie = await entered(way, client)
    page = await visit("agent", f"?v=2{entry}#agent-7/{run}", cookie=cookie)
    await titled(page, "WorkflowCompleted")
    state = (await client.get(f"/runs/{run}")).json()
    log = await page.inner_text("#log")
    assert "6 * 7" in log
    assert '{"value":"42"}' in log
    assert state["result"]["answer"].split("\n")[0] in log
    assert await page.inner_text("#cost") == f"${state['usage']['cost_usd']:.6f}"
    seen = await page.evaluate("seen")
    assert seen[0] == "WorkflowStarted"
    for name, count in {"StepStarted": 3, "StepCompleted": 3, "LLMCallStarted": 2, "LLMCallCompleted": 2}.items():
        assert seen.count(f"Workflow{name}") == count
    assert seen.count("WorkflowToolCallStarted") == seen.count("WorkflowToolCallCompleted") == 3


async def test_the_agent_platform_sees_a_budget_a_pause_and_a_cancel(client, visit):
    """What stops a workflow is told under the platform's names."""
    poor = await client.post(
        "/runs", json={"pipeline": "agent", "input": {"task": "2 + 2"}, "options": {"budget_usd": 1e-6}}
    )
    page = await visit("agent", f"#a/{poor.json()['id']}")
    await titled(page, "WorkflowCancelled")
    assert "budget of $0.000001 exceeded" in await page.inner_text("#log")
    assert (await page.inner_text("#log")).endswith("budget")
    run = await started(client, "steps", count=1000, gap_s=0.02)
    page = await visit("agent", f"#a/{run}")
    for command in ("pause", "resume"):
        assert (await client.post(f"/runs/{run}/{command}")).status_code == 202
        await page.wait_for_function("(name) => seen.includes(name)", arg=f"Workflow{command.capitalize()}d")
    await client.post(f"/runs/{run}/cancel", json={"reason": "no longer wanted"})
    await titled(page, "WorkflowCancelled")
    assert "paused by alice\nresumed by alice\nno longer wanted" in await page.inner_text("#log")


CONTENT = {"pipeline": "content", "input": {"topic": "the tides", "sources": [TIDES], "max_words": 60}}


async def test_the_content_tool_gets_the_same_text_however_it_asks(client, visit):
    """From its streaming page, from `POST /run` without a stream, and native: one and the same result."""
    page = await visit("content")
    ended = await page.evaluate("(body) => generate(body)", CONTENT)
    waited = await client.post("/run", json=CONTENT)
    native = await client.post("/run/stream", json=CONTENT)
    result = waited.json()["result"]
    assert (waited.status_code, waited.json()["status"]) == (200, "completed")
    assert (await client.get(f"/runs/{native.headers['x-run-id']}")).json()["result"] == result
    assert (ended["name"], ended["success"], ended["output"]) == ("complete", True, result["markdown"])
    assert ended["metadata"] == {name: value for name, value in result.items() if name != "markdown"}
    assert await page.inner_text("#output") == " ".join(result["markdown"].split())
    assert (await page.text_content("#draft")).strip().splitlines()[0] in result["markdown"]


async def test_the_content_tool_shows_a_refusal(client, visit):
    """A run that fails ends with `error`, and its words are the pipeline's own."""
    page = await visit("content")
    body = {"pipeline": "content", "input": {"topic": "the tides", "sources": []}}
    ended = await page.evaluate("(body) => generate(body)", body)
    waited = await client.post("/run", json=body)
    assert waited.status_code == 502
    assert (ended["name"], ended["message"]) == ("error", waited.json()["error"]["message"])
    assert (ended["retryable"], ended["stage"]) == (False, None)


@WAYS
async def test_an_address_of_the_operators_own_serves_its_page(client, visit, way):
    """RUNCAST_ALIASES: the page's address, the page's dialect."""
    run = (await client.post("/runs", json=CONTENT)).json()["id"]
    entry, cookie = await entered(way, client)
    page = await visit("jobs", f"?job={run}{entry}", cookie=cookie)
    await titled(page, "complete")
    result = (await client.get(f"/runs/{run}")).json()["result"]
    assert await page.text_content("#output") == result["markdown"]
    assert (await page.evaluate("seen"))[-1] == 100


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
async def test_every_front_end_is_told_of_a_bad_end(client, visit, ending):
    """In its own words, and nobody comes back for more."""
    run = await started(client, "external")
    pages = {
        "error": await visit("autopilot", f"?taskId={run}"),
        "error, closed": await visit("generation", f"?streamId={run}"),
        f"Workflow{ending.capitalize()}": await visit("agent", f"#a/{run}"),
        "error ": await visit("jobs", f"?job={run}"),
    }
    await published(client, run, *WORK)
    if ending == "failed":
        await client.post(f"/runs/{run}/finish", json={"status": "failed", "error": FAILURE})
    else:
        await client.post(f"/runs/{run}/cancel", json={"reason": FAILURE["message"]})
        await client.post(f"/runs/{run}/finish", json={"status": "completed"})
    for title, page in pages.items():
        await titled(page, title.strip())
        assert FAILURE["message"] in await page.inner_text("body")


async def test_all_who_watch_a_crew_see_the_same_board(client, visit):
    """Two browsers, one of which came late: every status of every task, in order."""
    run = await started(client, "crew", goal="the tides", documents=[TIDES])
    first = await visit("board", f"?run={run}&replay=full")

    async def going() -> bool:
        return await first.evaluate("board.research?.includes('running') ?? false")

    await eventually(going, within_s=PATIENCE_S)
    late = await visit("board", f"?run={run}&ticket={await ticket(client)}", cookie=False)
    for page in (first, late):
        await titled(page, "run.completed")
        assert await page.evaluate("board") == {
            task: ["waiting", "running", "done"] for task in ("research", "analysis", "critique", "report")
        }
        assert "# the tides" in (await page.evaluate("drafts.report"))


LETTERS = 80


@pytest.mark.parametrize("seed", range(2))
async def test_a_browser_that_lost_its_connection_comes_back_by_itself(gateway, client, visit, seed):
    """With a cookie: `Last-Event-ID` after each break, and the page has every frame once, in each dialect."""
    run = await started(client, count=LETTERS, gap_s=0.02)
    async with breaking(gateway, seed, reach=2500, limit=4) as proxy:
        page = await visit("generation", f"?streamId={run}&replay=full", port=proxy.port)
        await titled(page, "done, closed")
        assert proxy.faults >= 2
    assert await page.evaluate("blocks.body.text") == "".join(f"word{number} " for number in range(LETTERS))
    assert streams(page, "/api/generation/stream")[-1] == 204


@pytest.mark.parametrize("name", ["agent", "jobs", "board"])
async def test_named_events_are_resumed_too(gateway, client, visit, name):
    """An agent's workflow, an operator's alias and the native stream, each over connections that break."""
    pipeline, given = {
        "agent": ("agent", {"task": "1 + 1; 2 + 2; 3 + 3; 4 + 4", "documents": [TIDES]}),
        "jobs": ("content", CONTENT["input"]),
        "board": ("crew", {"goal": "the tides", "documents": [TIDES]}),
    }[name]
    run = await started(client, pipeline, **given)
    query = {"agent": f"?replay=full#a/{run}", "jobs": f"?job={run}&replay=full", "board": f"?run={run}&replay=full"}
    async with breaking(gateway, 3, reach=1500, limit=3) as proxy:
        page = await visit(name, query[name], port=proxy.port)
        await titled(page, "WorkflowCompleted", "complete", "run.completed")
        assert proxy.faults >= 2
    if name == "agent":
        told = (await read(client, f"/runs/{run}/events", dialect="workflow", replay="full")).messages
        assert await page.evaluate("seen") == [one.event for one in told if one.event != "Heartbeat"]
    elif name == "jobs":
        told = (await read(client, f"/runs/{run}/events", dialect="content", replay="full")).messages
        assert await page.evaluate("seen") == [
            json.loads(one.data)["progress"] for one in told if one.event == "progress"
        ]
    else:
        assert {tuple(each) for each in (await page.evaluate("board")).values()} == {("waiting", "running", "done")}


async def test_a_body_that_broke_off_is_read_on(gateway, client, visit):
    """The content tool's `fetch` names its run in a header, so the page asks for the rest."""
    async with breaking(gateway, 5, reach=1200, limit=2) as proxy:
        page = await visit("content", port=proxy.port)
        ended = await page.evaluate("(body) => generate(body)", CONTENT)
        assert proxy.faults == 2
    run = await page.evaluate("run")
    assert ended["output"] == (await client.get(f"/runs/{run}")).json()["result"]["markdown"]


async def test_a_ticket_opens_once_and_the_page_opens_anew(gateway, client, visit):
    """A broken connection has spent its ticket: the browser stops, and a new ticket goes on behind the last id."""
    run = await started(client, "external")
    async with breaking(gateway, 1, reach=600, limit=1) as proxy:
        page = await visit(
            "board", f"?run={run}&replay=full&ticket={await ticket(client)}", cookie=False, port=proxy.port
        )
        await page.evaluate("window.ids = []; source.addEventListener('x.own', (event) => ids.push(event.lastEventId))")
        for _ in range(20):
            await published(client, run, {"type": "x.own", "more": "x" * 100})
        await page.wait_for_function("source.readyState === 2")
        assert proxy.faults == 1
        url = f"/runs/{run}/events?replay=full&ticket={await ticket(client)}&after="
        await page.evaluate(
            """(url) => { source = null; window.again = new EventSource(url + (ids.at(-1) ?? 0));
            again.addEventListener('x.own', (event) => ids.push(event.lastEventId)); }""".replace(
                "source = null; ", ""
            ),
            url,
        )
        await page.wait_for_function("ids.length >= 20")
    await client.post(f"/runs/{run}/finish", json={"status": "completed"})
    events = own(await by_sse(client, run, replay="full"))
    assert len(terminals(events)) == 1
    assert await page.evaluate("ids") == [event["id"] for event in events if event["type"] == "x.own"]
