"""A real Chromium on a bad network: whatever breaks, the JavaScript client sees each event once and in order.

So does the browser's own EventSource, as far as it goes: it knows no other way and cannot tell a dead connection.

Over 300 lines, because each fault is put to the client and to the browser's own in the same surroundings.
"""

import asyncio
import os
import signal
from collections.abc import Collection
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from tests.e2e.browser import Tab, launched
from tests.e2e.clients import PATIENCE_S, caller, finished, log_of, published, served, started
from tests.e2e.process import token
from tests.e2e.proxies import Edit, Proxy, certificate
from tests.e2e.relay import Relay

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]
HEARTBEAT_S = 0.2
SETTINGS = {"heartbeat_s": HEARTBEAT_S, "retry_ms": 20}
# With an address of its own for the WebSocket, as it is often written. (What comes to nginx in chunks, by HTTP/1.1, it
# passes on as it comes, whatever it was told.)
BUFFERING = Edit(
    r"location / \{\n",
    "location / { proxy_pass http://127.0.0.1:8000; proxy_ignore_headers X-Accel-Buffering; }\n    location /ws {\n",
)
WITHOUT_UPGRADE = Edit(r"^ +proxy_set_header Upgrade.*\n", "")
BY_EVENTSOURCE = """
(run) => {
  const source = new EventSource(`/runs/${run}/events?replay=full`);
  for (const type of ["run.queued", "run.started", "x.go", "run.completed"]) {
    source.addEventListener(type, ({ data }) => seen.push(JSON.parse(data)));
  }
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) ended = "closed"; };
}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(made):
    async with launched(made) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser):
    context = await browser.new_context()
    yield context
    await context.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("gateway"), **SETTINGS) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway):
    async with caller(gateway) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def relay(gateway):
    async with Relay(gateway.port) as relay:
        yield relay


@asynccontextmanager
async def followed(client, tabs: Collection[Tab]):
    """A run that the tabs follow: they have seen its start. Those that are left at the end have seen all of it."""
    run = await started(client, "external")
    for tab in tabs:
        await tab.follow(run)
    for tab in tabs:
        await tab.sees("type", "run.started")
    yield run
    await finished(client, run)
    whole = await log_of(client, run)
    for tab in tabs:
        assert await tab.ended() == "completed", await tab.links()
        assert await tab.events() == whole


async def one_by_each_way(context, url: str, **options) -> dict[str, Tab]:
    return {way: await Tab.opened(context, url, transports=[way], **options) for way in ("sse", "websocket", "poll")}


async def says(client, run: str, *tabs: Tab, number: int) -> None:
    """An event, which all of them see."""
    await published(client, run, {"type": "x.go", "number": number})
    for tab in tabs:
        await tab.sees("number", number)


async def test_by_itself_it_takes_sse_and_stays_with_it(context, client, relay):
    tab = await Tab.opened(context, relay.url)
    async with followed(client, [tab]) as run:
        for number in range(3):
            await says(client, run, tab, number=number)
    assert await tab.transports() == ["sse"]
    assert relay.asked_for("sse") == 1


@pytest.mark.parametrize(
    ("blocks", "transport"),
    [
        ({"sse": "page"}, "websocket"),
        ({"sse": "silence"}, "websocket"),
        ({"sse": "reset"}, "websocket"),
        ({"sse": "page", "websocket": "page"}, "poll"),
        ({"sse": "silence", "websocket": "page"}, "poll"),
        ({"sse": "silence", "websocket": "silence"}, "poll"),
        ({"sse": "reset", "websocket": "reset"}, "poll"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value.values()),
)
async def test_what_does_not_work_here_is_left_for_the_next(context, client, relay, blocks, transport):
    relay.blocks = blocks
    tab = await Tab.opened(context, relay.url)
    async with followed(client, [tab]) as run:
        for number in range(3):
            await says(client, run, tab, number=number)
        assert await tab.transports() == [transport]
        # And it is remembered: after a break it does not begin with what failed.
        asked = relay.asked_for("sse")
        relay.cut()
        await says(client, run, tab, number=3)
        assert relay.asked_for("sse") == asked


@pytest.mark.parametrize("block", ["page", "silence", "reset"])
async def test_what_stops_working_on_the_way_is_left_too(context, client, relay, block):
    tab = await Tab.opened(context, relay.url, maxRetries=1000)
    async with followed(client, [tab]) as run:
        for number, way in enumerate(("sse", "websocket")):
            await says(client, run, tab, number=number)
            relay.blocks[way] = block
            relay.cut()
        await says(client, run, tab, number=2)
        assert await tab.transports() == ["sse", "websocket", "poll"]


@pytest.mark.parametrize(
    ("edits", "transport"),
    [((BUFFERING,), "websocket"), ((BUFFERING, WITHOUT_UPGRADE), "poll")],
    ids=["buffers", "buffers-without-upgrade"],
)
async def test_an_nginx_that_buffers_is_found_out(context, client, gateway, made, tmp_path, edits, transport):
    with Proxy("nginx", tmp_path, gateway.port, made, *edits) as proxy:
        tab = await Tab.opened(context, proxy.url(tls=False))
        async with followed(client, [tab]) as run:
            await says(client, run, tab, number=0)
            assert await tab.transports() == [transport]


@pytest.mark.parametrize("kind", ["nginx", "haproxy", "caddy", "apache"])
async def test_behind_each_proxy_every_way_is_live_over_http2(context, client, gateway, made, tmp_path, kind):
    with Proxy(kind, tmp_path, gateway.port, made) as proxy:
        tabs = await one_by_each_way(context, proxy.url(tls=True))
        for way, tab in tabs.items():
            async with followed(client, [tab]) as run:
                await says(client, run, tab, number=0)
            asked = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
            assert await tab.page.evaluate(asked) == "h2"
            assert await tab.transports() == [way]


@pytest.mark.parametrize("transport", ["sse", "websocket", "poll"])
async def test_a_connection_that_breaks_is_resumed(context, client, relay, transport):
    tab = await Tab.opened(context, relay.url, transports=[transport])
    async with followed(client, [tab]) as run:
        for number in range(5):
            relay.cut()
            await says(client, run, tab, number=number)


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_a_connection_that_only_looks_open_is_given_up(context, client, relay, transport):
    """No end and no error: the heartbeats alone are missed."""
    tab = await Tab.opened(context, relay.url, transports=[transport])
    async with followed(client, [tab]) as run:
        relay.mute()
        await says(client, run, tab, number=0)
    assert (await tab.links()).count(f"{transport} connected") >= 2


async def test_back_from_offline_it_does_not_wait(context, client, relay):
    """With the longest delay that there is, only the browser's own word can bring it back in time."""
    tab = await Tab.opened(context, relay.url, transports=["sse"], retryDelay=30_000)
    await tab.page.evaluate("Math.random = () => 0.999")
    async with followed(client, [tab]) as run:
        await context.set_offline(True)
        relay.cut()
        await tab.until("links.at(-1) === 'sse retrying'")
        await published(client, run, {"type": "x.go", "number": 0})
        await context.set_offline(False)
        await tab.sees("number", 0)


@pytest.mark.parametrize("cut", [False, True], ids=["kept", "cut"])
@pytest.mark.parametrize("transport", ["sse", "websocket", "poll"])
async def test_a_machine_that_slept_catches_up(browser, context, client, relay, transport, cut):
    """The renderer stands still as a whole, and the network in between may have forgotten it."""
    tab = await Tab.opened(context, relay.url, transports=[transport])
    system = await browser.new_browser_cdp_session()
    async with followed(client, [tab]) as run:
        processes = (await system.send("SystemInfo.getProcessInfo"))["processInfo"]
        renderers = [each["id"] for each in processes if each["type"] == "renderer"]
        assert renderers
        for each in renderers:
            os.kill(each, signal.SIGSTOP)
        try:
            for number in range(50):
                await published(client, run, {"type": "x.asleep", "number": number})
            if cut:
                relay.cut()
            await asyncio.sleep(3 * HEARTBEAT_S)  # longer than its patience
        finally:
            for each in renderers:
                os.kill(each, signal.SIGCONT)
        await says(client, run, tab, number=50)


async def test_a_page_that_is_frozen_catches_up(context, client, relay):
    tab = await Tab.opened(context, relay.url)
    session = await context.new_cdp_session(tab.page)
    async with followed(client, [tab]) as run:
        await session.send("Page.setWebLifecycleState", {"state": "frozen"})
        for number in range(50):
            await published(client, run, {"type": "x.asleep", "number": number})
        relay.cut()
        await session.send("Page.setWebLifecycleState", {"state": "active"})
        await says(client, run, tab, number=50)


async def test_tokens_that_end_are_replaced_on_the_way(context, tmp_path):
    with served(tmp_path, **SETTINGS, auth_warning_s=1) as gateway:
        async with caller(gateway) as client:
            tabs = await one_by_each_way(context, gateway.url, ttl_s=2)
            async with followed(client, tabs.values()) as run:
                number = 0
                async with asyncio.timeout(2 * PATIENCE_S):
                    while not all(sum(tab.minted) >= 2 for tab in tabs.values()):
                        await says(client, run, *tabs.values(), number=number)
                        number += 1
            # A socket takes the fresh token without a break.
            assert "websocket retrying" not in await tabs["websocket"].links()


async def test_eight_tabs_on_one_host_share_one_connection(context, client, relay):
    tabs = [await Tab.opened(context, relay.url, shared=True) for _ in range(8)]
    async with followed(client, tabs) as run:
        await says(client, run, *tabs, number=0)
        assert relay.asked_for("sse") == 1
        # The one that holds the connection goes; the others go on over another's.
        await tabs.pop(0).page.close()
        await says(client, run, *tabs, number=1)
        tabs.append(await Tab.opened(context, relay.url, shared=True))
        await tabs[-1].follow(run)
        await says(client, run, *tabs, number=2)
        assert relay.asked_for("sse") == 2


async def test_eight_tabs_that_do_not_share_are_live_and_use_the_host_up(context, client, relay):
    """Six streams are all that the browser opens to a host by HTTP/1.1; sockets it counts apart."""
    tabs = [await Tab.opened(context, relay.url, timeout=2000) for _ in range(8)]
    page = await context.new_page()
    async with followed(client, tabs) as run:
        await says(client, run, *tabs, number=0)
        ways = [(await tab.transports())[-1] for tab in tabs]
        assert (ways.count("sse"), ways.count("websocket")) == (6, 2)
        asked = len(relay.requests)
        loading = asyncio.ensure_future(page.goto(f"{relay.url}/docs"))
        await says(client, run, *tabs, number=1)
        assert not loading.done()
        assert len(relay.requests) == asked
        await tabs[ways.index("sse")].page.evaluate("client.closeAll()")
        tabs.pop(ways.index("sse"))
        assert (await loading).ok


async def test_eight_tabs_over_http2_need_not_share(context, client, gateway, made, tmp_path):
    with Proxy("nginx", tmp_path, gateway.port, made) as proxy:
        tabs = [await Tab.opened(context, proxy.url(tls=True)) for _ in range(8)]
        async with followed(client, tabs) as run:
            await says(client, run, *tabs, number=0)
            assert [await tab.transports() for tab in tabs] == [["sse"]] * 8


async def test_an_eventsource_comes_back_by_itself_and_stops_at_the_end(context, tmp_path):
    with served(tmp_path, **SETTINGS, cookie="runcast") as gateway:
        async with caller(gateway) as client, Relay(gateway.port) as relay:
            await context.add_cookies([{"name": "runcast", "value": token(), "url": relay.url}])
            tab = await Tab.opened(context, relay.url)
            run = await started(client, "external")
            await tab.page.evaluate(BY_EVENTSOURCE, run)
            for number in range(3):
                await says(client, run, tab, number=number)
                relay.cut()
            await finished(client, run)
            assert await tab.ended() == "closed"
            whole = await log_of(client, run)
            assert await tab.events() == whole
            streams = [request.lower() for request in relay.requests if "text/event-stream" in request]
            assert "last-event-id" not in streams[0]
            assert f"last-event-id: {whole[-1]['id']}\r\n" in streams[-1]


async def test_a_gateway_that_is_killed_is_found_again_but_not_by_an_eventsource_behind_a_proxy(
    context, made, tmp_path
):
    """An EventSource gives up for ever when a proxy answers 502 in its place, as docs/proxies.md says."""
    (tmp_path / "gateway").mkdir()
    with served(tmp_path / "gateway", **SETTINGS, cookie="runcast") as gateway:
        async with caller(gateway) as client:
            with Proxy("nginx", tmp_path, gateway.port, made) as proxy:
                url = proxy.url(tls=False)
                await context.add_cookies([{"name": "runcast", "value": token(), "url": url}])
                plain = await Tab.opened(context, url)
                tabs = await one_by_each_way(context, gateway.url, maxRetries=1000)
                tabs["proxy"] = await Tab.opened(context, url, maxRetries=1000)
                async with followed(client, tabs.values()) as run:
                    await plain.page.evaluate(BY_EVENTSOURCE, run)
                    await plain.sees("type", "run.started")
                    await asyncio.to_thread(gateway.stop, signal.SIGKILL)
                    assert await plain.ended() == "closed"
                    await asyncio.to_thread(gateway.start)
                    await says(client, run, *tabs.values(), number=0)
