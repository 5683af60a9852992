"""The JavaScript client in a real Chromium when a way is blocked: the next one carries on, and nothing is lost."""

import pytest
from playwright.async_api import Route

from tests.e2e.chromium import chromium
from tests.e2e.clients import by_sse, finished, own, published, started
from tests.e2e.process import token

pytestmark = pytest.mark.browser

FOLLOW = """
async ([token, id]) => {
  const { Client } = await import("/js/index.js");
  const client = new Client({ getToken: token, replay: "full", timeout: 700, retryDelay: 50 });
  const seen = [];
  const states = new Set();
  const run = client.run(id);
  Object.assign(globalThis, { client, run, seen, states });
  run.subscribe(() => states.add(`${run.connection.status} ${run.connection.transport}`));
  globalThis.over = (async () => {
    for await (const event of run.events()) seen.push(event.type === "gap" ? "gap" : event.id);
    return "over";
  })().catch((error) => error.message);
}
"""


@pytest.fixture
async def context():
    async with chromium() as browser:
        context = await browser.new_context()
        context.set_default_timeout(15_000)
        yield context


def streams(route: Route) -> bool:
    return "text/event-stream" in route.request.headers.get("accept", "")


async def reset(route: Route) -> None:
    await (route.abort("connectionreset") if streams(route) else route.continue_())


async def forbid(route: Route) -> None:
    await (route.fulfill(status=403, body="<h1>Blocked</h1>") if streams(route) else route.continue_())


async def swallow(route: Route) -> None:
    """What a proxy that buffers looks like: nothing comes."""
    if not streams(route):
        await route.continue_()


async def joined(context, gateway, run):
    page = await context.new_page()
    await page.goto(f"{gateway.url}/docs")
    await page.evaluate(FOLLOW, [token(), run])
    return page


async def same(client, page, run):
    await finished(client, run)
    assert await page.evaluate("over") == "over"
    assert await page.evaluate("seen") == [event["id"] for event in own(await by_sse(client, run, replay="full"))]


@pytest.mark.parametrize("block", [reset, forbid, swallow])
async def test_a_websocket_takes_over_when_streams_are_blocked(context, gateway, client, block):
    run = await started(client, "external")
    await context.route("**/events*", block)
    page = await joined(context, gateway, run)
    await page.wait_for_function("() => states.has('connected websocket')")
    await published(client, run, {"type": "x.n", "n": 1})
    await page.wait_for_function("() => seen.length >= 3")
    assert await page.evaluate("run.cancel('enough')") == "cancelling"
    await same(client, page, run)


async def test_long_polls_take_over_when_sockets_are_blocked_too(context, gateway, client):
    run = await started(client, "external")
    await context.route("**/events*", forbid)
    await context.route_web_socket("**/ws", lambda socket: socket.close(code=1006))
    page = await joined(context, gateway, run)
    await page.wait_for_function("() => states.has('connected poll')")
    await published(client, run, {"type": "x.n", "n": 1})
    await page.wait_for_function("() => seen.length >= 3")
    await same(client, page, run)


async def test_away_and_back_again_loses_nothing(context, gateway, client):
    run = await started(client, "external")
    page = await joined(context, gateway, run)
    for n in range(3):
        await page.wait_for_function("() => run.connection.status === 'connected'")
        await published(client, run, {"type": "x.n", "n": n})
        await context.set_offline(True)
        await published(client, run, {"type": "x.n", "n": n})
        await context.set_offline(False)
    await same(client, page, run)
