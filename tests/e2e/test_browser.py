"""A real Chromium: its own EventSource and WebSocket see what everybody sees, and stop at the end."""

import pytest

from tests.e2e.clients import by_sse, finished, own, published, started, ticket

pytestmark = pytest.mark.browser

BY_EVENTSOURCE = """
([url, types]) => new Promise((done) => {
  const seen = [];
  const source = new EventSource(url);
  for (const type of types) source.addEventListener(type, (event) => {
    seen.push({ type, id: event.lastEventId, data: event.data });
    if (/^run.(completed|failed|cancelled)$/.test(type)) { source.close(); done(seen); }
  });
})
"""
BY_WEBSOCKET = """
([ticket, run]) => new Promise((done, failed) => {
  const seen = [];
  const socket = new WebSocket(`ws://${location.host}/ws?ticket=${ticket}`, "runcast.v1");
  socket.onopen = () => socket.send(JSON.stringify({ type: "subscribe", run, replay: "full" }));
  socket.onerror = () => failed(new Error("the socket failed"));
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    if (frame.id) seen.push(frame);
    if (/^run.(completed|failed|cancelled)$/.test(frame.type)) { socket.close(); done([socket.protocol, seen]); }
  };
})
"""
STOPS_AT_204 = """
(url) => new Promise((done) => {
  const source = new EventSource(url);
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) done("closed"); };
})
"""


async def test_eventsource_and_websocket_see_the_same_events_as_everybody(page, client):
    run = await started(client, count=20, gap_s=0.01)
    types = ["run.queued", "run.started", "stage.started", "progress", "delta", "stage.completed", "run.completed"]
    url = f"/runs/{run}/events?replay=full&ticket={await ticket(client)}"
    by_source = await page.evaluate(BY_EVENTSOURCE, [url, types])
    protocol, by_socket = await page.evaluate(BY_WEBSOCKET, [await ticket(client), run])
    events = own(await by_sse(client, run, replay="full"))
    assert protocol == "runcast.v1"
    assert by_socket == events
    assert [(each["type"], each["id"]) for each in by_source] == [(event["type"], event["id"]) for event in events]


async def test_an_eventsource_that_has_everything_stops_for_good(page, client):
    run = await started(client, count=1)
    last = own(await by_sse(client, run))[-1]["id"]
    url = f"/runs/{run}/events?after={last}&ticket={await ticket(client)}"
    assert await page.evaluate(STOPS_AT_204, url) == "closed"


async def test_a_refused_socket_shows_its_code_to_the_page(page, client):
    code = await page.evaluate(
        "() => new Promise((done) => {"
        " new WebSocket(`ws://${location.host}/ws?ticket=x`).onclose = (event) => done(event.code); })"
    )
    assert code == 4001


async def test_text_of_every_kind_arrives_unharmed(page, client):
    run = await started(client, "external")
    text = "line\nline\r\n\u2028 \U0001f4a9 </script> \0 id: 5\n\ndata: x"
    await published(client, run, {"type": "delta", "block": "b", "delta": text})
    await finished(client, run)
    _, seen = await page.evaluate(BY_WEBSOCKET, [await ticket(client), run])
    assert [frame["delta"] for frame in seen if frame["type"] == "delta"] == [text]
    url = f"/runs/{run}/events?replay=full&ticket={await ticket(client)}"
    by_source = await page.evaluate(BY_EVENTSOURCE, [url, ["delta", "run.completed"]])
    assert await page.evaluate("(text) => JSON.parse(text).delta", by_source[0]["data"]) == text
