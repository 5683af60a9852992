"""A followed run when what is between goes wrong: each event is given once, and a reader always hears of the end."""

import asyncio

import pytest

import runcast.follow
import runcast.policy
from runcast import Client, RuncastError
from tests.client.scripted import (
    PATIENCE_S,
    Server,
    Socket,
    completed,
    event,
    hello,
    issuing,
    page,
    problem,
    told,
)

pytestmark = pytest.mark.usefixtures("impatient")


def client_of(server: Server, *transports: str, **more) -> Client:
    return Client(server.url, **{"token": "t", "transports": transports or ("sse",), **more})


async def seen(client: Client, **how) -> list[str]:
    """The types of all events, to the end."""
    async with asyncio.timeout(PATIENCE_S):
        return [event.type async for event in client.run("r").events(**how)]


async def test_a_token_that_cannot_be_renewed_at_once_is_asked_for_again():
    async def answer(request, connection):
        if request.headers["authorization"] != "Bearer new":
            return problem(401, "auth.expired")
        return await connection.stream(hello(), completed(1))

    tokens = issuing("old", OSError("the identity provider is away"), "new")
    async with Server(answer) as server, client_of(server, token=tokens) as client:
        assert await seen(client) == ["run.completed"]


async def test_a_slow_renewal_holds_up_nobody_whose_token_is_good():
    """One that is refused for reading may still cancel."""
    asked, renewed = asyncio.Event(), asyncio.Event()
    issued = 0

    async def issue() -> str:
        nonlocal issued
        issued += 1
        if issued > 1:
            asked.set()
            await renewed.wait()
        return f"t{issued}"

    async def answer(request, connection):
        if request.method == "POST":
            return told({"status": "cancelling"}, 202)
        if request.headers["authorization"] == "Bearer t1":
            return problem(401, "auth.expired")
        return await connection.stream(hello(), completed(1))

    async with Server(answer) as server, client_of(server, token=issue) as client, asyncio.timeout(PATIENCE_S):
        reading = asyncio.create_task(seen(client))
        await asked.wait()
        assert (await client.run("r").cancel()).status == "cancelling"
        renewed.set()
        assert await reading == ["run.completed"]


async def test_a_reader_that_has_just_begun_hears_of_the_clients_end():
    async def answer(request, connection):
        await connection.stream(hello())
        await connection.gone()

    async with Server(answer) as server:
        async with client_of(server) as client:
            reading = asyncio.create_task(seen(client))
            await asyncio.sleep(0)
        with pytest.raises(RuncastError, match="closed"):
            await reading


async def test_who_begins_anew_when_the_client_ends_is_told_so_again():
    async def answer(request, connection):
        socket = Socket(request, connection)
        await socket.joined(event(1))
        await socket.heard()

    async def read() -> None:
        with pytest.raises(RuncastError, match="closed"):
            await seen(client, on_connection=lambda connection: greeted.set())
        with pytest.raises(RuncastError, match="closed"):
            await seen(client)

    greeted = asyncio.Event()
    async with Server(answer) as server, asyncio.timeout(PATIENCE_S):
        async with client_of(server, "websocket") as client:
            reader = asyncio.create_task(read())
            await greeted.wait()
        await reader


async def test_a_socket_that_its_reader_and_then_the_client_leaves_is_closed():
    """A gateway that does not answer the close must not keep it open."""

    async def answer(request, connection):
        socket = Socket(request, connection)
        await socket.joined(event(1))
        await connection.gone()

    async with Server(answer) as server, asyncio.timeout(PATIENCE_S):
        async with client_of(server, "websocket") as client:
            events = client.run("r").events()
            await anext(events)
            await events.aclose()
            await asyncio.sleep(0)  # the close has begun
        await server.until(lambda: not server.open)


async def test_a_way_that_is_tried_again_while_polling_has_its_own_time_to_open(monkeypatch):
    monkeypatch.setattr(runcast.policy, "_PROBE_AFTER_MS", 100)
    monkeypatch.setattr(runcast.follow, "OPEN_TIMEOUT_MS", 200)
    streams = 0

    async def answer(request, connection):
        nonlocal streams
        if request.streams:
            streams += 1
            await connection.stream()  # as through a proxy that buffers
            await connection.gone()
            return None
        return page(completed(2), cursor="a-2", done=True) if streams > 1 else page(cursor="a-1")

    async with Server(answer) as server, client_of(server, "sse", "poll") as client:
        assert await seen(client) == ["run.completed"]


@pytest.mark.parametrize("transport", ["sse", "poll"])
async def test_an_event_that_is_none_is_a_connection_lost(transport):
    async def answer(request, connection):
        first = len(server.requests) == 1
        said = {"type": "x.a", "run": "r", "id": "a-1"} if first else completed(2)
        if transport == "poll":
            return page(said, cursor=said["id"], done=not first)
        return await connection.stream(hello(), said)

    async with Server(answer) as server, client_of(server, transport) as client:
        assert await seen(client) == ["run.completed"]


async def test_what_is_behind_a_gap_is_not_lost_with_the_connection():
    """With `replay=none` too: nobody has seen it yet."""

    async def answer(request, connection):
        if len(server.requests) == 1:
            await connection.stream(hello(), {"type": "gap", "run": "r", "after": "a-3", "from": "a-50"})
        elif request.query["replay"] == "none" and "after" not in request.query:
            await connection.stream(hello(), completed(60))
        else:
            await connection.stream(hello(), event(50), completed(60))

    async with Server(answer) as server, client_of(server) as client:
        assert await seen(client, after="a-3", replay="none") == ["gap", "x.a", "run.completed"]


async def test_what_is_said_between_two_connections_is_seen_without_a_replay():
    """The first is cut before anything came over it that has a place in the log."""
    log = [event(1)]

    async def answer(request, connection):
        after = request.query.get("after", "0" if request.query["replay"] != "none" else log[-1]["id"])
        rest = [said for said in log if int(said["id"][2:]) > int(after.rpartition("-")[2])]
        if not request.streams:
            return page(*rest, cursor=log[-1]["id"])
        await connection.stream(hello(), *rest)
        if len(log) == 1:
            log.append(event(2, "x.between"))
        elif len(log) == 2:
            log.append(completed(3))
        return None

    async with Server(answer) as server, client_of(server) as client:
        assert await seen(client, replay="none") == ["x.between", "run.completed"]


async def test_an_empty_choice_is_put_to_the_gateway_as_it_is():
    commands = []

    async def answer(request, connection):
        commands.append(await Socket(request, connection).joined(completed(1)))

    async with Server(answer) as server, client_of(server, "websocket") as client:
        assert await seen(client, after="", types=[]) == ["run.completed"]
    assert (commands[0].get("after"), commands[0].get("types")) == ("", [])


async def test_the_last_word_on_a_connection_that_was_left_is_that_it_is_gone():
    connections: asyncio.Queue = asyncio.Queue()

    async def answer(request, connection):
        await connection.stream(hello(), event(1))
        await connection.gone()

    async with Server(answer) as server, client_of(server) as client, asyncio.timeout(PATIENCE_S):
        events = client.run("r").events(on_connection=connections.put_nowait)
        await anext(events)
        await events.aclose()
        while (last := await connections.get()).reason is None:
            pass
    assert (last.status, last.reason, connections.empty()) == ("disconnected", "aborted", True)


async def test_a_fault_of_the_callers_own_function_is_told_as_it_is():
    async def answer(request, connection):
        await connection.stream(hello(), completed(1))

    def on_connection(connection) -> None:
        if connection.status == "connected":
            raise KeyError("no such widget")

    async with Server(answer) as server, client_of(server) as client:
        with pytest.raises(KeyError, match="widget"):
            await seen(client, on_connection=on_connection)
        assert len(server.requests) == 1
