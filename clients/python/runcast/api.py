"""Requests to the gateway, and what it refuses as an exception (PROTOCOL sections 4 and 8).

Rule 1: a token travels in the Authorization header, never in a URL.
Rule 2: whatever goes wrong arrives as a RuncastError, also when something between answered in the gateway's place.
Rule 3: only a request that may be repeated is: the caller says so.
"""

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import orjson
from pydantic import ValidationError

from runcast.errors import RuncastError, Unreachable, refused
from runcast.policy import RETRY_MS, backoff_ms, passing

Token = str | Callable[[], str | Awaitable[str]] | None


class Credentials:
    """The token in use. A callable is asked when one is needed first, and again when that one is no good."""

    def __init__(self, token: Token) -> None:
        self._source = token
        self._token: str | None = token if isinstance(token, str) else None
        self._fetching = asyncio.Lock()

    @property
    def renewable(self) -> bool:
        return callable(self._source)

    async def get(self, *, instead_of: str | None = None) -> str | None:
        """A token; a fresh one when the one in use is `instead_of`. Raises Unreachable when the callable fails.

        Many who come with the same old token at once cause one call; nobody waits for it whose token is good.
        """
        if not callable(self._source) or self._token not in (None, instead_of):
            return self._token
        async with self._fetching:
            if self._token in (None, instead_of):
                try:
                    self._token = await _ask(self._source)
                except Exception as error:  # whatever it was, it may go better later
                    raise Unreachable(f"no token: {type(error).__name__}: {error}") from error
            return self._token


async def _ask(source: Callable[[], str | Awaitable[str]]) -> str:
    # A plain function may block, asking an identity provider.
    found = source() if inspect.iscoroutinefunction(source) else await asyncio.to_thread(source)
    return await found if inspect.isawaitable(found) else found


class Api:
    """`attempts`: how often a request that may be repeated is made."""

    def __init__(
        self, url: str, credentials: Credentials, *, timeout_s: float, attempts: int, http: httpx.AsyncClient
    ) -> None:
        self.url = url.rstrip("/")
        self.credentials = credentials
        self.http = http
        self._timeout_s = timeout_s
        self._attempts = attempts

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> Any:
        """The answer's JSON, None when there is none. A 401 is tried once more with a fresh token.

        Raises Refused, Unreachable.
        """
        content = None if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        given = {name: value for name, value in (query or {}).items() if value is not None}
        request = self.http.build_request(
            method, self.url + path, content=content, params=given, headers=headers, timeout=self._timeout_s
        )
        request.headers["Accept"] = "application/json"
        if content is not None:
            request.headers["Content-Type"] = "application/json"
        attempts = self._attempts if repeatable else 1
        for attempt in range(attempts):
            try:
                return await self._once(request)
            except RuncastError as error:
                if attempt + 1 == attempts or not error.retryable:
                    raise
                await asyncio.sleep(wait_ms(error, failures=attempt) / 1000)
        raise AssertionError

    async def _once(self, request: httpx.Request) -> Any:
        token = await self.credentials.get()
        answer = await self._send(request, token)
        if answer.status_code == 401 and self.credentials.renewable:
            answer = await self._send(request, await self.credentials.get(instead_of=token))
        if not answer.is_success:
            raise problem(answer)
        if answer.status_code == 204:
            return None
        try:
            return orjson.loads(answer.content)
        except ValueError:
            raise Unreachable(f"{self.url} answered {answer.status_code}, but not in JSON") from None

    @contextmanager
    def understood(self) -> Iterator[None]:
        """What is read of an answer within raises Unreachable when it is not there, or not as a gateway says it."""
        try:
            yield
        except (KeyError, TypeError, ValidationError):
            raise Unreachable(f"{self.url} answered, but not as a Runcast gateway does") from None

    async def _send(self, request: httpx.Request, token: str | None) -> httpx.Response:
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        if self.http.is_closed:
            raise RuncastError("the client was closed")
        try:
            return await self.http.send(request)
        except httpx.RequestError as error:
            raise Unreachable(f"{self.url} cannot be reached: {str(error) or type(error).__name__}") from error


def wait_ms(error: RuncastError, *, failures: int) -> float:
    """How long to wait before the next attempt: what was asked for, or full jitter."""
    jitter = random.random()  # noqa: S311 - no secret
    told = error.retry_after_ms
    return backoff_ms(failures, retry_ms=RETRY_MS, random=jitter) if told is None else told


def problem(answer: httpx.Response) -> RuncastError:
    """What an answer that is no success comes to. Its body must have been read."""
    status, document, after_ms = answer.status_code, _document(answer), retry_after_ms(answer)
    if document:
        return refused(document, status=status, retry_after_ms=after_ms)
    told = f"{status} {answer.reason_phrase}, not from a Runcast gateway"
    if passing(status):
        return Unreachable(f"{answer.url.copy_with(query=None)} answered {told}", retry_after_ms=after_ms)
    return refused({"title": told}, status=status)


def retry_after_ms(answer: httpx.Response) -> float | None:
    """When to come back, in the problem's words or else the header's."""
    told = _document(answer).get("retry_after_ms")
    if isinstance(told, int | float):
        return float(told)
    header = answer.headers.get("Retry-After", "")
    return float(header) * 1000 if header.isascii() and header.isdigit() else None


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = orjson.loads(answer.content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) and isinstance(document.get("code"), str) else {}
