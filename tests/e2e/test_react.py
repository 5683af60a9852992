"""React's hooks in a real Chromium: StrictMode mounts everything twice, and nothing is opened twice or left behind."""

import re
import subprocess

import pytest
from playwright.async_api import expect

from tests.e2e.chromium import chromium
from tests.e2e.process import ROOT, token

pytestmark = pytest.mark.browser


def bundled(*source: str, **given) -> str:
    """With React's development build, which is the one that mounts twice."""
    command = ["node_modules/.bin/esbuild", *source, "--bundle", "--format=iife", "--jsx=automatic", "--jsx-dev"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, **given).stdout


@pytest.fixture(scope="module")
def bundle() -> str:
    return bundled("tests/e2e/pages/react_app.js")


@pytest.fixture
async def browser_page(gateway):
    """A page that takes scripts, and in which no error may be logged."""
    async with chromium() as browser:
        page = await browser.new_page(bypass_csp=True)
        page.set_default_timeout(15_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        await page.goto(f"{gateway.url}/docs")
        yield page
        await page.close()
        assert [error for error in errors if "Failed to load resource" not in error] == []


@pytest.fixture
async def page(browser_page, bundle):
    """With two components that show a run."""
    await browser_page.add_script_tag(content=bundle)
    await browser_page.evaluate("(token) => { globalThis.app = mount(token); }", token())
    return browser_page


async def test_two_components_show_one_run_over_one_connection(page):
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if "/events" in request.url else None)
    await page.click("#start")
    await expect(page.locator("#one")).to_contain_text("running|connected|word0 ")
    assert await page.evaluate("app.client.connections.length") == 1
    await expect(page.locator("#state")).to_have_text("completed")
    text = "".join(f"word{n} " for n in range(30))
    assert await page.text_content("#one") == await page.text_content("#other") == f"completed|disconnected|{text}"
    assert len(streams) == 1
    await page.click("#refresh")
    await expect(page.locator("#runs")).to_contain_text("completed")


async def test_what_is_taken_away_closes_what_nobody_else_uses(page):
    await page.click("#start")
    await expect(page.locator("#one")).to_contain_text("word3 ")
    await page.click("#toggle")
    await expect(page.locator("#one")).to_have_count(0)
    assert await page.evaluate("app.client.connections.length") == 1, "the form still follows it"
    await page.click("#toggle")
    await expect(page.locator("#one")).to_contain_text("word0 word1 ")
    await page.evaluate("app.unmount()")
    await page.wait_for_function("app.client.connections.length === 0")


async def test_a_cancel_and_a_refusal_are_shown(page):
    await page.click("#start")
    await expect(page.locator("#one")).to_contain_text("word1 ")
    await page.click("#cancel")
    await expect(page.locator("#state")).to_have_text("cancelled")
    await page.click("#bad")
    await expect(page.locator("#error")).not_to_be_empty()
    await expect(page.locator("#state")).to_have_text("queued")


async def test_what_the_page_for_newcomers_shows_works_as_it_stands(gateway, browser_page):
    """The blocks of docs/react.md, one after the other, are an application."""
    shown = "".join(re.findall(r"^```jsx\n(.*?)^```$", (ROOT / "docs/react.md").read_text(), re.DOTALL | re.MULTILINE))
    source = f"""
        import {{ createRoot }} from "react-dom/client";
        const fetchToken = async () => {token()!r};
        {shown.replace("http://127.0.0.1:8000", gateway.url)}
        createRoot(document.body.appendChild(document.createElement("div"))).render(<App />);
    """
    await browser_page.add_script_tag(content=bundled("--loader=jsx", input=source))
    await browser_page.click("text=Write")
    await expect(browser_page.locator("article")).to_contain_text("tides")
    await browser_page.click("text=Refresh")
    await expect(browser_page.locator("li").first).to_contain_text("completed")
    await expect(browser_page.locator("li p").first).to_contain_text("%")
