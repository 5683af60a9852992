"""How the console looks: nothing that axe finds wrong or that runs out of the page, a picture for each pipeline."""

import re

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.e2e.chromium import complaints, visit
from tests.e2e.clients import caller, finished, published, started
from tests.pipeline import texts

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]
STATUS = "#panel [part=status]"
DOCUMENTS = [
    "The tides follow the moon. Twice a day the sea rises and falls. In 1687 Newton said that the moon pulls the sea.",
    "Spring tides come when sun and moon pull together. At Saint-Malo the sea rises by 12 metres.",
]
KETTLE = (
    "The Harbor Kettle boils a litre of water in two minutes. It holds 1.2 litres and weighs 840 grams. "
    "The kettle keeps water hot for an hour, which helps people who work from home. It is not dishwasher safe."
)


EVERY_PICTURE = """
async (nasty) => {
  const { PICTURES } = await import("/js/elements/picture.js");
  const { beginning, tell } = await import("/js/elements/story.js");
  const { initialState } = await import("/js/state.js");
  const check = { check: nasty, ok: false, message: nasty };
  const result = {
    title: nasty, topic: nasty, markdown: nasty, words: 1,
    citations: [{ block: "b", key: "1", source: nasty, quote: nasty }],
    outline: [{ heading: nasty, points: [{ text: nasty, source: "1" }] }],
    documents: { 1: nasty }, blocks: { b: nasty }, concept: { headline: nasty, message: nasty },
    channels: { email: { subject: nasty, body: nasty, call_to_action: nasty, claims: [], characters: {} } },
    review: { passed: false, channels: { email: [check] }, reservations: [nasty] },
    failed: [{ channel: "ad", block: "b", reason: nasty }],
  };
  const story = beginning();
  const at = { run: "r", id: "a-1", ts: 1 };
  const task = { task: nasty, agent: nasty, action: nasty, status: nasty, error: nasty, depends_on: [nasty] };
  for (const event of [
    { type: "tool.started", call: nasty, tool: nasty, args: { [nasty]: nasty } },
    { type: "tool.completed", call: nasty, tool: nasty, error: nasty },
    { type: "llm.started", call: nasty, model: nasty },
    { type: "x.crew.task", ...task },
    { type: "delta", block: "b", delta: "", cites: [{ key: "1", source: nasty }] },
    { type: "progress", stats: { hits: nasty, words: nasty } },
    { type: "warning", code: "w", message: nasty },
  ]) tell(story, { ...at, ...event });
  const drafts = { plan: nasty, "copy:email": `**body** ${nasty}`, outline: nasty, strategy: nasty, concept: nasty };
  const known = { id: "r", drafts, blocks: { b: nasty, answer: nasty } };
  const seen = {};
  for (const [name, picture] of Object.entries(PICTURES)) {
    for (const [status, got] of [["running", null], ["completed", result]]) {
      const box = document.createElement("div");
      box.append(...picture.draw(initialState({ ...known, status, result: got }), story, {}));
      document.body.append(box);
      const elements = box.querySelectorAll("script, img, iframe, a").length;
      seen[`${name} ${status}`] = [elements, box.textContent.includes("<script>")];
    }
  }
  await new Promise((resolve) => setTimeout(resolve));
  return [seen, window.owned ?? null];
}
"""


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway):
    async with caller(gateway) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser, gateway):
    async with visit(browser, gateway) as page:
        yield page


async def opened(page: Page, run: str) -> None:
    await page.evaluate("(id) => { location.hash = `run=${id}`; }", run)


async def completed(page: Page) -> None:
    await expect(page.locator(STATUS)).to_have_text("completed")


async def ran(client, pipeline: str, *, options: dict | None = None, **input) -> str:
    body = {"pipeline": pipeline, "input": input, "options": options or {}}
    return (await client.post("/runs", json=body)).json()["id"]


async def busy(client) -> str:
    """A run in which there is something of everything."""
    run = await started(client, "external")
    await published(
        client,
        run,
        {"type": "stage.started", "stage": "research", "index": 1, "of": 3},
        {"type": "stage.completed", "stage": "research", "index": 1, "of": 3, "duration_ms": 5},
        {"type": "stage.started", "stage": "writing", "index": 2, "of": 3},
        {"type": "llm.started", "call": "l1", "model": "a-model", "estimated_cost_usd": 0.01},
        {"type": "tool.started", "call": "t1", "tool": "search", "args": {"query": "q"}},
        {"type": "tool.completed", "call": "t1", "tool": "search", "error": "no answer", "duration_ms": 3},
        {"type": "progress", "stage": "writing", "message": "Writing", "progress": 40},
        {
            "type": "delta",
            "block": "body",
            "delta": "# A text\n\n- one\n- two\n\n`code`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        },
        {"type": "warning", "code": "w", "message": "Something is odd"},
    )
    return run


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_axe_finds_nothing_whatever_the_run_does(browser, gateway, client, theme):
    async with visit(browser, gateway, color_scheme=theme) as page:
        await expect(page.locator("#pipeline option").first).to_be_attached()
        assert await complaints(page) == []
        running, failing, done = [await busy(client) for _ in range(3)]
        await finished(client, failing, status="failed", error={"code": "c", "message": "m", "retryable": True})
        await finished(client, done, result={"markdown": "# Done\n\nText with `code`."})
        for run, status in ((running, "running"), (failing, "failed"), (done, "completed")):
            await opened(page, run)
            await expect(page.locator(STATUS)).to_have_text(status)
            await expect(page.locator("run-log [role=option]").first).to_be_visible()
            await page.locator("run-log [role=option]").last.click()
            await page.locator("run-timeline summary").evaluate("(summary) => { summary.parentElement.open = true; }")
            assert await complaints(page) == [], status
        await client.post(f"/runs/{running}/cancel", json={})


@pytest.mark.parametrize("width", [360, 820, 1920])
async def test_nothing_runs_out_of_the_page(browser, gateway, client, width):
    run = await busy(client)
    await published(
        client, run, {"type": "x.long", "text": "x" * 500}, {"type": "draft", "stage": "s", "draft": "y" * 500}
    )
    async with visit(browser, gateway, width=width) as page:
        await expect(page.locator("#pipeline option").first).to_be_attached()
        for panel in ("new", "run", "runs"):
            if panel == "run":
                await opened(page, run)
                await expect(page.locator("run-log [role=option]").first).to_be_visible()
            elif width < 820:
                await page.locator(f"[data-shows-panel={panel}]").click()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, panel
        await client.post(f"/runs/{run}/cancel", json={})


async def test_content_grows_and_lists_its_sources(page, client):
    source = texts.WORKS[0]
    await opened(page, await ran(client, "content", topic=source.topic, sources=[texts.read(source)], max_words=150))
    picture = page.locator("run-picture")
    await expect(picture.locator("sup").first).to_have_text("[1]")
    await completed(page)
    await expect(picture.get_by_role("region", name="Quotations")).to_contain_text("quotations")
    await expect(picture).to_contain_text("Citations")
    assert await complaints(page) == []


async def test_a_campaign_is_a_card_for_each_channel_and_is_gone_on_with(page, client):
    """The run is started by hand, so the console knows its sources when a channel is written again."""
    await page.select_option("#pipeline", "campaign")
    for name, text in (("product", "Harbor Kettle"), ("audience", "tea drinkers"), ("sources-1", KETTLE)):
        await page.fill(f"#input-{name}", text)
    await page.click("#start")
    picture = page.locator("run-picture")
    await expect(picture.get_by_role("article", name="Email")).to_be_visible()
    await completed(page)
    await expect(picture.get_by_role("article")).to_have_count(4)
    await expect(picture.get_by_text("Review passed")).to_be_visible()
    await expect(picture.get_by_text("It is not dishwasher safe.")).to_be_visible()
    assert await complaints(page) == []
    email = picture.get_by_role("article", name="Email")
    before, address = await email.locator(".copy").inner_text(), page.url
    await picture.get_by_role("button", name="Write again: Email").click()
    await expect(page).not_to_have_url(address)
    await completed(page)
    await expect(picture.get_by_role("article")).to_have_count(4)
    assert await email.locator(".copy").inner_text() != before
    await expect(email.get_by_text("4 of 4 checks passed")).to_be_visible()
    address = page.url
    await picture.get_by_role("button", name="Review again").click()
    await expect(page).not_to_have_url(address)
    await completed(page)
    await expect(picture.get_by_text("Review passed")).to_be_visible()


async def test_a_crew_is_a_graph_of_its_tasks(page, client):
    await opened(page, await ran(client, "crew", goal="how the tides follow the moon", documents=DOCUMENTS))
    await completed(page)
    for task in ("research", "analysis", "critique", "report"):
        await expect(page.locator(f"run-picture [data-key={task}] .state")).to_have_text("Done")
    assert await page.locator("run-picture path.edge").count() == 5
    assert await complaints(page) == []


async def test_each_state_of_a_task_has_its_words(page):
    said = [
        {"task": "a", "status": "waiting", "depends_on": ["b", "nowhere"]},
        {"task": "b", "status": "running", "attempt": 1, "depends_on": ["a"]},
        {"task": "c", "status": "retrying", "attempt": 2, "error": "lost"},
        {"task": "d", "status": "done", "attempt": 1},
        {"task": "e", "status": "failed", "attempt": 3},
        {"task": "f", "status": "skipped", "depends_on": ["e"]},
    ]
    states = await page.evaluate(
        """async (said) => {
          const { crew } = await import("/js/elements/pictures/crew.js");
          const { beginning, tell } = await import("/js/elements/story.js");
          const story = beginning();
          for (const one of said) tell(story, { type: "x.crew.task", run: "r", id: "a-1", ts: 1, agent: "x", ...one });
          const box = document.createElement("div");
          box.append(...crew.draw({}, story, {}));
          return [...box.querySelectorAll(".node")].map((node) => node.querySelector(".state").textContent);
        }""",
        said,
    )
    assert states == ["Queued", "Running", "Retrying, try 2", "Done", "Failed, try 3", "Skipped"]


async def test_an_agent_shows_its_calls_and_what_is_left_of_the_budget(page, client):
    task = "What pulls the sea? What is 17% of 2,340?"
    await opened(page, await ran(client, "agent", task=task, documents=DOCUMENTS, options={"budget_usd": 0.004}))
    picture = page.locator("run-picture")
    await expect(page.locator(STATUS)).to_have_text(re.compile("completed|cancelled"))
    await expect(picture.get_by_role("meter", name="Budget")).to_have_attribute(
        "aria-valuetext", re.compile(r"of \$0\.004")
    )
    steps = picture.get_by_role("list", name="Calls").get_by_role("listitem")
    await expect(steps.filter(has_text="calculator")).to_contain_text("397.8")
    assert await complaints(page) == []


async def test_an_outline_is_planned_and_then_written(page):
    await page.select_option("#pipeline", "autopilot")
    await page.fill("#input-topic", texts.WORKS[0].topic)
    await page.fill("#input-documents-1", texts.read(texts.WORKS[0]))
    await page.click("#start")
    picture = page.locator("run-picture")
    await completed(page)
    await expect(picture.locator(".tile").filter(has_text="Verified").locator("dd")).not_to_have_text("0")
    await expect(picture.get_by_role("region", name="Outline").locator("li li").first).to_be_visible()
    assert await complaints(page) == []
    await picture.get_by_role("button", name="Write it").click()
    await expect(page.locator("#panel [part=name]")).to_have_text("generation")
    await expect(picture.locator(".block").first).to_be_visible()
    await completed(page)
    await expect(picture.get_by_role("region", name="Sources")).to_be_visible()
    await expect(picture.locator("sup.note").first).to_be_visible()
    assert await complaints(page) == []


async def test_pictures_are_functions_of_state_and_story_and_obey_no_text(page):
    """Each with a nasty text in every field: it is shown, and nothing of it becomes an element."""
    seen, owned = await page.evaluate(
        EVERY_PICTURE, "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>[l](javascript:x=1)"
    )
    assert owned is None
    assert seen == {key: [0, True] for key in seen}
    assert len(seen) == 12
