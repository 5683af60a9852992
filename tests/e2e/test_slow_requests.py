"""A request has its time to come in whole, and whatever it has opened is not held to that."""

import asyncio
import contextlib

import pytest

from tests.e2e.clients import UPGRADE, asked, authorization, by_sse, caller, head, opened, served


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("gateway"), request_timeout_s=0.6) as running:
        yield running


SLOW = {
    "nothing": (b"", b""),
    "half-a-head": (b"GET /pipelines HTTP/1.1\r\nHost: a\r\n", b"X-Slow: 1\r\n"),
    "half-a-handshake": (head("GET", "/ws", authorization(), *UPGRADE)[:-2], b"X-Slow: 1\r\n"),
    "half-a-body": (head("POST", "/runs", authorization(), "Content-Length: 100000"), b"x"),
    "half-a-chunk": (head("POST", "/runs", authorization(), "Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
    "a-body-nobody-takes": (head("GET", "/pipelines", authorization(), "Content-Length: 100000"), b"x"),
}


@pytest.mark.parametrize(("begun", "drip"), SLOW.values(), ids=SLOW)
async def test_a_request_that_drips_in_is_cut_off(gateway, begun, drip):
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(begun)
    ended = asyncio.ensure_future(_until_end(reader))
    async with asyncio.timeout(10):
        while not ended.done():
            writer.write(drip)
            await asyncio.wait({ended}, timeout=0.05)
    writer.close()
    assert ended.result() == b"", "nothing is answered to half a request"


async def _until_end(reader) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := await reader.read(65536):
            received += part
    return received


async def test_a_second_request_that_drips_in_is_cut_off_and_silence_between_two_is_not(gateway):
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    whole = head("GET", "/healthz", "Connection: keep-alive")
    for _ in range(2):
        writer.write(whole)
        assert b'"status":"ok"' in await asyncio.wait_for(reader.readuntil(b"}"), 5)
        await asyncio.sleep(1.2)  # twice what a request may take
    writer.write(whole[:20])
    async with asyncio.timeout(10):
        await _until_end(reader)
    writer.close()


async def test_a_stream_a_socket_and_a_run_that_is_waited_for_outlive_the_time_of_a_request(gateway):
    async with caller(gateway, "patient") as client:
        body = {"pipeline": "words", "input": {"count": 4, "gap_s": 0.4}}
        waiting = asyncio.ensure_future(client.post("/run", json=body))
        async with opened(gateway, "patient") as ws:
            reply = await asked(ws, type="start", **body)
            frames = await by_sse(client, reply["run"])
            assert frames[-1]["type"] == "run.completed"
            assert (await waiting).status_code == 200
            assert (await asked(ws, type="ping"))["ok"]
