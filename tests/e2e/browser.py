"""A Chromium for the tests, and a page in it that follows runs with the project's own client."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from playwright.async_api import Browser, BrowserContext, Page

from tests.e2e.chromium import chromium
from tests.e2e.clients import PATIENCE_S, eventually
from tests.e2e.process import token
from tests.e2e.proxies import Certificate

OPEN_TIMEOUT_MS = 400
LOAD = """
async ({ shared = false, ...options }) => {
  const [{ Client }, { tabs }] = await Promise.all([import("/js/client.js"), import("/js/tabs.js")]);
  const getToken = ({ refresh }) => globalThis.mint(refresh);
  const client = new Client({ getToken, replay: "full", share: shared && tabs(), retryDelay: 1, ...options });
  Object.assign(globalThis, { client, seen: [], links: [], ended: null });
  client.subscribe(() => links.push(...client.connections.map(({ status, transport }) => `${transport} ${status}`)));
}
"""
FOLLOW = """
(id) => {
  const run = client.run(id);
  run.on("*", (event) => seen.push(event));
  run.finished().then(({ status }) => (ended = status), (error) => (ended = String(error)));
}
"""


@asynccontextmanager
async def launched(made: Certificate | None = None) -> AsyncIterator[Browser]:
    """A browser that takes this certificate for a good one."""
    arguments = []
    if made is not None:
        key = x509.load_pem_x509_certificate(made.crt.read_bytes()).public_key()
        written = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(written)
        arguments.append(f"--ignore-certificate-errors-spki-list={base64.b64encode(digest.finalize()).decode()}")
    async with chromium(*arguments) as browser:
        yield browser


class Tab:
    """One page. `minted`: for each token that its client asked for, whether a fresh one was wanted."""

    def __init__(self, page: Page, *, ttl_s: float) -> None:
        self.page = page
        self.minted: list[bool] = []
        self._ttl_s = ttl_s
        self._token = token(ttl_s=ttl_s)

    @classmethod
    async def opened(cls, context: BrowserContext, url: str, *, ttl_s: float = 600, **options) -> "Tab":
        """`options` are the client's, and `shared`: with the other tabs."""
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        tab = cls(page, ttl_s=ttl_s)
        await page.expose_function("mint", tab._mint)
        await page.goto(f"{url}/docs")
        await page.evaluate(LOAD, {"timeout": OPEN_TIMEOUT_MS, **options})
        return tab

    def _mint(self, refresh: bool) -> str:
        self.minted.append(refresh)
        if refresh:
            self._token = token(ttl_s=self._ttl_s)
        return self._token

    async def follow(self, run: str) -> None:
        await self.page.evaluate(FOLLOW, run)

    async def until(self, expression: str, arg: object = None):
        """What an expression gives once it is true. Asked from here, as the page's own policy forbids it to do so."""
        return await eventually(lambda: self.page.evaluate(expression, arg), within_s=2 * PATIENCE_S)

    async def sees(self, field: str, value: object) -> None:
        """Wait for an event that has this."""
        await self.until("([field, value]) => seen.some((event) => event[field] === value)", [field, value])

    async def ended(self) -> str:
        """How following it ended."""
        return await self.until("ended")

    async def events(self) -> list[dict]:
        return await self.page.evaluate("seen")

    async def links(self) -> list[str]:
        """`transport status` of the connection, whenever it changed."""
        return await self.page.evaluate("links")

    async def transports(self) -> list[str]:
        """What it was connected by, one after the other."""
        connected = [link.split()[0] for link in await self.links() if link.endswith(" connected")]
        return [each for each, before in zip(connected, [None, *connected], strict=False) if each != before]
