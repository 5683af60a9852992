"""Many tabs of one browser over one connection, on the six that Chromium grants a host over HTTP/1.1."""

import asyncio

import pytest

from tests.e2e.chromium import chromium
from tests.e2e.clients import by_sse, finished, own, published, started
from tests.e2e.process import token

pytestmark = pytest.mark.browser
TABS = 8

FOLLOW = """
async ([token, ids, patience]) => {
  const { Client } = await import("/js/index.js");
  const { tabs } = await import("/js/tabs.js");
  const client = new Client({ getToken: token, replay: "full", share: tabs('runcast', { patience }) });
  const seen = Object.fromEntries(ids.map((id) => [id, []]));
  Object.assign(globalThis, { client, seen });
  globalThis.over = Promise.all(ids.map(async (id) => {
    for await (const event of client.run(id).events()) seen[id].push(event.type === "gap" ? "gap" : event.id);
  })).then(() => "over", (error) => error.message);
}
"""

BUSY = "(ms) => { for (const end = Date.now() + ms; Date.now() < end; ); }"


@pytest.fixture
async def browser():
    async with chromium() as browser:
        yield browser


def streams_of(context):
    """The addresses of the streams that a browser asks for, as they come."""
    streams: list[str] = []

    def asked(request):
        if "text/event-stream" in request.headers.get("accept", ""):
            streams.append(request.url)

    context.on("request", asked)
    return streams


async def follow(context, gateway, ids, *, patience_ms=15_000):
    page = await context.new_page()
    page.set_default_timeout(15_000)
    await page.goto(f"{gateway.url}/docs")
    await page.evaluate(FOLLOW, [token(), ids, patience_ms])
    return page


async def counted(pages, run, at_least):
    """Every tab has so many events of the run."""
    for page in pages:
        await page.wait_for_function("([run, n]) => seen[run].length >= n", arg=[run, at_least])


async def whole(client, pages, runs):
    """Every tab ends, with each of its runs' events once and in order."""
    logs = {run: [event["id"] for event in own(await by_sse(client, run, replay="full"))] for run in runs}
    for page in pages:
        assert await page.evaluate("over") == "over"
        seen = await page.evaluate("seen")
        assert {run: seen[run] for run in seen} == {run: logs[run] for run in seen}


async def test_eight_tabs_are_all_live_on_one_connection(browser, gateway, client):
    runs = [await started(client, "external"), await started(client, "external")]
    context = await browser.new_context()
    streams = streams_of(context)
    pages = [await follow(context, gateway, runs if n % 2 else runs[:1]) for n in range(TABS)]
    for n in range(20):
        await published(client, runs[0], {"type": "x.n", "n": n})
        await published(client, runs[1], {"type": "x.n", "n": n})
    await counted(pages, runs[0], 20)
    await counted(pages[1::2], runs[1], 20)
    # A plain request still gets through: the connections that a host is granted are not used up.
    assert await pages[0].evaluate("fetch('/healthz').then(({ status }) => status)") == 200
    await asyncio.gather(*(page.wait_for_function("() => client.status === 'connected'") for page in pages))
    for run in runs:
        await finished(client, run)
    await whole(client, pages, runs)
    # One for the first run, one more when the second came, one when the first tab led no more: its only run was over.
    assert 1 <= len(streams) <= 3
    await asyncio.gather(*(page.wait_for_function("() => client.connections.length === 0") for page in pages))
    await pages[0].wait_for_function("async () => (await navigator.locks.query()).held.length === 0")


async def test_a_run_that_is_over_is_asked_for_no_more(browser, gateway, client):
    runs = [await started(client, "external"), await started(client, "external")]
    context = await browser.new_context()
    pages = [await follow(context, gateway, runs) for _ in range(4)]
    await counted(pages, runs[0], 2)
    await counted(pages, runs[1], 2)
    streams = streams_of(context)
    # It is busy when the run ends, so that it is the last to say that it wants it no more.
    busy = asyncio.ensure_future(pages[3].evaluate(BUSY, 1000))
    await finished(client, runs[0])
    await counted(pages, runs[0], 3)
    await busy
    await published(client, runs[1], {"type": "x.n"})
    await counted(pages, runs[1], 3)
    assert [url for url in streams if runs[0] in url] == []
    await finished(client, runs[1])
    await whole(client, pages, runs)


async def test_when_the_leader_dies_another_takes_over_and_nothing_is_lost(browser, gateway, client):
    run = await started(client, "external")
    context = await browser.new_context()
    pages = [await follow(context, gateway, [run]) for _ in range(4)]
    sent = 0

    async def say(count):
        nonlocal sent
        await published(client, run, *({"type": "x.n", "n": sent + n} for n in range(count)))
        sent += count

    await say(10)
    await counted(pages, run, 10)
    # The first tab got the lock first. Its end is not announced to anybody.
    for how in ("close", "crash"):
        await say(50)
        first = pages.pop(0)
        if how == "close":
            await first.close()
        else:
            session = await context.new_cdp_session(first)
            dying = asyncio.ensure_future(session.send("Page.crash"))
            await asyncio.wait([dying], timeout=5)
            dying.cancel()
        await say(50)
        await counted(pages, run, sent)
    late = await follow(context, gateway, [run])
    pages.append(late)
    await counted(pages, run, sent)
    await finished(client, run)
    await whole(client, pages, [run])


async def test_a_leader_that_hangs_is_replaced_and_finds_its_way_back(browser, gateway, client):
    run = await started(client, "external")
    context = await browser.new_context()
    pages = [await follow(context, gateway, [run], patience_ms=2000) for _ in range(3)]
    await published(client, run, {"type": "x.n"})
    await counted(pages, run, 3)
    # It keeps its lock, and says nothing.
    hanging = asyncio.ensure_future(pages[0].evaluate(BUSY, 6000))
    await published(client, run, {"type": "x.n"}, {"type": "x.n"})
    await counted(pages[1:], run, 5)
    assert not hanging.done()
    await hanging
    await published(client, run, {"type": "x.n"})
    await finished(client, run)
    await whole(client, pages, [run])


async def test_a_run_that_is_not_there_is_told_to_the_tab_that_asks_and_nobody_else(browser, gateway, client):
    run = await started(client, count=30, gap_s=0.05)
    context = await browser.new_context()
    page = await follow(context, gateway, [run])
    other = await follow(context, gateway, ["01a1fd39-0000-7097-82be-b06906252e38"])
    assert "run" in await other.evaluate("over")
    await whole(client, [page], [run])
