import pytest
import pytest_asyncio

from tests.e2e.chromium import chromium
from tests.e2e.clients import caller
from tests.e2e.process import GatewayProcess


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    """One Chromium for a module whose tests run in the module's own loop."""
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """One gateway for a module's tests; it must end in order and without a traceback."""
    running = GatewayProcess(tmp_path_factory.mktemp("gateway"), cancel_grace_s=0.5, drain_s=5).start()
    yield running
    assert running.stop() == 0
    assert not running.faults(), running.output


@pytest.fixture
async def client(gateway):
    """Who has every scope but the administrator's, at the module's own gateway."""
    async with caller(gateway) as client:
        yield client


@pytest.fixture
async def page(gateway):
    """A page of the gateway's own, with the policy that the console has."""
    async with chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(15_000)
        await page.goto(f"{gateway.url}/docs")
        yield page
