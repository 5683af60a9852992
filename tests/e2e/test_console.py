"""The console in a real Chromium, as a person uses it."""

import re
import signal

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.e2e.chromium import visit
from tests.e2e.clients import caller, finished, published, served, started
from tests.e2e.process import GatewayProcess, token
from tests.pipeline import texts

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]
SOURCE = texts.WORKS[0]
STATUS = "#panel [part=status]"


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser, gateway):
    async with visit(browser, gateway) as page:
        yield page


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway):
    async with caller(gateway) as client:
        yield client


async def start(page: Page, pipeline: str, **input) -> None:
    await page.select_option("#pipeline", pipeline)
    for name, value in input.items():
        await page.fill(f"#input-{name}", str(value))
    await page.click("#start")


async def has_status(page: Page, status: str) -> None:
    await expect(page.locator(STATUS)).to_have_text(status)


async def opened(page: Page, run: str) -> None:
    await page.evaluate("(id) => { location.hash = `run=${id}`; }", run)


def words(count: int) -> str:
    return "".join(f"word{n} " for n in range(count)).strip()


async def test_a_text_is_written_before_ones_eyes(page):
    """Start a run: progress and text move, the finished text is there."""
    await start(page, "content", **{"topic": SOURCE.topic, "sources-1": texts.read(SOURCE), "max_words": 200})
    document = page.get_by_role("article", name="Draft")
    await expect(document).to_contain_text(" ")
    early = await document.inner_text()
    await has_status(page, "completed")
    await expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("aria-valuenow", "100")
    finished = page.get_by_role("article", name=SOURCE.topic)
    await expect(finished.get_by_role("heading").first).to_be_visible()
    assert len(await finished.inner_text()) > len(early)
    await expect(page).to_have_title("completed: content · Runcast")


async def test_a_run_is_paused_resumed_and_cancelled(page):
    await start(page, "steps", count=10_000, gap_s=0.02)
    for button, then in (("Pause", "paused"), ("Resume", "running"), ("Cancel", "cancelled")):
        await page.get_by_role("button", name=button, exact=True).click()
        await has_status(page, then)


async def test_a_question_is_answered(page):
    await start(page, "asking")
    form = page.get_by_role("form", name="How many?")
    await form.get_by_label("Your answer").fill("12")
    await form.get_by_role("button", name="Answer").click()
    await has_status(page, "completed")


async def test_a_failed_run_is_tried_again_and_deleted(page, client):
    await start(page, "broken")
    await has_status(page, "failed")
    first = page.url
    await page.get_by_role("button", name="Retry").click()
    await expect(page).not_to_have_url(first)
    await has_status(page, "failed")
    run = page.url.partition("#run=")[2]
    await page.click("#delete")
    await page.click("#confirm-no")
    assert (await client.get(f"/runs/{run}")).status_code == 200
    await page.click("#delete")
    await page.click("#confirm-yes")
    await expect(page.locator("#idle")).to_be_visible()
    await expect(page.locator(f"#runs a[href='#run={run}']")).to_have_count(0)
    assert (await client.get(f"/runs/{run}")).status_code == 404


async def test_a_reload_in_the_middle_loses_nothing(page):
    """The page that was reloaded ends with the same text as one that was not."""
    await start(page, "words", count=60, gap_s=0.05)
    await expect(page.locator("run-draft")).to_contain_text("word5 ")
    await page.reload()
    await has_status(page, "completed")
    await page.locator("#panel summary", has_text="Draft").click()
    await expect(page.locator("run-draft")).to_contain_text(words(60))


@pytest.mark.parametrize("transport", ["SSE", "WebSocket", "long-poll"])
async def test_every_transport_shows_the_same(page, transport):
    await page.select_option("#transport-choice", label=transport)
    await start(page, "words", count=30, gap_s=0.02)
    await has_status(page, "completed")
    await expect(page.locator("#transport")).to_have_text(transport)
    await expect(page.locator("run-draft")).to_contain_text(words(30))


async def test_the_transport_is_changed_in_the_middle(page, client):
    run = await started(client, "external")
    await opened(page, run)
    await expect(page.locator("#connection")).to_have_text("live")
    await published(client, run, {"type": "delta", "block": "b", "delta": "one "})
    await expect(page.locator("run-draft")).to_contain_text("one")
    await page.select_option("#transport-choice", "websocket")
    await published(client, run, {"type": "delta", "block": "b", "delta": "two"})
    await expect(page.locator("run-draft")).to_contain_text("one two")
    await expect(page.locator("#transport")).to_have_text("WebSocket")
    await finished(client, run)
    await expect(page.locator("#connection")).to_have_text("ended")


async def test_bad_input_is_shown_at_its_field(page):
    await start(page, "words", count=-1)
    await expect(page.locator("#input-count-error")).to_be_visible()
    await expect(page.locator("#input-count")).to_be_focused()


async def test_the_list_follows_what_others_start_and_is_filtered(browser, gateway):
    async with caller(gateway, "lister") as client, visit(browser, gateway, sub="lister") as page:
        rows = page.locator("#runs li")
        await expect(page.locator("#runs-empty")).to_be_visible()
        kept = await started(client, "external")
        await expect(rows).to_have_count(1)
        await published(client, kept, {"type": "progress", "stage": "s", "message": "m", "progress": 40})
        await expect(rows.first).to_contain_text("40 %")
        await started(client, "words", count=1)
        await expect(rows).to_have_count(2)
        await expect(rows.first).to_contain_text("completed")
        await page.select_option("#runs-status", "running")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("external")
        await finished(client, kept)
        await expect(page.locator("#runs-empty")).to_have_text("No run is like that.")
        await page.select_option("#runs-status", "")
        await page.select_option("#runs-pipeline", "words")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("words")


async def test_older_runs_are_loaded_when_asked_for(browser, gateway):
    async with caller(gateway, "many") as client:
        for _ in range(33):
            await started(client, "words", count=0)
    async with visit(browser, gateway, sub="many") as page:
        rows = page.locator("#runs li")
        await expect(rows).to_have_count(30)
        await page.get_by_role("button", name="Load more").click()
        await expect(rows).to_have_count(33)
        await expect(page.locator("#older")).to_be_hidden()


async def test_everything_is_done_by_keyboard_alone(page):
    """Skip link, form, start, log, list: no pointer anywhere."""

    async def tab_to(selector: str, *, most: int = 60) -> None:
        for _ in range(most):
            await page.keyboard.press("Tab")
            if await page.locator(selector).evaluate_all("(found) => found.some((node) => node.matches(':focus'))"):
                return
        raise AssertionError(f"the Tab key does not come to {selector}")

    await expect(page.locator("#pipeline option").nth(3)).to_be_attached()
    await page.keyboard.press("Tab")
    await expect(page.locator("#skip")).to_be_focused()
    await tab_to("#pipeline")
    await page.keyboard.type("words")
    await tab_to("#input-count")
    await page.keyboard.press("Control+A")
    await page.keyboard.type("3")
    await tab_to("#start")
    await page.keyboard.press("Enter")
    await has_status(page, "completed")
    await tab_to("run-timeline .bar-of")
    await expect(page.locator("run-timeline .timeline-detail")).to_contain_text("Writer")
    await tab_to("run-log [role=listbox]")
    await page.keyboard.press("Home")
    await expect(page.locator("run-log .log-detail")).to_contain_text("run.queued")
    await tab_to("#runs a")
    await page.keyboard.press("Enter")
    await has_status(page, "completed")


async def test_two_pages_and_two_runs_do_not_disturb_each_other(browser, gateway, page):
    async with visit(browser, gateway) as other:
        await start(page, "words", count=40, gap_s=0.03)
        await start(other, "words", count=40, gap_s=0.03)
        for each in (page, other):
            await has_status(each, "completed")
            await expect(each.locator("run-draft")).to_contain_text(words(40))
        assert page.url != other.url
        await other.goto(page.url)
        await expect(other.locator("#runs a[aria-current]")).to_have_attribute(
            "href", page.url.removeprefix(f"{gateway.url}/")
        )


async def test_a_gateway_that_dies_and_comes_back_finds_the_page_waiting(browser, tmp_path):
    with GatewayProcess(tmp_path) as gateway:
        async with visit(browser, gateway) as page:
            await start(page, "steps", count=10_000, gap_s=0.02)
            await expect(page.locator("run-draft")).to_contain_text("5 ")
            gateway.stop(signal.SIGKILL)
            await expect(page.locator("#connection")).to_contain_text(re.compile("retrying|connecting"))
            await expect(page.locator("#runs-note")).to_have_text("The list could not be refreshed.")
            await expect(page.locator("run-draft")).to_contain_text("5 ")
            gateway.start()
            await has_status(page, "failed")
            await expect(page.locator("run-output")).to_contain_text("run.orphaned")
            await expect(page.locator("#runs-note")).to_be_empty()
            await page.get_by_role("button", name="Retry").click()
            await has_status(page, "running")


async def test_a_run_that_is_not_there_says_so(page):
    await opened(page, "0199-nothing")
    await expect(page.get_by_text("There is no such run.")).to_be_visible()
    await expect(page.locator("#log-panel")).to_be_hidden()


async def test_light_and_dark_are_chosen_and_kept(page):
    background = "getComputedStyle(document.body).backgroundColor"
    system = await page.evaluate(background)
    for _ in range(2):
        await page.click("#theme")
    await expect(page.locator("#theme")).to_have_attribute("aria-label", "Theme: dark")
    dark = await page.evaluate(background)
    assert dark != system
    await page.reload()
    assert await page.evaluate(background) == dark


async def test_production_asks_for_a_token(browser, gateway):
    assert httpx.get(f"{gateway.url}/console/token").status_code == 404
    context = await browser.new_context(base_url=gateway.url)
    page = await context.new_page()
    await page.goto("/")
    await expect(page.locator("#sign-in")).to_be_visible()
    await page.keyboard.type(token("signer"))
    await page.keyboard.press("Enter")
    await expect(page.locator("#sign-in")).to_be_hidden()
    await expect(page.locator("#pipeline option").first).to_be_attached()
    await expect(page.locator("#sign-out")).to_be_visible()
    await context.close()


async def test_development_asks_for_nothing(browser, tmp_path):
    with served(tmp_path, "--dev", jwt_secret=None) as development:
        page = await browser.new_page()
        await page.goto(development.url)
        await start(page, "words", count=2)
        await has_status(page, "completed")
        await expect(page.locator("#sign-out")).to_be_hidden()
        await page.close()


async def test_nothing_of_the_page_comes_from_elsewhere_or_inline(gateway):
    answer = httpx.get(gateway.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    for address in re.findall(r'(?:src|href)="([^"#]+)"', answer.text):
        assert httpx.get(f"{gateway.url}{address}").status_code == 200, address
    assert not re.search(r"\son\w+=|\sstyle=|<style", answer.text)
