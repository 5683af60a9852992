"""The client: runs are started, followed and commanded through it.

Rule 1: all that runs in the background belongs to the client and ends with it.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, aclosing, suppress
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict

from runcast.api import Api, Credentials, Token, wait_ms
from runcast.errors import NotFound, RuncastError
from runcast.events import Event
from runcast.follow import Following, Join, Memory, OnConnection, Replay
from runcast.policy import MAX_RETRIES, TRANSPORTS, Transport
from runcast.state import RunState

ATTEMPTS = 3
TIMEOUT_S = 30
PAGE = 100
MOST_PORTS = 65_535
REPLY_WITHIN_S = 5


class Acknowledged(NamedTuple):
    """The gateway's word on a cancel. `status`: `cancelling`, or `finished` with the run's `final` status."""

    status: str
    final: str | None = None


class Pipeline(BaseModel):
    """One that this gateway can run; the schemas are JSON Schema."""

    model_config = ConfigDict(extra="allow")

    name: str
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    result_schema: dict[str, Any] | None = None


class Client:
    """A gateway at `url`, used as `async with`.

    `token`: the JWT, or a function (plain or async) that fetches one; it is called when a token is needed, and again
    when that one has run out. `transports`: those to try, in this order. `max_retries`: failures in a row after which
    following a run ends. `attempts`: how often a request that may be repeated is made. `timeout_s`: for one request.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        transports: Sequence[Transport] = TRANSPORTS,
        max_retries: int = MAX_RETRIES,
        attempts: int = ATTEMPTS,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not an http(s) address")
        try:
            address = httpx.URL(url)
            urlsplit(url)  # which looks at brackets, too
        except (httpx.InvalidURL, ValueError) as error:
            raise ValueError(f"{url!r} is not an address: {error}") from None
        if not address.host or (address.port or 0) > MOST_PORTS:
            raise ValueError(f"{url!r} is not an address")
        if not transports or not set(transports) <= set(TRANSPORTS):
            raise ValueError(f"transports are some of {', '.join(TRANSPORTS)}")
        self._transports = tuple(transports)
        self._max_retries = max_retries
        self._http = httpx.AsyncClient(limits=httpx.Limits(max_connections=None), follow_redirects=False)
        self.api = Api(url, Credentials(token), timeout_s=timeout_s, attempts=attempts, http=self._http)
        self._memory = Memory()
        self._following: dict[asyncio.Task[None], Following] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for task in tuple(self._following):
            if not task.cancelling():  # a second time would break off a WebSocket's close
                task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        await self._http.__aexit__(kind, error, trace)

    def run(self, id: str) -> "Run":
        """A run by its id; nothing is asked yet."""
        return Run(self, id)

    async def start(
        self, pipeline: str, input: Any = None, *, key: str | None = None, owner: str | None = None, **options: Any
    ) -> "Run":
        """Start a run. `options`: `on_disconnect`, `disconnect_grace_s`, `budget_usd`, `timeout_s`.

        The same `key` again gives the same run; without one it gets its own, so that it may be repeated through an
        outage. Raises Refused, Unreachable.
        """
        body = {"pipeline": pipeline, "input": {} if input is None else input, "options": options}
        if owner is not None:
            body["owner"] = owner
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        answer = await self.api.call("POST", "/runs", body=body, headers=headers, repeatable=True)
        with self.api.understood():
            return Run(self, answer["id"])

    async def runs(
        self, *, status: str | None = None, pipeline: str | None = None, limit: int | None = None
    ) -> AsyncGenerator[RunState]:
        """The caller's runs, newest first, without their texts and results; at most `limit`."""
        before, left = None, limit
        while left is None or left > 0:
            query = {"status": status, "pipeline": pipeline, "before": before, "limit": min(left or PAGE, PAGE)}
            page = await self.api.call("GET", "/runs", query=query, repeatable=True)
            with self.api.understood():
                found, before = [RunState.model_validate(run) for run in page["runs"]], page["next"]
            for run in found:
                yield run
            if before is None:
                return
            left = None if left is None else left - len(found)

    async def pipelines(self) -> list[Pipeline]:
        answer = await self.api.call("GET", "/pipelines", repeatable=True)
        with self.api.understood():
            return [Pipeline.model_validate(each) for each in answer["pipelines"]]

    def follow(self, run: str, on_connection: OnConnection | None, **join: Any) -> AsyncGenerator[Event]:
        """What `Run.events` gives."""
        wanted = Join(run=run, transports=self._transports, max_retries=self._max_retries, **join)
        return self._taken(Following(self.api, wanted, memory=self._memory, on_connection=on_connection))

    async def _taken(self, following: Following) -> AsyncGenerator[Event]:
        if self._closed:
            raise RuncastError("the client was closed")
        driving = asyncio.create_task(following.drive(), name=f"runcast:{following.join.run}")
        self._following[driving] = following
        driving.add_done_callback(self._forget)
        try:
            async with aclosing(following.taken()) as taken:
                async for event in taken:
                    yield event
        finally:
            driving.cancel()

    def _forget(self, driving: asyncio.Task[None]) -> None:
        self._following.pop(driving).end()
        if not driving.cancelled():
            driving.exception()  # the reader was given it

    async def command(self, command: dict[str, Any]) -> dict[str, Any] | None:
        """Send a command over a WebSocket that follows its run; None when there is none, or no reply came in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REPLY_WITHIN_S):
                for following in tuple(self._following.values()):
                    if following.join.run == command["run"]:
                        reply = await following.command(command)
                        if reply is not None and reply.get("ok"):
                            return reply
        return None


class Run:
    """One run of a gateway's."""

    def __init__(self, client: Client, id: str) -> None:
        self.id = id
        self._client = client

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    def events(
        self,
        *,
        after: str | None = None,
        replay: Replay = "folded",
        types: Sequence[str] | None = None,
        on_connection: OnConnection | None = None,
    ) -> AsyncGenerator[Event]:
        """Every event, once and in order, to the terminal one, whatever breaks in between.

        `after`: a cursor to go on from; `replay`: how the past is told (PROTOCOL section 3); `types`: only these, and
        the lifecycle. When history is gone a Gap comes first. `on_connection` is told what becomes of the connection.
        Raises Refused, Unreachable.
        """
        chosen = None if types is None else tuple(types)
        return self._client.follow(self.id, on_connection, after=after, replay=replay, types=chosen)

    async def state(self) -> RunState:
        """What the run has come to. Raises Refused, Unreachable."""
        answer = await self.call("GET", repeatable=True)
        with self.understood():
            return RunState.model_validate(answer)

    async def wait(self) -> RunState:
        """The run's state at its end."""
        async with aclosing(self.events(types=["run.completed"])) as events:
            async for _ in events:
                pass
        return await self.state()

    async def cancel(self, reason: str | None = None) -> Acknowledged:
        """Ask for the run's end; returns when the gateway has taken it. Raises Refused, Unreachable."""
        said = {} if reason is None else {"reason": reason}
        told = await self._client.command({"type": "cancel", "run": self.id, **said})
        if told is None:
            told = await self.call("POST", "cancel", body=said, repeatable=True)
        with self.understood():
            return Acknowledged(told["status"], told.get("final"))

    async def pause(self) -> str:
        """Hold the run at its next checkpoint; its status so far. Raises Conflict when it has finished."""
        return await self._status_after("pause")

    async def resume(self) -> str:
        """Let it go on; its status. Raises Conflict when it has finished."""
        return await self._status_after("resume")

    async def _status_after(self, command: str) -> str:
        answer = await self.call("POST", command, repeatable=True)
        with self.understood():
            return str(answer["status"])

    async def input(self, input_id: str, value: Any) -> None:
        """Answer an `input.requested`. Raises Conflict when somebody has, Invalid when it is not as was asked."""
        await self.call("POST", "input", body={"input_id": input_id, "value": value})

    async def retry(self) -> "Run":
        """Start anew with the same pipeline, input and options. Raises Conflict while it runs."""
        answer = await self.call("POST", "retry")
        with self.understood():
            return Run(self._client, answer["id"])

    async def erase(self) -> None:
        """Forget a finished run and all its events. Raises Conflict while it runs."""
        try:
            await self.call("DELETE")
        except RuncastError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(wait_ms(error, failures=0) / 1000)
            with suppress(NotFound):  # it was done, and the answer lost
                await self.call("DELETE", repeatable=True)

    def understood(self) -> AbstractContextManager[None]:
        """Within, an answer is read; what it lacks is Unreachable."""
        return self._client.api.understood()

    async def call(self, method: str, what: str = "", **request: Any) -> Any:
        """One request about this run, as Api.call makes it."""
        path = f"/runs/{quote(self.id, safe='')}"
        return await self._client.api.call(method, f"{path}/{what}" if what else path, **request)
