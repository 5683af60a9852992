"""The agent's tools, attacked: no expression, address or page may cost or reach more than it should."""

import contextlib
import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import fetching
from pipeline.calculator import CannotCalculate, calculate
from pipeline.fetching import Refused, fetch, inside, target
from pipeline.models import Source
from pipeline.models.sentences import flat
from pipeline.tools import TOOLS, Desk, ToolFailed
from tests.pipeline.texts import WORKS, read


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12 * (3 + 4)", "84"),
        ("7 // 2 + 7 % 4", "6"),
        ("-2 ** 2", "-4"),
        ("0.1 + 0.2", "0.3"),
        ("sqrt(2)", f"{math.sqrt(2):.12g}"),
        ("max(1, 2.5, min(9, 4))", "4"),
        ("2 ** 1000 % 7", "2"),
        ("1.5e3 / 2", "750"),
        ("2 ** -1", "0.5"),
        ("round(pi, 3)", "3.142"),
    ],
)
def test_the_calculator_calculates(expression: str, value: str) -> None:
    """Operators, precedence, functions and names are those of Python; what is not whole has twelve digits."""
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "bomb",
    [
        "9**9**9**9", "9**99999999", "(2**1000)**1000", "2**1000*2**1000", "1e308*10", "1e999", "(-8)**0.5", "1/0",
        "1%0", "0**-1", "round(5, -1000000000)", "(" * 150 + "1" + ")" * 40, "-" * 199 + "x", "9" * 201, "",
        "__import__('os')", "().__class__", "abs.__self__", "[1]*9", "lambda: 1", "sqrt", "max()", "abs(1, 2)",
        "max(*pi)", "round(1, ndigits=2)", "open(1)", "true + 1", "0x10", "1_000", "1or 2", "1 if 2 else 3", "3j",
        "'a'*9", "1 < 2", "2 @ 3", "~1", "1 << 99", "a:=1", "٣ + 1",
    ],
    ids=range(39),
)  # fmt: skip
def test_what_is_no_bounded_arithmetic_is_refused(bomb: str) -> None:
    """Bombs, code, other syntax and missing values are refused in words, at once."""
    with pytest.raises(CannotCalculate):
        calculate(bomb)


@given(st.text(alphabet="0123456789.+-*/%() episqrtmax,", max_size=60))
def test_any_expression_has_a_value_or_a_reason(expression: str) -> None:
    """Whatever is typed, there is a short value or CannotCalculate."""
    with contextlib.suppress(CannotCalculate):
        assert len(calculate(expression)) < 400


ALLOWED = frozenset({"example.com", "example.com:8080", "127.0.0.1", "[::1]"})


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/",
        "javascript:alert(1)",
        "//example.com/",
        "http:///etc",
        "http://user@example.com/",
        "http://user:pass@example.com/",
        "http://example.com@evil.org/",
        "http://example.com:80@evil.org/",
        "http://evil.org/?example.com",
        "http://evil.org#example.com",
        "http://example.com.evil.org/",
        "http://evilexample.com/",
        "http://example.com\\@evil.org/",
        "http://example.com:81/",
        "http://example.com:99999/",
        "http://example.com:x/",
        "https://example.com:80/",
        "http://exa\nmple.com/",
        "http://example.com/\r\nX-Injected: 1",
        "http://example.com/ HTTP/1.1",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://0/",
        "http://localhost/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::1%25lo]/",
        "http://[::1/",
        "http://\uff45xample.com/",
        "http://example.com/" + "a" * 2000,
        "http://%65xample.com/",
    ],
)
def test_the_text_of_a_url_decides_first(url: str) -> None:
    """Other schemes, users, ports, spellings of addresses and look-alikes never get as far as the network."""
    with pytest.raises(Refused):
        target(url, ALLOWED)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://example.com", "example.com", 80),
        ("HTTP://EXAMPLE.com./a", "example.com", 80),
        ("https://example.com:443/a", "example.com", 443),
        ("http://example.com:8080/a?b=c", "example.com", 8080),
        ("http://[0:0:0:0:0:0:0:1]/", "::1", 80),
    ],
)
def test_an_allowed_host_passes(url: str, host: str, port: int) -> None:
    """One host has one spelling."""
    found = target(url, ALLOWED)
    assert (found.host, found.port) == (host, port)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",  # noqa: S104 - an address to refuse, not to bind
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
    ],
)
def test_what_is_not_public_is_inside(address: str) -> None:
    """Also where IPv6 carries an IPv4 address."""
    assert inside(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_what_is_public_is_not(address: str) -> None:
    """Public addresses in any form are public."""
    assert not inside(address)


class Site(BaseHTTPRequestHandler):
    """Answers by path; `redirect?…` goes where the query says."""

    release = threading.Event()

    def do_GET(self) -> None:
        name, _, query = self.path.partition("?")
        kind, body, status = "text/html; charset=utf-8", b"<title>Tides</title><p>The moon pulls.</p>", 200
        headers = {}
        if name == "/redirect":
            status, headers = 302, {"Location": query}
        elif name == "/large":
            kind, body = "text/plain", b"word " * 100_000
        elif name == "/image":
            kind = "image/png"
        elif name == "/zipped":
            headers = {"Content-Encoding": "gzip"}
        elif name == "/missing":
            status = 404
        elif name == "/charset":
            kind = "text/plain; charset=nonsense"
        elif name == "/slow":
            self.release.wait(10)
        self.send_response(status)
        for header, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def site() -> Iterator[str]:
    Site.release.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    Site.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def open_site(site: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(fetching.PRIVATE_HOSTS, site)
    return site


async def test_a_private_address_needs_the_operator(site: str) -> None:
    """That the starter of a run allows it is not enough."""
    with pytest.raises(Refused, match="not a public address"):
        await fetch(f"http://{site}/", [site])


async def test_a_page_comes_as_text_and_joins_the_documents(open_site: str) -> None:
    """Markup is gone, the next number is its key, and search finds it."""
    desk = Desk([Source("1", "One", "Bees fly from flower to flower.")], (open_site,))
    told = await TOOLS["http_get"](desk, {"url": f"http://{open_site}/"})
    assert (told["status"], told["key"], told["cut"], told["excerpt"]) == (200, "2", False, "Tides The moon pulls.")
    found = await TOOLS["search"](desk, {"query": "what does the moon do"})
    assert found["passages"] == [{"key": "2", "source": f"http://{open_site}/", "quote": "The moon pulls."}]
    told = await TOOLS["http_get"](desk, {"url": f"http://{open_site}/missing"})
    assert (told["status"], len(desk.documents)) == (404, 2)


async def test_a_large_page_is_cut(open_site: str) -> None:
    """No more than the bound is read, and that is said."""
    page = await fetch(f"http://{open_site}/large", [open_site])
    assert (page.cut, page.size, len(page.text)) == (True, fetching.MOST_BYTES, fetching.MOST_BYTES)


@pytest.mark.parametrize(
    "path",
    [
        "redirect?http://localhost/",
        "redirect?http://example.com/",
        "redirect?file:///etc/passwd",
        "redirect?//evil.org/",
        "redirect?/redirect?/redirect?/redirect?/redirect?/",
        "image",
        "zipped",
    ],
)
async def test_what_leads_away_or_is_no_text_is_refused(open_site: str, path: str) -> None:
    """A redirect elsewhere or without end, and what is not text, fails; hosts allowed beside it change nothing."""
    with pytest.raises(Refused):
        await fetch(f"http://{open_site}/{path}", [open_site, "example.com", "localhost"])


async def test_a_redirect_on_the_same_host_is_followed(open_site: str) -> None:
    """The page's own address is told; an unknown charset is read as UTF-8."""
    page = await fetch(f"http://{open_site}/redirect?/charset", [open_site])
    assert (page.url, page.status) == (f"http://{open_site}/charset", 200)


async def test_a_slow_host_is_given_up(open_site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole fetch has one bound."""
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.05)
    with pytest.raises(Refused, match=r"0\.05 seconds|could not be read"):
        await fetch(f"http://{open_site}/slow", [open_site])


async def test_a_closed_port_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the network is no crash."""
    monkeypatch.setenv(fetching.PRIVATE_HOSTS, "127.0.0.1:1")
    with pytest.raises(Refused, match="could not be read"):
        await fetch("http://127.0.0.1:1/", ["127.0.0.1:1"])


async def test_tools_without_documents_say_so() -> None:
    """An empty desk is told, not guessed at."""
    for name, args in (("search", {"query": "bees"}), ("word_count", {})):
        with pytest.raises(ToolFailed, match="no documents"):
            await TOOLS[name](Desk([]), args)


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
async def test_search_quotes_real_text(work) -> None:
    """What is found stands in the work; the count of all words is that of the parts."""
    text = read(work)
    desk = Desk([Source("1", work.name, text)])
    found = await TOOLS["search"](desk, {"query": f"What is said about {work.topic}?"})
    assert found["passages"]
    assert all(flat(each["quote"]) in flat(text) for each in found["passages"])
    counted = await TOOLS["word_count"](desk, {})
    assert counted["count"] == counted["parts"][0]["count"] > 1000
    json.dumps([found, counted])
