"""HTTP GET for an agent: only where it may go, never further than that.

Rule 1: an address is decided on the URL's text first (scheme, user, host, port), then on what the name resolves to,
and the connection is made to the very address that was checked: a name that changes in between changes nothing.
Rule 2: whoever starts a run may name public hosts; an address inside (private, loopback, link-local …) is reached
only when the operator has named it as well, in the environment variable AGENT_PRIVATE_HOSTS.

The standard library's http.client, in a thread: httpx is not among the gateway's dependencies, and would connect by
name, after the check, and by way of whatever proxy the environment names.
"""

import asyncio
import contextlib
import http.client
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin, urlsplit

from pipeline.context import in_thread

PRIVATE_HOSTS = "AGENT_PRIVATE_HOSTS"
MOST_BYTES = 256 * 1024
MOST_REDIRECTS = 3
TIMEOUT_S = 10.0  # for the whole fetch, redirects included
_PORTS: Final = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SAFE_URL = re.compile(r"[!#-;=?-\[\]_a-z~]{1,2000}")


class Refused(ValueError):
    """The URL may not be fetched, or what came back cannot be used. The message is safe to show."""


@dataclass(frozen=True)
class Target:
    """A URL that passed the checks of its text; `entry` is how an allow-list names it."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def entry(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == _PORTS[self.scheme] else f"{shown}:{self.port}"


@dataclass(frozen=True)
class Page:
    """What came back: `text` without markup, `size` in bytes as they came; `cut` when there was more."""

    url: str
    status: int
    type: str
    text: str
    size: int
    cut: bool


async def fetch(url: str, allowed: Collection[str]) -> Page:
    """GET a URL whose host (`name` for the usual port, otherwise `name:port`) is allowed.

    Raises Refused for all that is not allowed and for every failure of the network.
    """
    work = _Fetch(frozenset(one.lower() for one in allowed))
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await in_thread(work.run, url)
    except TimeoutError:
        raise Refused(f"No complete answer within {TIMEOUT_S:g} seconds.") from None
    finally:
        work.close()


def target(url: str, allowed: Collection[str]) -> Target:
    """Check the text of a URL. Raises Refused."""
    if not _SAFE_URL.fullmatch(url):
        raise Refused("The URL has characters that a URL cannot have, or is too long.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("This is not a URL.") from None
    if parts.scheme not in _PORTS:
        raise Refused("Only http and https are fetched.")
    if "@" in parts.netloc:
        raise Refused("A URL with a user or a password is not fetched.")
    host = (parts.hostname or "").removesuffix(".")
    with contextlib.suppress(ValueError):
        host = str(ipaddress.ip_address(host))  # one spelling for each address
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    found = Target(parts.scheme, host, _PORTS[parts.scheme] if port is None else port, path)
    if not host or "%" in host or found.entry not in allowed:
        raise Refused(f"{found.entry or 'This host'} is not among the allowed hosts.")
    return found


def inside(address: str) -> bool:
    """Whether an address, or the IPv4 address that it carries, is anything but public."""
    one = ipaddress.ip_address(address)
    if isinstance(one, ipaddress.IPv6Address):
        carried = one.ipv4_mapped or one.sixtofour
        if one in _NAT64:
            carried = ipaddress.IPv4Address(int(one) & 0xFFFFFFFF)
        if carried is not None:
            return inside(str(carried))
    return not one.is_global or one.is_multicast


class _Fetch:
    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = allowed
        self._socket: socket.socket | None = None
        self._closed = False

    def close(self) -> None:
        """End what is under way: the thread's next read or write fails."""
        self._closed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def run(self, url: str) -> Page:
        first = target(url, self._allowed)
        for _ in range(MOST_REDIRECTS + 1):
            at = target(url, self._allowed)
            if at.entry != first.entry or (first.scheme, at.scheme) == ("https", "http"):
                raise Refused("It redirects to another host or away from https.")
            try:
                answer = self._get(at, url)
            except (OSError, http.client.HTTPException, UnicodeError) as error:
                raise Refused(f"{at.entry} could not be read ({type(error).__name__}).") from None
            if isinstance(answer, Page):
                return answer
            url = urljoin(url, answer)
        raise Refused(f"It redirects more than {MOST_REDIRECTS} times.")

    def _get(self, at: Target, url: str) -> Page | str:
        """The page, or where it redirects to."""
        connection = http.client.HTTPConnection(at.host, at.port, timeout=TIMEOUT_S)
        connection.default_port = _PORTS[at.scheme]
        connection.sock = self._connected(at)
        try:
            headers = {
                "Accept": "text/*, application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "runcast-agent",
            }
            connection.request("GET", at.path, headers=headers)
            with connection.getresponse() as answer:
                location = answer.headers.get("Location")
                if answer.status in (301, 302, 303, 307, 308) and location:
                    return location
                return _page(url, answer)
        finally:
            connection.close()

    def _connected(self, at: Target) -> socket.socket:
        found = {str(info[4][0]) for info in socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)}
        operator = frozenset(os.environ.get(PRIVATE_HOSTS, "").lower().split())
        if at.entry not in operator and any(inside(each) for each in found):
            raise Refused(f"{at.entry} is not a public address.")
        plain = socket.create_connection((min(found), at.port), timeout=TIMEOUT_S)
        self._socket = plain
        if at.scheme == "https":
            try:
                self._socket = ssl.create_default_context().wrap_socket(plain, server_hostname=at.host)
            except BaseException:
                plain.close()
                raise
        if self._closed:  # given up while connecting: nobody else would close it
            self._socket.close()
            raise Refused("Given up.")
        return self._socket


def _page(url: str, answer: http.client.HTTPResponse) -> Page:
    kind = answer.headers.get_content_type()
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise Refused("The answer is compressed, though that was not asked for.")
    if not (kind.startswith("text/") or kind.endswith(("json", "xml"))):
        raise Refused(f"The answer is no text but {kind[:80]}.")
    body = answer.read(MOST_BYTES + 1)
    cut = len(body) > MOST_BYTES
    try:
        text = body[:MOST_BYTES].decode(answer.headers.get_content_charset() or "utf-8", "replace")
    except LookupError:
        text = body[:MOST_BYTES].decode("utf-8", "replace")
    return Page(
        url, answer.status, kind, _plain(text) if kind == "text/html" else text, min(len(body), MOST_BYTES), cut
    )


def _plain(markup: str) -> str:
    reader = _Text()
    reader.feed(markup)
    reader.close()
    return re.sub(r"\s*\n\s*", "\n\n", re.sub(r"[^\S\n]+", " ", "".join(reader.parts))).strip()


class _Text(HTMLParser):
    """The text of a page; blocks end lines, scripts and styles are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser calls it so
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(self._hidden - (tag in ("script", "style")), 0)
        if tag in ("p", "div", "li", "h1", "h2", "h3", "h4", "tr", "title", "section"):
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data if data.strip() else " ")
