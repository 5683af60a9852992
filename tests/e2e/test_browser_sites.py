"""A real Chromium on pages of other sites: they get nothing of what its owner's cookie, or this machine, may see."""

import httpx
import pytest

from tests.e2e.chromium import chromium
from tests.e2e.clients import answering, finished, served, started

pytestmark = pytest.mark.browser
COOKIE = "session"
REBOUND = "rebound.example"

# Everything a page can try with somebody else's cookies; what it got to see, or did, comes back.
ATTACK = """
async ([gateway, run]) => {
  const seen = {};
  const source = (name, options) => new Promise((done) => {
    const source = new EventSource(`${gateway}/runs/${run}/events`, options);
    const end = (outcome) => { source.close(); done((seen[name] = outcome)); };
    source.addEventListener("hello", () => end("open"));
    source.onerror = () => end("refused");
  });
  const socket = () => new Promise((done) => {
    const socket = new WebSocket(`${gateway.replace("http", "ws")}/ws`);
    socket.onmessage = ({ data }) => { socket.close(); done((seen.socket = JSON.parse(data).type)); };
    socket.onclose = ({ code }) => done((seen.socket ??= code));
  });
  const call = async (name, path, options) => {
    try {
      const answer = await fetch(gateway + path, { credentials: "include", ...options });
      seen[name] = answer.type === "opaque" ? "opaque" : [answer.status, await answer.text()];
    } catch { seen[name] = "refused"; }
  };
  await source("source", { withCredentials: true });
  await source("plain source", {});
  await socket();
  await call("read", `/runs/${run}`);
  await call("start", "/runs", { method: "POST", body: '{"pipeline":"words","input":{"count":0}}' });
  await call("blind start", "/runs", { method: "POST", mode: "no-cors", body: '{"pipeline":"words"}' });
  await call("blind cancel", `/runs/${run}/cancel`, { method: "POST", mode: "no-cors" });
  await call("blind ticket", "/tickets", { method: "POST", mode: "no-cors" });
  await call("erase", `/runs/${run}`, { method: "DELETE" });
  await call("token", "/console/token");
  return seen;
}
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("gateway"), "--dev", cookie=COOKIE, jwt_secret=None) as running:
        yield running


@pytest.fixture
async def elsewhere():
    """A page on another port of this machine: another origin, to which a browser still sends the cookies."""
    async with answering("hi") as port:
        yield port


@pytest.fixture
async def owner(gateway):
    """Whoever sits at this machine: the console's token is theirs."""
    headers = {"Sec-Fetch-Site": "same-origin"}
    given = httpx.get(f"{gateway.url}/console/token", headers=headers).json()["token"]
    async with httpx.AsyncClient(
        base_url=gateway.url, headers={"Authorization": f"Bearer {given}"}, timeout=15
    ) as client:
        yield client


@pytest.fixture
async def browser(gateway, owner):
    """A browser that holds the owner's cookie, and for which a stranger's name leads to this machine."""
    async with chromium(f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1") as browser:
        context = await browser.new_context()
        held = owner.headers["Authorization"].removeprefix("Bearer ")
        await context.add_cookies([{"name": COOKIE, "value": held, "url": gateway.url, "sameSite": "Lax"}])
        yield context


@pytest.fixture
async def run(owner):
    run = await started(owner, "external")
    yield run
    await finished(owner, run)


async def tried(browser, address: str, gateway_url: str, run: str) -> dict:
    page = await browser.new_page()
    page.set_default_timeout(15_000)
    await page.goto(address)
    return await page.evaluate(ATTACK, [gateway_url, run])


async def test_a_page_of_another_origin_sees_and_does_nothing(browser, gateway, owner, elsewhere, run):
    before = (await owner.get("/runs")).json()["runs"]
    for site in ("127.0.0.1", "localhost"):
        seen = await tried(browser, f"http://{site}:{elsewhere}/", gateway.url, run)
        assert seen["source"] == seen["plain source"] == "refused"
        assert seen["socket"] == 1006
        for call in ("read", "start", "erase", "token"):
            assert seen[call] == "refused", (site, call, seen[call])
    after = (await owner.get("/runs")).json()["runs"]
    assert [each["id"] for each in after] == [each["id"] for each in before]
    assert (await owner.get(f"/runs/{run}")).json()["status"] == "running"


async def test_the_same_from_a_page_of_our_own_works(browser, gateway, owner, run):
    """The attack is a true one: nothing but where its page comes from keeps it out."""
    seen = await tried(browser, f"{gateway.url}/docs", gateway.url, run)
    assert (seen["source"], seen["socket"]) == ("open", "hello")
    assert (seen["read"][0], seen["start"][0], seen["token"][0]) == (200, 201, 200)
    assert (await owner.get(f"/runs/{run}")).json()["status"] != "running"


async def test_a_name_that_was_made_to_lead_here_gets_no_token_and_no_cookie(browser, gateway, run):
    """DNS rebinding: for the browser the stranger's page and the gateway are one site."""
    here = f"http://{REBOUND}:{gateway.port}"
    seen = await tried(browser, f"{here}/docs", here, run)
    assert seen["token"][0] == 404
    assert seen["source"] == "refused"
    assert seen["read"][0] == 401
    assert seen["start"][0] == 401
    assert seen["socket"] == "hello"  # open, and closed when nobody says who they are
