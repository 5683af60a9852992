"""Under another ASGI server everything goes through ASGI, and behaves the same."""

import json

import httpx
import pytest
import websockets

from tests.e2e.clients import authorization, exchange, head
from tests.e2e.process import GatewayProcess, bearer


class UnderHypercorn(GatewayProcess):
    command = ("hypercorn", "gateway.asgi:app", "--access-logfile", "/dev/null")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    running = UnderHypercorn(tmp_path_factory.mktemp("asgi"), cancel_grace_s=0.5, request_timeout_s=1).start()
    yield running
    running.stop()


@pytest.fixture
async def client(other):
    async with httpx.AsyncClient(base_url=other.url, headers=bearer(), timeout=20) as client:
        yield client


async def test_sse_and_websocket_carry_the_same_events(client, other):
    run = (await client.post("/runs", json={"pipeline": "words", "input": {"count": 30, "gap_s": 0.01}})).json()["id"]
    stream = await client.get(f"/runs/{run}/events", params={"replay": "full"}, headers={"Accept": "text/event-stream"})
    by_sse = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: ")]
    assert by_sse[0]["type"] == "hello"
    assert by_sse[-1]["type"] == "run.completed"
    async with websockets.connect(other.ws, additional_headers=bearer()) as socket:
        await socket.send(json.dumps({"type": "subscribe", "run": run, "replay": "full"}))
        by_ws = [json.loads(await socket.recv()) for _ in range(len(by_sse) + 1)]
    assert [frame for frame in by_ws if "id" in frame] == by_sse[1:]


async def test_a_live_run_is_cancelled_over_its_socket(client, other):
    async with websockets.connect(other.ws, additional_headers=bearer()) as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "start", "pipeline": "forever", "input": {}}))
        run = json.loads(await socket.recv())["run"]
        await socket.send(json.dumps({"type": "cancel", "run": run, "reason": "enough"}))
        types = []
        while "run.cancelled" not in types:
            types.append(json.loads(await socket.recv())["type"])
    assert types.count("run.cancelling") == 1


async def test_refusals_close_with_their_code(other):
    async with websockets.connect(other.ws, additional_headers={"Authorization": "Bearer nonsense"}) as socket:
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd.code == 4001


async def test_a_body_that_does_not_come_in_is_refused_and_is_no_fault_of_ours(other):
    answer = exchange(other, head("POST", "/runs", authorization(), "Content-Length: 1000") + b"{")
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert not other.faults()
