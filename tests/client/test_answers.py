"""Requests whose answers are lost, swallowed or somebody else's."""

import asyncio

import pytest

from runcast import Client, NotFound, Unreachable
from tests.client.scripted import PATIENCE_S, Server, Socket, event, problem, told

pytestmark = pytest.mark.usefixtures("impatient")


async def test_an_erasure_whose_answer_was_lost_has_gone_well():
    async def answer(request, connection):
        if len(server.requests) > 1:
            return problem(404, "run.not_found")
        return connection.cut()

    async with Server(answer) as server, Client(server.url, token="t") as client, asyncio.timeout(PATIENCE_S):
        await client.run("r").erase()
        assert len(server.asked("DELETE", "r")) == 2
        with pytest.raises(NotFound):  # it was never there
            await client.run("r").erase()


@pytest.mark.parametrize(
    "ask, lacking",
    [
        (lambda client: client.start("words"), {}),
        (lambda client: client.pipelines(), {"pipelines": [1]}),
        (lambda client: anext(client.runs()), {"runs": None, "next": None}),
        (lambda client: client.run("r").state(), {"id": None}),
        (lambda client: client.run("r").cancel(), {}),
        (lambda client: client.run("r").pause(), {}),
        (lambda client: client.run("r").resume(), {}),
        (lambda client: client.run("r").retry(), {}),
    ],
    ids=["start", "pipelines", "runs", "state", "cancel", "pause", "resume", "retry"],
)
async def test_json_that_no_gateway_says_is_nobody_there(ask, lacking):
    async def answer(request, connection):
        return told(bodies[len(server.requests) - 1])

    bodies = [[], None, "hello", lacking]
    async with (
        Server(answer) as server,
        Client(server.url, token="t", attempts=1) as client,
        asyncio.timeout(PATIENCE_S),
    ):
        for _ in bodies:
            with pytest.raises(Unreachable, match="not as a Runcast gateway"):
                await ask(client)


async def test_sockets_that_swallow_a_command_are_waited_for_together(monkeypatch):
    """However many follow the run; then it goes another way."""
    monkeypatch.setattr("runcast.client.REPLY_WITHIN_S", 0.2)
    swallowed = []

    async def answer(request, connection):
        if request.method == "POST":
            return told({"status": "cancelling"}, 202)
        socket = Socket(request, connection)
        await socket.joined(event(1))
        while (command := await socket.heard()) is not None:
            swallowed.append(command["type"])
        return None

    async with (
        Server(answer) as server,
        Client(server.url, token="t", transports=["websocket"]) as client,
        asyncio.timeout(PATIENCE_S),
    ):
        followed = [client.run("r").events() for _ in range(3)]
        for events in followed:
            await anext(events)
        assert (await client.run("r").cancel()).status == "cancelling"
        assert (swallowed, len(server.asked("POST", "cancel"))) == (["cancel"], 1)
        for events in followed:
            await events.aclose()
