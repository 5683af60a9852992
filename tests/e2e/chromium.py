"""A real Chromium for the tests: one browser for a module, a page as somebody sees it, axe on it."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright, expect

from tests.e2e.process import ROOT, GatewayProcess, token

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"


@asynccontextmanager
async def chromium(*arguments: str) -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visit(
    browser: Browser, gateway: GatewayProcess, path: str = "/", *, sub: str = "alice", width: int = 1280, **context
) -> AsyncIterator[Page]:
    """A page of the gateway as `sub` sees it: no error may be thrown in it, and its policy has nothing to refuse."""
    size = {"width": width, "height": 900}
    opened = await browser.new_context(base_url=gateway.url, viewport=size, reduced_motion="reduce", **context)
    # As the console keeps what a person typed in.
    await opened.add_init_script(
        f"sessionStorage.getItem('runcast.token') ?? sessionStorage.setItem('runcast.token', '{token(sub)}')"
    )
    page = await opened.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    await page.goto(path)
    yield page
    await opened.close()
    # A refused request is no error of the page's own; the browser logs it all the same.
    assert [error for error in errors if not error.startswith("Failed to load resource")] == []


async def complaints(page: Page) -> list[str]:
    """What axe finds wrong, rule by rule."""
    if not await page.evaluate("() => 'axe' in window"):
        # Past the page's own policy, as a browser's tools do it.
        await page.evaluate(AXE.read_text())
    found = await page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]
