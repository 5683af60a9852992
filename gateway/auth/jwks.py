"""An issuer's published keys (RFC 7517), asked for over HTTP and kept.

Rule 1: only public keys for signatures are taken from there, and each for its own algorithms alone.
Rule 2: the loop never waits for the issuer; a request does only when its token names a key that is not held, and then
all that do wait for the same answer.
Rule 3: what was fetched counts until the issuer says otherwise: an issuer that is away, slow or talks nonsense changes
nothing, and a set without a key takes that key out of use.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import httpx
import jwt
import structlog

from gateway.auth.keys import Key, UnknownKey, read_jwk
from gateway.errors import Unavailable
from gateway.tasks import Tasks
from gateway.wire import json

log = structlog.get_logger(__name__)

MAX_BYTES = 256 * 1024
MAX_KEYS = 100
FETCH_TIMEOUT_S = 5
UNKNOWN_EVERY_S = 30  # between two askings because of a key that is not held
RETRY_S = 15  # after an asking that failed

Held = dict[tuple[str | None, str], Key | None]


class Source(Protocol):
    """Where the document comes from."""

    async def fetch(self) -> bytes:
        """Raises httpx.HTTPError, OSError, TimeoutError, ValueError."""

    async def close(self) -> None: ...


class Jwks:
    """A KeySource. `changed` is called when keys that were held are gone."""

    def __init__(
        self,
        source: Source,
        *,
        algorithms: Sequence[str],
        refresh_s: float,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._algorithms = algorithms
        self._refresh_s = refresh_s
        self._changed = changed
        self._held: Held = {}
        self._ids: frozenset[str | None] = frozenset()
        self._fresh = False
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._tasks = Tasks("jwks")

    def start(self) -> None:
        self._tasks.spawn(self._keep_fresh(), name="refresh")

    async def close(self) -> None:
        await self._tasks.close()
        await self._source.close()

    def choose(self, token: str) -> Key:
        """By `kid` and `alg`; without a `kid` the only key that takes the `alg`."""
        header = jwt.get_unverified_header(token)
        alg = header.get("alg")
        if alg not in self._algorithms:
            raise jwt.InvalidAlgorithmError
        key = self._held.get((header.get("kid"), str(alg)))
        if key is None:
            raise UnknownKey
        return key

    def holds(self, id: str | None) -> bool:
        return id in self._ids

    async def learn(self) -> bool:
        loop = asyncio.get_running_loop()
        if self._asking is None and loop.time() - self._asked_at >= UNKNOWN_EVERY_S:
            self._asked_at = loop.time()
            asked = self._ask()
        elif self._asking is not None:
            asked = self._asking
        else:
            asked = None
        if asked is not None:
            await asyncio.shield(asked)
        if not self._fresh:
            # Nobody can tell whether the token is good, so nobody is told that it is bad.
            raise Unavailable("server.busy", "the issuer's keys cannot be had", retry_after_ms=RETRY_S * 1000)
        return asked is not None

    def _ask(self) -> asyncio.Task[None]:
        """One asking at a time."""
        if self._asking is None:
            self._asking = self._tasks.spawn(self._refresh(), name="ask")
        return self._asking

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.shield(self._ask())
            await asyncio.sleep(self._refresh_s if self._fresh else min(self._refresh_s, RETRY_S))

    async def _refresh(self) -> None:
        try:
            self._take(read_set(await self._source.fetch(), self._algorithms))
            self._fresh = True
        except Exception as error:  # noqa: BLE001 - whatever the issuer makes of us, the keys that are held stay
            self._fresh = False
            log.warning("the issuer's keys could not be refreshed", error=f"{type(error).__name__}: {error}"[:200])
        finally:
            self._asking = None

    def _take(self, held: Held) -> None:
        before, self._held = self._ids, held
        self._ids = frozenset(key.id for key in held.values() if key is not None)
        if before != self._ids:
            log.info("the issuer's keys", held=len(self._ids), gone=len(before - self._ids))
        if before - self._ids:
            self._changed()


def read_set(document: bytes, algorithms: Sequence[str]) -> Held:
    """The usable keys of a JWK set by `(kid, alg)`, and by `(None, alg)` where only one takes the algorithm.

    Members that cannot be used are passed over, as RFC 7517 section 5 asks. Raises ValueError for what is no JWK set.
    """
    value = json.loads(document)
    members = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise ValueError(f"not a JWK set of at most {MAX_KEYS} keys")
    held: Held = {}
    for member in members:
        try:
            kid, key = read_jwk(member, allowed=algorithms)
        except ValueError as error:
            log.debug("a member of the issuer's set is passed over", reason=str(error))
            continue
        for alg in key.algorithms:
            # None marks what is ambiguous: two keys under one name vouch for nothing.
            for place in {(kid, alg), (None, alg)}:
                held[place] = None if place in held and held[place] != key else key
    return held


class Issuer:
    """A Source: one address, bounded in time and size, and follows no redirect."""

    def __init__(self, url: str) -> None:
        self._url = url
        https = urlsplit(url).scheme == "https"
        # Without TLS it is on this machine: no certificates to load, and no proxies of the environment to ask.
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=https,
            verify=https,
            timeout=FETCH_TIMEOUT_S,
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"},
        )

    async def fetch(self) -> bytes:
        async with asyncio.timeout(FETCH_TIMEOUT_S), self._client.stream("GET", self._url) as response:
            if response.status_code != 200:
                raise ValueError(f"status {response.status_code}")
            document = bytearray()
            async for part in response.aiter_raw():
                document += part
                if len(document) > MAX_BYTES:
                    raise ValueError(f"more than {MAX_BYTES} bytes")
            return bytes(document)

    async def close(self) -> None:
        await self._client.aclose()
