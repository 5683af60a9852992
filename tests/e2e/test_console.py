"""The console in a real Chromium, as a person uses it."""

import shutil

import httpx
import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.e2e.process import GatewayProcess
from tests.pipeline import texts

pytestmark = pytest.mark.browser
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SOURCE = texts.WORKS[0]


@pytest.fixture(scope="module")
def development(tmp_path_factory):
    """A gateway as `make run` starts it."""
    running = GatewayProcess(tmp_path_factory.mktemp("console"), "--dev", jwt_secret=None, drain_s=2).start()
    yield running
    assert running.stop() == 0
    assert not running.faults(), running.output


@pytest.fixture
async def page(development):
    """The page, in which no error may be logged."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(development.url)
        yield page
        await browser.close()
        assert not errors


async def start_content(page: Page, *, words: int = 400) -> None:
    await page.select_option("#pipeline", "content")
    await page.fill("#input-topic", SOURCE.topic)
    await page.fill("#input-sources-1", texts.read(SOURCE))
    await page.fill("#input-max_words", str(words))
    await page.click("#start")


async def start_words(page: Page, count: int, gap_s: float) -> None:
    await page.select_option("#pipeline", "words")
    await page.fill("#input-count", str(count))
    await page.fill("#input-gap_s", str(gap_s))
    await page.click("#start")
    await expect(page.locator("#status")).to_have_text("running")


async def progress(page: Page) -> float:
    return float(await page.get_attribute("#progress", "aria-valuenow") or 0)


async def test_a_text_is_written_before_ones_eyes(page, tmp_path):
    """Start a run: progress and draft move, the finished text is there, and a picture of it can be taken."""
    await start_content(page)
    await expect(page.locator("#status")).to_have_text("running")
    await expect(page.locator("#draft")).to_contain_text(" ", timeout=10_000)
    early, moved = await page.locator("#draft").text_content(), await progress(page)
    await expect(page.locator("#status")).to_have_text("completed", timeout=30_000)
    assert await progress(page) == 100 > moved
    assert early is not None
    await expect(page.locator("#output :is(h1, h2, h3, h4)").first).to_be_visible()
    assert len(await page.locator("#output").inner_text()) > len(early)
    await page.screenshot(path=tmp_path / "console.png", full_page=True)
    assert (tmp_path / "console.png").stat().st_size > 20_000


async def test_cancel_stops_a_run(page):
    await start_words(page, 1000, 0.05)
    await page.click("#cancel")
    await expect(page.locator("#status")).to_have_text("cancelled", timeout=10_000)


async def test_a_reload_in_the_middle_loses_nothing(page):
    """The page that was reloaded ends with the same text as one that was not."""
    await start_words(page, 60, 0.05)
    await expect(page.locator("#draft")).to_contain_text("word5 ")
    await page.reload()
    await expect(page.locator("#draft")).to_contain_text("word5 ")
    await expect(page.locator("#status")).to_have_text("completed", timeout=15_000)
    await expect(page.locator("#draft")).to_contain_text("".join(f"word{n} " for n in range(60)).strip())


@pytest.mark.parametrize("transport", ["WebSocket", "long-poll"])
async def test_other_transports_show_the_same(page, transport):
    await page.select_option("#transport-choice", label=transport)
    await start_words(page, 30, 0.02)
    await expect(page.locator("#status")).to_have_text("completed", timeout=15_000)
    await expect(page.locator("#transport")).to_have_text(transport)
    await expect(page.locator("#draft")).to_contain_text("".join(f"word{n} " for n in range(30)).strip())


async def test_my_runs_are_listed_and_bad_input_is_shown_at_its_field(page):
    await expect(page.locator("#runs")).to_contain_text("words")
    await page.select_option("#pipeline", "words")
    await page.fill("#input-count", "-1")
    await page.click("#start")
    await expect(page.locator("#input-count-error")).to_be_visible()


async def test_production_asks_for_a_token(tmp_path):
    with GatewayProcess(tmp_path) as production:
        assert httpx.get(f"{production.url}/console/token").status_code == 404
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
            page = await browser.new_page()
            await page.goto(production.url)
            await expect(page.locator("#sign-in")).to_be_visible()
            await browser.close()
