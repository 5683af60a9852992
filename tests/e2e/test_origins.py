"""Pages of other origins: those that are allowed may call and read, others may not; and what every answer carries."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.e2e.chromium import chromium
from tests.e2e.clients import (
    STREAM,
    UPGRADE,
    assert_problem,
    authorization,
    caller,
    exchange,
    finished,
    head,
    served,
    started,
)
from tests.e2e.process import token

ALLOWED = "https://app.example.org"
FOREIGN = "https://evil.example.org"
SAFE = {"x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("gateway"), allowed_origins=f"{ALLOWED} http://other.example:8080") as running:
        yield running


def shared(answer: httpx.Response) -> dict[str, str]:
    """The CORS headers of an answer."""
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


async def test_an_allowed_origin_may_read_every_answer_and_no_other_may(client):
    run = await started(client)
    for path, headers in [
        ("/pipelines", {}),
        (f"/runs/{run}/events", {}),
        (f"/runs/{run}/events", STREAM),
        (f"/events?run={run}", STREAM),
        (f"/runs/{run}/events?dialect=nonsense", STREAM),
        ("/runs/none", {}),
        ("/nothing", {}),
        ("/healthz", {}),
    ]:
        answer = await client.get(path, headers={**headers, "Origin": ALLOWED})
        assert shared(answer) == {
            "access-control-allow-origin": ALLOWED,
            "access-control-expose-headers": "Location, X-Run-Id, Retry-After, X-Request-Id",
        }
        for origin in (FOREIGN, "null", f"{ALLOWED}.evil.org", "http://app.example.org", f"{ALLOWED}:8443", "*"):
            answer = await client.get(path, headers={**headers, "Origin": origin})
            assert shared(answer) == {}
            assert "Origin" in answer.headers["vary"]
    answer = await client.get("/pipelines", headers={"Origin": "HTTP://Other.Example:8080"})
    assert shared(answer)["access-control-allow-origin"] == "HTTP://Other.Example:8080"


async def test_a_preflight_is_granted_to_an_allowed_origin_and_refused_to_others(client):
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for path in ("/runs", "/runs/none/events", "/nothing"):
        answer = await client.options(path, headers={"Origin": ALLOWED, **asks})
        granted = shared(answer)
        assert answer.status_code == 204
        assert granted["access-control-allow-origin"] == ALLOWED
        assert {"GET", "POST", "DELETE"} <= set(granted["access-control-allow-methods"].split(", "))
        for name in ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Producer"):
            assert name in granted["access-control-allow-headers"].split(", ")
        assert "access-control-allow-credentials" not in granted
        answer = await client.options(path, headers={"Origin": FOREIGN, **asks})
        assert_problem(answer, 403, "auth.forbidden")
        assert shared(answer) == {}


async def test_by_default_no_other_origin_is_allowed(tmp_path):
    with served(tmp_path) as gateway:
        for origin in (ALLOWED, "null", "http://localhost:3000"):
            asks = {"Origin": origin, "Access-Control-Request-Method": "GET"}
            async with httpx.AsyncClient(base_url=gateway.url) as client:
                assert shared(await client.get("/healthz", headers=asks)) == {}
                assert_problem(await client.options("/runs", headers=asks), 403, "auth.forbidden")


async def test_credentials_are_shared_only_where_a_cookie_may_carry_them(tmp_path):
    with served(tmp_path, allowed_origins=ALLOWED, cookie="session") as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, cookies={"session": token()}) as client:
            for method, path in (("GET", "/pipelines"), ("OPTIONS", "/runs")):
                headers = {"Origin": ALLOWED, "Access-Control-Request-Method": "POST"}
                answer = await client.request(method, path, headers=headers)
                assert answer.status_code in (200, 204)
                assert shared(answer)["access-control-allow-credentials"] == "true"
            answer = await client.get("/pipelines", headers={"Origin": FOREIGN})
            assert_problem(answer, 403, "auth.forbidden")
            assert shared(answer) == {}


async def test_every_answer_says_how_it_may_be_used(gateway, client):
    run = await started(client)
    for method, path, headers in [
        ("GET", "/", {}),
        ("GET", "/docs", {}),
        ("GET", "/console/console.js", {}),
        ("GET", "/js/state.js", {}),
        ("GET", "/healthz", {}),
        ("GET", "/metrics", {}),
        ("GET", "/openapi.json", {}),
        ("GET", f"/runs/{run}", {}),
        ("GET", f"/runs/{run}/events", {}),
        ("GET", f"/runs/{run}/events", STREAM),
        ("HEAD", f"/runs/{run}/events", STREAM),
        ("GET", f"/runs/{run}/events?types=nonsense", STREAM),
        ("DELETE", f"/runs/{run}", {}),
        ("GET", f"/runs/{run}", {}),
        ("POST", "/runs", {"Authorization": "Bearer x"}),
        ("GET", "/nothing", {}),
        ("PUT", "/runs", {}),
        ("OPTIONS", "/runs", {}),
    ]:
        answer = await client.request(method, path, headers=headers)
        assert SAFE.items() <= dict(answer.headers).items(), (method, path, answer.headers)
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'self'") == (path in ("/", "/docs") or path.endswith(".js"))
        assert len(answer.headers.get_list("content-security-policy")) == 1
        assert answer.headers["x-request-id"]


async def test_a_refused_handshake_says_so_too(gateway):
    answer = exchange(gateway, head("GET", "/ws", authorization(), f"Origin: {FOREIGN}", *UPGRADE), until=b"}")
    assert answer.startswith(b"HTTP/1.1 403")
    for line in (b"x-content-type-options: nosniff", b"vary: origin", b"x-request-id: "):
        assert line in answer.lower()


@pytest.mark.parametrize("given", ["mine-1", "a.b:c_d-9", "x" * 64])
async def test_a_plain_request_id_is_given_back(client, given):
    assert (await client.get("/healthz", headers={"X-Request-Id": given})).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "two words", "a,b", "<script>", "ü".encode("latin1"), "a\tb"])
async def test_any_other_is_replaced(client, given):
    first = (await client.get("/healthz", headers={"X-Request-Id": given})).headers["x-request-id"]
    second = (await client.get("/healthz", headers={"X-Request-Id": given})).headers["x-request-id"]
    assert first != second
    assert len(first) == len(second) == 16


class Page(BaseHTTPRequestHandler):
    """A page of another origin, without anything on it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def sites():
    """Two other origins on this machine."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Page) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


CALL = """
async ([url, token, ticket, run]) => {
  const attempt = (work) => Promise.resolve().then(work).catch((error) => `${error.name}`);
  const headers = { Authorization: `Bearer ${token}` };
  return {
    start: await attempt(async () => {
      const answer = await fetch(`${url}/runs`, { method: "POST", body: JSON.stringify({ pipeline: "words" }),
        headers: { ...headers, "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() } });
      return [answer.status, answer.headers.get("Location"), answer.headers.get("X-Request-Id")];
    }),
    plain: await attempt(async () => (await fetch(`${url}/healthz`)).status),
    stream: await attempt(() => new Promise((done) => {
      const source = new EventSource(`${url}/runs/${run}/events?ticket=${ticket}`);
      source.addEventListener("run.started", () => { source.close(); done("event"); });
      source.onerror = () => { source.close(); done("error"); };
    })),
    socket: await attempt(() => new Promise((done) => {
      const socket = new WebSocket(`${url.replace("http", "ws")}/ws`);
      socket.onmessage = () => { socket.close(); done("message"); };
      socket.onerror = () => done("error");
    })),
    frame: await attempt(() => new Promise((done) => {
      const frame = document.createElement("iframe");
      frame.onload = () => done("");
      frame.src = url;
      document.body.append(frame);
    })),
  };
}
"""


@pytest.mark.browser
async def test_in_a_browser_an_allowed_page_calls_and_one_that_is_not_is_kept_out(tmp_path, sites):
    welcome, unwelcome = sites
    with served(tmp_path, allowed_origins=welcome) as gateway:
        async with caller(gateway) as client, chromium() as browser:
            run = await started(client, "external")
            seen = {}
            for site in sites:
                ticket = (await client.post("/tickets", json={})).json()["ticket"]
                page = await browser.new_page()
                page.set_default_timeout(15_000)
                told: list[str] = []
                page.on("console", lambda message, told=told: told.append(message.text))
                await page.goto(site)
                seen[site] = await page.evaluate(CALL, [gateway.url, token(), ticket, run])
                assert any("frame" in line.lower() for line in told), "the console is never framed"
            await finished(client, run)
            allowed, refused = seen[welcome], seen[unwelcome]
            status, location, request = allowed["start"]
            assert (status, allowed["plain"], allowed["stream"], allowed["socket"]) == (201, 200, "event", "message")
            assert location.startswith("/runs/")
            assert request
            assert refused == {
                "start": "TypeError", "plain": "TypeError", "stream": "error", "socket": "error", "frame": "",
            }  # fmt: skip
            runs = (await client.get("/runs")).json()["runs"]
            assert sorted(each["pipeline"] for each in runs) == ["external", "words"], "nothing was started"


async def test_the_console_holds_no_script_or_style_of_its_own(client):
    for path in ("/", "/docs"):
        text = (await client.get(path)).text
        for part in text.split("<script")[1:]:
            assert "src=" in part.partition(">")[0]
        assert " style=" not in text
        assert " onclick=" not in text
        assert "<style" not in text
