"""A worker's publisher when requests go wrong: numbers are used once, and nobody waits for what cannot come."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

import runcast.api
from runcast import Client, Conflict, NotFound, Publisher, RuncastError, Unreachable
from tests.client.scripted import (
    PATIENCE_S,
    Connection,
    Request,
    Server,
    Told,
    completed,
    event,
    hello,
    issuing,
    problem,
    told,
)

pytestmark = pytest.mark.usefixtures("impatient")

OWN_ERROR = {"code": "pipeline.error", "message": "m", "retryable": True}
PAUSED = event(1, "run.paused", by="a")
CANCELLING = event(1, "run.cancelling", by="a", reason="b")


def server_of(
    post: Callable[[Request, Connection], Awaitable[Told | None]], *past: dict, status: str = "running"
) -> Server:
    """A run with these events so far and this state; `post` answers what is said of it."""

    async def answer(request: Request, connection: Connection) -> Told | None:
        if request.method == "POST":
            return await post(request, connection)
        if not request.streams:
            return told({"id": "r", "status": status})
        await connection.stream(hello(), *past)
        return await connection.gone()

    return Server(answer)


async def taken(request: Request, connection: Connection) -> Told:
    """Whatever is said is well."""
    return told({"status": request.json()["status"]}) if request.what == "finish" else told({"cursor": "a-1"}, 202)


async def away(request: Request, connection: Connection) -> Told:
    return Told(503, b"away", {})


@asynccontextmanager
async def publishing(server: Server, *, client: dict | None = None, **settings):
    async with (
        server,
        Client(server.url, **{"token": "t", **(client or {})}) as made,
        asyncio.timeout(PATIENCE_S),
        Publisher(made.run("r"), **settings) as publisher,
    ):
        yield publisher


async def test_a_token_that_cannot_be_renewed_at_once_is_asked_for_again():
    async def post(request, connection):
        if request.headers["authorization"] == "Bearer old":
            return problem(401, "auth.expired")
        return await taken(request, connection)

    tokens = issuing("old", OSError("the identity provider is away"), "new")
    async with publishing(server_of(post), client={"token": tokens}) as publisher:
        await publisher.emit("x.a")
        await publisher.flush()


async def test_who_watches_a_gateway_that_is_away_waits_between_attempts(monkeypatch):
    monkeypatch.setattr(runcast.api, "backoff_ms", lambda failures, **chance: 60_000)

    async def answer(request, connection):
        return await (away if request.method == "GET" else taken)(request, connection)

    server = Server(answer)
    async with publishing(server, client={"max_retries": 1}) as publisher:
        for _ in range(50):
            await publisher.emit("x.a")
            await publisher.flush()
        assert len(server.asked("GET")) == 1


@pytest.mark.parametrize("end", [problem(401, "auth.expired"), problem(404, "run.not_found"), completed(2)])
async def test_a_paused_worker_goes_on_when_nobody_can_tell_of_the_resumption(end):
    async def answer(request, connection):
        if len(server.requests) > 1:
            return end
        await connection.stream(hello(), PAUSED)
        await paused.wait()
        return await connection.stream(end) if isinstance(end, dict) else None

    paused = asyncio.Event()
    server = Server(answer)
    async with publishing(server) as publisher:
        while publisher._going.is_set():
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(publisher.checkpoint())
        await asyncio.sleep(0)
        assert not waiting.done()
        paused.set()
        await waiting


async def test_a_run_is_finished_though_the_answer_to_its_last_events_was_lost():
    numbers = []

    async def post(request, connection):
        repeated = request.number in numbers
        numbers.append(request.number)
        if request.what == "events":
            return connection.cut()
        return problem(409, "key.conflict") if repeated else await taken(request, connection)

    async with publishing(server_of(post), patience_s=0) as publisher:
        await publisher.emit("x.a")
        with pytest.raises(Unreachable):
            await publisher.flush()
        assert await publisher.finish("failed", error=OWN_ERROR) == "failed"
    assert numbers == [1, 1, 2]


async def test_what_is_said_while_the_run_is_finished_has_a_number_of_its_own():
    said = []
    finishing, go_on = asyncio.Event(), asyncio.Event()

    async def post(request, connection):
        said.append((request.what, request.number))
        if request.what == "events":
            return problem(409, "run.finished")
        finishing.set()
        await go_on.wait()
        return await taken(request, connection)

    async with publishing(server_of(post, status="completed")) as publisher:
        finish = asyncio.create_task(publisher.finish())
        await finishing.wait()
        await publisher.emit("x.late")
        await publisher.run.state()  # what would be sent at once has been sent
        go_on.set()
        assert await finish == "completed"
        with pytest.raises(Conflict):
            await publisher.flush()
    assert said == [("finish", 1), ("events", 2)]


async def test_an_error_that_is_not_the_publishers_own_fails_the_run_after_what_was_said():
    async def work() -> None:
        async with publishing(server) as publisher:
            await publisher.emit("x.a")
            raise NotFound({"code": "run.not_found"}, status=404)  # of another run

    server = server_of(taken)
    with pytest.raises(NotFound):
        await work()
    assert [request.what for request in server.requests if request.method == "POST"] == ["events", "finish"]
    assert server.asked("POST", "finish")[0].json()["status"] == "failed"


async def test_a_cancelled_worker_leaves_quietly_when_the_run_has_ended_meanwhile():
    async def post(request, connection):
        return problem(409, "run.finished")

    async with publishing(server_of(post, CANCELLING, status="cancelled")) as publisher:
        await publisher.until_cancelled()
        await publisher.emit("x.a")
        await publisher.checkpoint()
    assert publisher.cancelled


async def test_after_its_block_a_publisher_takes_nothing_and_lets_nobody_wait():
    async def post(request, connection):
        return await connection.gone()

    async def speak() -> None:
        while True:
            await publisher.emit("x.a", text="x" * 1000)

    async def work() -> None:
        async with publisher:
            await asyncio.Event().wait()

    async with server_of(post) as server, Client(server.url, token="t") as client, asyncio.timeout(PATIENCE_S):
        publisher = Publisher(client.run("r"), max_buffer_bytes=4000)
        working = asyncio.create_task(work())
        await asyncio.sleep(0)
        speaking = asyncio.create_task(speak())
        await server.until(lambda: server.asked("POST"))
        working.cancel()
        with pytest.raises(RuncastError, match="ended"):
            await speaking
        for late in (publisher.emit("x.late"), publisher.flush()):
            with pytest.raises(RuncastError, match="ended"):
                await late


async def test_a_worker_that_waits_for_an_answer_hears_of_the_clients_end():
    async def work() -> None:
        async with Publisher(client.run("r")) as publisher:
            await publisher.emit("x.a")
            await publisher.flush()

    async with server_of(away) as server, asyncio.timeout(PATIENCE_S):
        async with Client(server.url, token="t") as client:
            working = asyncio.create_task(work())
            await server.until(lambda: len(server.asked("POST")) > 1)
        with pytest.raises(RuncastError):
            await working


async def test_patience_ends_before_the_time_that_a_gateway_asks_for():
    async def post(request, connection):
        return Told(503, b"away", {"Retry-After": "3600"})

    server = server_of(post)
    async with publishing(server, patience_s=0.1) as publisher:
        await publisher.emit("x.a")
        with pytest.raises(Unreachable):
            await publisher.flush()
