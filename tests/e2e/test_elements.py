"""The web components on pages that are not the console: the documented ones, as a person uses them."""

import json
import re

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.e2e.chromium import complaints, visit
from tests.e2e.clients import caller, eventually, finished, published, started
from tests.e2e.process import ROOT, token

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]
PAGES = re.findall(r"```html\n(.*?)```", (ROOT / "docs" / "elements.md").read_text(), re.DOTALL)
NASTY = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>"
ROWS = "run-log [role=listbox] [role=option]"
STAGE = {"stage": "writer", "index": 1, "of": 2}


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser, gateway):
    """A page beside the gateway; `shown` gives it its content."""
    async with visit(browser, gateway, "/healthz") as page:
        yield page


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway):
    async with caller(gateway) as client:
        yield client


async def shown(page: Page, html: str, *, run: str = "") -> None:
    """Show a page of the documentation, with a token and a run in their places."""
    body = html.replace("TOKEN", token()).replace("RUN", run)
    if "<main" not in body:
        elements, _, script = body.partition("<script")
        start = "<!doctype html><html lang=en><title>A page</title><main><h1>A page</h1><h2>A run</h2>"
        body = f"{start}{elements}</main><script{script}"
    await page.route("**/page.html", lambda route: route.fulfill(body=body, content_type="text/html"))
    await page.goto("/page.html")


async def test_the_first_page_of_the_documentation_runs_an_agent(page):
    await shown(page, PAGES[0])
    panel = page.locator("run-panel")
    await expect(panel.get_by_text("completed", exact=True)).to_be_visible()
    await expect(panel.locator("run-output")).to_contain_text("397.8")
    await expect(panel.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
    # A page without a background is white to axe, whatever the browser paints.
    await page.add_style_tag(content="body { background: Canvas }")
    for light in ("light", "dark"):
        await page.emulate_media(color_scheme=light)
        assert await complaints(page) == [], light


async def test_a_run_named_by_its_id_gets_its_token_from_the_page(page, client):
    run = await started(client, "external")
    await page.route("**/my/token?*", lambda route: route.fulfill(body=token()))
    await shown(page, PAGES[1], run=run)
    await published(client, run, {"type": "progress", "message": "Half", "progress": 50, "stage": "writer"})
    panel = page.locator("run-panel")
    await expect(panel.get_by_text("Half")).to_be_visible()
    await expect(panel.get_by_role("progressbar")).to_have_attribute("aria-valuetext", "50 %, Writer")
    await finished(client, run, result={"rows": 3})
    await expect(panel.locator("run-output")).to_contain_text('"rows": 3')


async def test_the_elements_stand_alone_and_share_a_run(page, client):
    run = await started(client, "external")
    await shown(page, PAGES[2], run=run)
    await published(
        client,
        run,
        {"type": "stage.started", **STAGE},
        {"type": "delta", "block": "body", "delta": "## Heading\n\nSome *text*"},
        {"type": "tool.started", "call": "t1", "tool": "search", "args": {"query": "tides"}},
        {"type": "tool.completed", "call": "t1", "tool": "search", "result": {"hits": 3}, "duration_ms": 5},
        {"type": "stage.completed", **STAGE, "duration_ms": 20},
    )
    await expect(page.locator("run-draft").get_by_role("heading", name="Heading")).to_be_visible()
    await expect(page.locator("run-draft em")).to_have_text("text")
    await expect(page.locator("run-progress").get_by_role("listitem").first).to_have_text("Writer, done")
    await expect(page.locator(ROWS)).to_have_count(7)
    assert await complaints(page) == []
    bar = page.locator("run-timeline").get_by_role("button", name=re.compile("^search: .*tides"))
    await bar.hover()
    await expect(page.locator("run-timeline .timeline-detail")).to_contain_text("search")
    await page.locator("run-timeline summary").click()
    await expect(page.locator("run-timeline").get_by_role("cell", name="search")).to_be_visible()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("run-output")).to_contain_text("cancelled")
    reason = (await client.get(f"/runs/{run}/events?replay=full")).json()["events"][-1]["reason"]
    assert reason == "not needed any more"


async def test_what_a_run_says_is_shown_and_never_obeyed(page, client):
    run = await started(client, "external")
    await shown(page, PAGES[2] + "<run-panel></run-panel>", run=run)
    await page.evaluate("document.querySelector('run-panel').run = document.querySelector('run-log').run")
    await published(
        client,
        run,
        {"type": "stage.started", "stage": NASTY[:60], "index": 1, "of": 1},
        {"type": "progress", "stage": NASTY[:60], "message": NASTY, "progress": 1},
        {"type": "draft", "stage": "writer", "draft": NASTY},
        {"type": "delta", "block": NASTY[:60], "delta": f"{NASTY} [x](javascript:alert(1)) ![i]({NASTY})"},
        {"type": "llm.started", "call": NASTY[:60], "model": NASTY[:60]},
        {"type": "tool.started", "call": "t", "tool": NASTY[:60], "args": {NASTY: NASTY}},
        {"type": "tool.completed", "call": "t", "tool": NASTY[:60], "error": NASTY, "duration_ms": 1},
        {"type": "warning", "code": "bad", "message": NASTY},
    )
    await expect(page.locator("run-draft").first).to_contain_text(NASTY)
    await expect(page.locator("run-progress .message").first).to_have_text(NASTY)
    await page.locator(ROWS).filter(has_text="warning").click()
    await expect(page.locator("run-log .log-detail")).to_contain_text("<script>")
    await page.locator("run-timeline summary").click()
    await expect(page.locator("run-timeline tbody")).to_contain_text("<script>")
    await finished(client, run, status="failed", error={"code": "x", "message": NASTY, "retryable": False})
    await expect(page.locator("run-output .notice").first).to_contain_text(NASTY)
    assert await page.evaluate("() => [window.owned, document.images.length]") == [None, 0]
    assert (
        await page.locator("script[src], run-panel script, run-draft script, run-draft img, run-draft a").count() == 0
    )


async def test_a_markdown_result_is_rendered_copied_and_downloaded(page, client, tmp_path):
    run = await started(client, "external")
    await shown(page, PAGES[2], run=run)
    text = f"# Title\n\n- one\n- two {NASTY}\n\n[home](https://example.com/) [bad](javascript:alert(1))"
    await finished(client, run, result={"markdown": text, "words": 4})
    output = page.locator("run-output")
    await expect(output.get_by_role("heading", name="Title")).to_be_visible()
    assert await output.locator("a").evaluate_all("links => links.map((link) => link.href)") == ["https://example.com/"]
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await output.get_by_role("button", name="Copy").click()
    await expect(output.get_by_text("Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == text
    async with page.expect_download() as download:
        await output.get_by_role("button", name="Download").click()
    file = await download.value
    await file.save_as(tmp_path / file.suggested_filename)
    assert (tmp_path / file.suggested_filename).read_text() == text
    assert file.suggested_filename.endswith(".md")


async def test_a_question_is_a_form_that_follows_its_schema(page, client):
    run = (await client.post("/runs", json={"pipeline": "asking", "input": {}})).json()["id"]
    await page.route("**/my/token?*", lambda route: route.fulfill(body=token()))
    await shown(page, PAGES[1], run=run)
    form = page.locator("run-panel").get_by_role("form", name="How many?")
    await form.get_by_role("button", name="Answer").click()
    await expect(form.get_by_text("This is needed.")).to_be_visible()
    assert await complaints(page) == []
    await form.get_by_label("Your answer").fill("7")
    await page.keyboard.press("Enter")
    await expect(page.locator("run-panel").get_by_text("completed", exact=True)).to_be_visible()
    await expect(page.locator("run-output")).to_contain_text("7")
    await expect(form).to_have_count(0)


async def test_buttons_pause_resume_and_cancel_by_keyboard(page, client):
    run = await started(client, "steps", count=10_000, gap_s=0.02)
    await page.route("**/my/token?*", lambda route: route.fulfill(body=token()))
    await shown(page, PAGES[1], run=run)
    panel = page.locator("run-panel")
    for button, then in (("Pause", "paused"), ("Resume", "running"), ("Cancel", "cancelled")):
        await expect(panel.get_by_role("button", name=button)).to_be_visible()
        await panel.get_by_role("button", name=button).focus()
        await page.keyboard.press("Enter")
        await expect(panel.locator("[part=status]")).to_have_text(then)
    await expect(panel.get_by_role("button", name="Retry")).to_be_focused()
    assert await complaints(page) == []


async def test_live_off_stops_following_and_on_misses_nothing(page, client):
    run = await started(client, "external")
    await shown(page, PAGES[2], run=run)
    rows = page.locator(ROWS)
    await expect(rows).to_have_count(2)
    live = page.get_by_role("switch", name="Live")
    await live.click()
    await expect(live).to_have_attribute("aria-checked", "false")

    async def unwatched():
        return await page.evaluate("document.querySelector('run-log').run.connection.status") == "disconnected"

    await eventually(unwatched, within_s=15)
    await published(client, run, *({"type": "delta", "block": "b", "delta": f"word{n} "} for n in range(5)))
    await expect(rows).to_have_count(2)
    await live.click()
    await expect(page.locator("run-draft")).to_contain_text("word0 word1 word2 word3 word4")


async def test_run_again_goes_over_to_the_new_run(page, client):
    run = (await client.post("/runs", json={"pipeline": "broken", "input": {}})).json()["id"]
    await page.route("**/my/token?*", lambda route: route.fulfill(body=token()))
    await shown(page, PAGES[1], run=run)
    await expect(page.locator("run-panel [part=status]")).to_have_text("failed")
    assert await complaints(page) == []
    await page.get_by_role("button", name="Retry").click()
    await expect(page.locator("run-panel code").first).not_to_have_text(run)
    await expect(page.locator("run-panel [part=status]")).to_have_text("failed")


async def test_a_run_that_is_not_there_is_said_to_be_missing(page):
    await page.route("**/my/token?*", lambda route: route.fulfill(body=token()))
    await shown(page, PAGES[1], run="0199-nothing")
    await expect(page.get_by_role("alert").get_by_text("There is no such run.")).to_be_visible()


async def test_five_thousand_events_leave_the_page_quick_and_the_log_whole(page, client):
    run = await started(client, "external")
    for start in range(0, 5000, 1000):
        events = [{"type": "x.row", "number": n, "even": n % 2 == 0} for n in range(start, start + 1000)]
        assert (await published(client, run, *events)).status_code == 202
    await shown(page, PAGES[2], run=run)
    log = page.locator("run-log")
    await expect(log.locator(".count")).to_have_text("5,002 events")
    rows = page.locator(ROWS)
    assert await rows.count() < 60
    assert await rows.first.get_attribute("aria-setsize") == "5002"
    await page.locator("run-log [role=listbox]").focus()
    await page.keyboard.press("Home")
    await expect(rows.first).to_contain_text("run.queued")
    await page.keyboard.press("ArrowDown")
    await expect(log.locator(".log-detail")).to_contain_text("run.started")
    await log.get_by_label("Search in events").fill('"number":4321')
    await expect(log.get_by_role("status")).to_have_text("1 of 5002 events")
    await expect(log.locator(".count")).to_have_text("1 of 5,002 events")
    await log.get_by_role("switch", name="Frames").click()
    await expect(rows).to_have_text(re.compile("id: .*-4324 .*event: x.row .*data: "))
    await log.get_by_label("Search in events").fill("")
    await log.get_by_label("Type of event").select_option("run.started")
    await expect(rows).to_have_count(1)
    assert await complaints(page) == []


async def test_two_runs_on_a_page_share_one_connection(page, client):
    runs = [await started(client, "external") for _ in range(2)]
    html = f"""<run-draft></run-draft><run-draft></run-draft><script type="module">
      import {{ Client }} from "/js/client.js";
      import "/js/elements/index.js";
      const client = new Client({{ getToken: () => "TOKEN" }});
      const ids = {json.dumps(runs)};
      document.querySelectorAll("run-draft").forEach((draft, place) => (draft.run = client.run(ids[place])));
      window.client = client;
    </script>"""
    await shown(page, html)
    drafts = page.locator("run-draft")
    for place, run in enumerate(runs):
        await published(client, run, {"type": "delta", "block": "b", "delta": f"of run {place}"})
    for place in range(2):
        await expect(drafts.nth(place)).to_contain_text(f"of run {place}")
    assert await page.evaluate("client.connections.length") == 1
    await page.evaluate("document.querySelectorAll('run-draft').forEach((draft) => draft.remove())")

    async def closed():
        return await page.evaluate("client.connections.length") == 0

    await eventually(closed, within_s=15)


async def test_the_look_is_set_by_custom_properties_and_parts(page):
    css = re.search(r"```css\n(.*?)```", (ROOT / "docs" / "elements.md").read_text(), re.DOTALL)[1]
    await shown(page, PAGES[0].replace("</style>", f"{css}</style>"))
    await expect(page.locator("run-panel").get_by_text("completed", exact=True)).to_be_visible()
    look = "(node) => [getComputedStyle(node).height, getComputedStyle(node).getPropertyValue('--accent').trim()]"
    assert await page.locator("run-panel [part=bar]").evaluate(look) == ["4px", "#6d3bbf"]


async def test_the_documentation_names_every_element():
    text = (ROOT / "docs" / "elements.md").read_text()
    defined = re.findall(r'define\("([\w-]+)"', (ROOT / "clients/js/elements/index.js").read_text())
    assert sorted(re.findall(r"^\| `<([\w-]+)>`", text, re.MULTILINE)) == sorted(defined)
