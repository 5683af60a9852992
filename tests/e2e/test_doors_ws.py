"""Bad input at the WebSocket door: answered, counted, and closed with the code that says what to do."""

import asyncio
import contextlib
import json
import socket

import httpx
import pytest
import websockets

from tests.e2e.clients import (
    UPGRADE,
    asked,
    authorization,
    caller,
    closed,
    exchange,
    finished,
    head,
    heard,
    opened,
    said,
    started,
)
from tests.e2e.process import bearer, token

INVALID = {
    "binary": b'{"type":"ping"}',
    "empty-binary": b"",
    "empty": "",
    "not-json": "ping",
    "array": '[{"type":"ping"}]',
    "string": '"ping"',
    "null": "null",
    "no-type": "{}",
    "type-null": '{"type":null}',
    "type-array": '{"type":["ping"]}',
    "type-object": '{"type":{}}',
    "unknown-type": '{"type":"shutdown"}',
    "event-type": '{"type":"run.completed"}',
    "endless": "[" * 100_000,
    "too-deep": '{"type":"ping","x":' + "[" * 400 + "]" * 400 + "}",
}
WRONG = {
    "unknown-field": {"type": "ping", "more": 1},
    "ref-too-long": {"type": "ping", "ref": "r" * 65},
    "ref-number": {"type": "ping", "ref": 1},
    "no-run": {"type": "subscribe"},
    "run-number": {"type": "subscribe", "run": 1},
    "replay": {"type": "subscribe", "run": "x", "replay": "all"},
    "types-text": {"type": "subscribe", "run": "x", "types": "delta"},
    "types-unknown": {"type": "subscribe", "run": "x", "types": ["nothing"]},
    "after-number": {"type": "subscribe", "run": "x", "after": 3},
    "no-pipeline": {"type": "start"},
    "input": {"type": "start", "pipeline": "words", "input": []},
    "options": {"type": "start", "pipeline": "words", "options": {"timeout_s": -1}},
    "key": {"type": "start", "pipeline": "words", "key": ""},
    "owner": {"type": "start", "pipeline": "words", "owner": "bob"},
    "reason": {"type": "cancel", "run": "x", "reason": "y" * 501},
}


@pytest.fixture
async def ws(gateway):
    async with opened(gateway) as ws:
        yield ws


@pytest.mark.parametrize("frame", INVALID.values(), ids=INVALID)
async def test_what_is_no_command_is_frame_invalid_and_the_socket_stays(ws, frame):
    await ws.send(frame)
    reply = await heard(ws)
    assert (reply["type"], reply["ok"], reply["error"]["code"]) == ("reply", False, "frame.invalid")
    assert reply["error"].keys() >= {"code", "title", "retryable"}
    assert await asked(ws, type="ping", ref="still") == {"type": "reply", "ref": "still", "ok": True}


@pytest.mark.parametrize("command", WRONG.values(), ids=WRONG)
async def test_a_command_with_wrong_fields_is_input_invalid_with_its_ref(ws, command):
    reply = await asked(ws, **{"ref": "mine", **command})
    assert (reply["ok"], reply["error"]["code"]) == (False, "input.invalid")
    assert reply["error"]["errors"]
    assert reply.get("ref") == (
        command["ref"] if command.get("ref") == "mine" else None if "ref" in command else "mine"
    )
    assert (await asked(ws, type="ping"))["ok"]


async def test_nine_invalid_frames_and_a_good_one_start_the_count_anew(ws):
    for _ in range(3):
        for _ in range(9):
            await ws.send("nonsense")
            assert (await heard(ws))["error"]["code"] == "frame.invalid"
        assert (await asked(ws, type="ping"))["ok"]


async def test_ten_invalid_frames_in_a_row_are_answered_and_close_4000(ws):
    for _ in range(10):
        await ws.send(b"\x00")
    for _ in range(10):
        assert (await heard(ws))["error"]["code"] == "frame.invalid"
    assert await closed(ws) == 4000


async def test_commands_that_are_refused_do_not_count_as_invalid_frames(ws):
    for _ in range(15):
        assert not (await asked(ws, type="cancel", run="nothing"))["ok"]
    assert (await asked(ws, type="ping"))["ok"]


@pytest.mark.parametrize("fragments", [1, 40], ids=["one-frame", "fragmented"])
async def test_a_message_over_the_limit_closes_1009(gateway, ws, fragments):
    size = 1_048_576 // fragments + 1
    with contextlib.suppress(websockets.ConnectionClosed):
        await ws.send("x" * size if fragments == 1 else ["x" * size for _ in range(fragments)])
    assert await closed(ws) == 1009
    assert httpx.get(f"{gateway.url}/healthz").status_code == 200


async def test_a_message_just_below_the_limit_is_taken(ws):
    padding = " " * (1_048_576 - 20)
    await ws.send('{"type":"ping"}' + padding)
    assert (await heard(ws))["ok"]


async def test_a_command_in_many_fragments_is_one_command(ws):
    await ws.send(list('{"type":"ping","ref":"slow"}'))
    assert await heard(ws) == {"type": "reply", "ref": "slow", "ok": True}


async def test_a_command_that_arrives_byte_by_byte_is_one_command(gateway):
    body = b'{"type":"ping","ref":"drip"}'
    frame = bytes((0x81, 0x80 | len(body), 0, 0, 0, 0)) + body
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head("GET", "/ws", authorization(), *UPGRADE))
    await asyncio.wait_for(reader.readuntil(b'"retry_ms":'), 10)
    for byte in frame:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.005)
    assert b'"ref":"drip","ok":true' in await asyncio.wait_for(reader.readuntil(b"true}"), 10)
    writer.close()


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\x81\x02hi", id="not-masked"),
        pytest.param(b"\xf1\x80\x00\x00\x00\x00", id="reserved-bits"),
        pytest.param(b"\x83\x80\x00\x00\x00\x00", id="no-such-opcode"),
        pytest.param(b"\x80\x80\x00\x00\x00\x00", id="continues-nothing"),
        pytest.param(b"\x09\x80\x00\x00\x00\x00", id="ping-in-fragments"),
        pytest.param(b"\x81\x82\x00\x00\x00\x00\xff\xfe", id="not-utf-8"),
        pytest.param(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", id="impossible-length"),
    ],
)
async def test_what_is_no_websocket_frame_ends_the_connection(gateway, frame):
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain:
        plain.sendall(head("GET", "/ws", authorization(), *UPGRADE))
        received = b""
        while b"retry_ms" not in received:
            received += plain.recv(65536)
        plain.sendall(frame)
        while plain.recv(65536):
            pass


async def test_half_a_frame_and_then_nothing_leaves_the_gateway_well(gateway):
    for cut in (b"\x81", b"\x81\xfe\x00", b"\x81\x85\x00\x00\x00\x00{", b"\x01\x81\x00\x00\x00\x00{"):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain:
            plain.sendall(head("GET", "/ws", authorization(), *UPGRADE) + cut)
            await asyncio.sleep(0.02)
    async with opened(gateway) as ws:
        assert (await asked(ws, type="ping"))["ok"]


async def test_missing_scopes_are_replied_and_the_socket_stays(gateway):
    async with caller(gateway) as alice:
        run = await started(alice, "external")
        async with opened(gateway, headers=bearer("alice", "runs:publish")) as ws:
            for command in (
                {"type": "subscribe", "run": run},
                {"type": "cancel", "run": run},
                {"type": "start", "pipeline": "words"},
                {"type": "cancel", "run": "nothing"},
            ):
                reply = await asked(ws, **command)
                assert (reply["ok"], reply["error"]["code"]) == (False, "auth.forbidden")
        await finished(alice, run)


async def test_anothers_run_is_run_not_found_as_one_that_is_not_there(gateway):
    async with caller(gateway) as alice, opened(gateway, "mallory") as ws:
        run = await started(alice, "external")
        for command in ("subscribe", "cancel"):
            theirs, none = await asked(ws, type=command, run=run), await asked(ws, type=command, run="0" * 36)
            assert theirs == none
            assert theirs["error"]["code"] == "run.not_found"
        assert (await alice.get(f"/runs/{run}")).json()["status"] == "running"
        await finished(alice, run)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example", ""]
)
async def test_a_foreign_origin_is_refused_at_the_handshake(gateway, origin):
    request = head("GET", "/ws", authorization(), f"Origin: {origin}", *UPGRADE).replace(
        b"Host: 127.0.0.1", f"Host: 127.0.0.1:{gateway.port}".encode()
    )
    answer = exchange(gateway, request, until=b"}")
    assert answer.startswith(b"HTTP/1.1 403"), answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "auth.forbidden"


async def test_an_origin_of_the_same_host_is_welcome(gateway):
    async with opened(gateway, origin=gateway.url) as ws:
        assert (await asked(ws, type="ping"))["ok"]


async def test_the_subprotocol_is_taken_when_offered_and_never_invented(gateway):
    for offered, taken in ((["runcast.v1"], "runcast.v1"), (["x", "runcast.v1"], "runcast.v1"), (["graphql-ws"], None)):
        try:
            async with opened(gateway, subprotocols=offered) as ws:
                assert ws.subprotocol == taken
        except websockets.NegotiationError:
            assert taken is None


async def test_deflate_is_never_negotiated(gateway):
    async with opened(gateway, compression="deflate") as ws:
        assert ws.response.headers.get("Sec-WebSocket-Extensions") is None
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    answer = exchange(gateway, head("GET", "/ws", authorization(), offer, *UPGRADE), until=b"hello")
    assert b"101" in answer
    assert b"extensions" not in answer.lower()


async def test_a_handshake_anywhere_else_is_refused_as_http(gateway):
    for path in ("/nothing", "/runs", "/healthz", "/ws/"):
        answer = exchange(gateway, head("GET", path, authorization(), *UPGRADE), until=b"}")
        assert answer.startswith(b"HTTP/1.1 4"), (path, answer[:300])
        assert b"Traceback" not in answer


async def test_the_socket_address_without_an_upgrade_is_a_problem(gateway):
    answer = httpx.get(f"{gateway.url}/ws", headers=bearer())
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_ping_frame_is_ponged(ws):
    await asyncio.wait_for(await ws.ping(b"here"), 5)


async def test_a_client_that_sends_and_leaves_at_once_is_no_fault(gateway):
    for _ in range(20):
        async with opened(gateway) as ws:
            await said(ws, type="start", pipeline="words", input={"count": 3})
            await said(ws, type="authenticate", token=token())
