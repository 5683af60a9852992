"""What a WebSocket can do: prove who it is, start, watch, leave and cancel, also while it takes nothing."""

import asyncio
import json
import os
import struct

import pytest
import websockets

from tests.e2e.clients import (
    asked,
    authorization,
    by_sse,
    closed,
    eventually,
    finished,
    head,
    heard,
    opened,
    own,
    published,
    said,
    started,
    ticket,
    until_end,
)
from tests.e2e.process import SECRET, bearer, token

FORGED = token("alice")[:-4] + "AAAA"


async def test_no_authenticate_within_five_seconds_closes_4001(gateway):
    loop = asyncio.get_running_loop()
    async with opened(gateway, headers={}) as ws:
        began = loop.time()
        assert await closed(ws) == 4001
        assert 4 < loop.time() - began < 8


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"type": "authenticate", "token": "nonsense"}, 4001),
        ({"type": "authenticate", "token": FORGED}, 4001),
        ({"type": "authenticate", "token": ""}, 4001),
        ({"type": "authenticate", "token": None}, 4001),
        ({"type": "authenticate"}, 4001),
        ({"type": "ping"}, 4001),
        ({"type": "subscribe", "run": "x"}, 4001),
        ({"type": "nothing"}, 4001),
        ({"type": "authenticate", "token": token(ttl_s=-30)}, 4200),
    ],
    ids=["nonsense", "forged", "empty", "null", "no-token", "ping", "subscribe", "unknown", "expired"],
)
async def test_a_first_frame_that_proves_nothing_closes_the_socket(gateway, first, code):
    async with opened(gateway, headers={}) as ws:
        await said(ws, **first)
        assert await closed(ws) == code


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Authorization": "Bearer nonsense"}, 4001),
        ({"Authorization": f"Bearer {FORGED}"}, 4001),
        ({"Authorization": "Basic YTpi"}, 4001),
        (bearer(ttl_s=-30), 4200),
    ],
)
async def test_a_bad_header_is_accepted_and_closed_with_its_code(gateway, headers, code):
    async with websockets.connect(gateway.ws, additional_headers=headers) as ws:
        assert await closed(ws) == code


async def test_a_ticket_opens_one_socket_and_no_second(gateway, client):
    url = f"{gateway.ws}?ticket={await ticket(client)}"
    async with websockets.connect(url) as ws:
        assert (await heard(ws))["type"] == "hello"
        assert (await asked(ws, type="ping"))["ok"]
    async with websockets.connect(url) as ws:
        assert await closed(ws) == 4001


async def test_a_ticket_narrowed_to_runs_shows_no_others(gateway, client):
    one, other = await started(client, count=1), await started(client, count=1)
    async with websockets.connect(f"{gateway.ws}?ticket={await ticket(client, runs=[one])}") as ws:
        assert (await heard(ws))["type"] == "hello"
        assert (await asked(ws, type="subscribe", run=other))["error"]["code"] == "run.not_found"
        assert (await asked(ws, type="subscribe", run=one))["ok"]


async def test_a_ticket_narrowed_to_runs_starts_none_and_finds_none_by_its_key(gateway, client):
    one, body = await started(client, count=1), {"pipeline": "external", "input": {}}
    assert (await client.post("/runs", json=body, headers={"Idempotency-Key": "narrow"})).status_code == 201
    async with websockets.connect(f"{gateway.ws}?ticket={await ticket(client, runs=[one])}") as ws:
        assert (await heard(ws))["type"] == "hello"
        for key in ({}, {"key": "narrow"}):
            assert (await asked(ws, type="start", **body, **key))["error"]["code"] == "auth.forbidden"


async def test_a_jwt_in_the_url_is_refused(gateway):
    for name in ("token", "ticket", "access_token"):
        async with websockets.connect(f"{gateway.ws}?{name}={token()}", additional_headers=bearer()) as ws:
            assert await closed(ws) == 4001


async def test_another_subject_on_authenticate_closes_4003_and_a_bad_token_4001(gateway):
    for again, code in ((token("mallory"), 4003), (FORGED, 4001), (token(ttl_s=-9), 4200)):
        async with opened(gateway) as ws:
            reply = await asked(ws, type="authenticate", token=again, ref="a")
            assert (reply["ref"], reply["ok"]) == ("a", False)
            assert await closed(ws) == code


async def test_a_fresh_token_that_allows_less_ends_the_subscription(gateway, client):
    run = await started(client, "external")
    async with opened(gateway) as ws:
        await asked(ws, type="subscribe", run=run)
        assert (await asked(ws, type="authenticate", token=token(scope="runs:cancel")))["ok"]
        await published(client, run, {"type": "x.secret"})
        await said(ws, type="ping", ref="after")
        frames = [await heard(ws)]
        while frames[-1].get("ref") != "after":
            frames.append(await heard(ws))
        assert "x.secret" not in [frame["type"] for frame in frames]
        assert (await asked(ws, type="subscribe", run=run))["error"]["code"] == "auth.forbidden"
    await finished(client, run)


async def test_start_replies_the_run_before_its_first_event(gateway):
    async with opened(gateway) as ws:
        await said(ws, type="start", ref="s", pipeline="words", input={"count": 3})
        reply = await heard(ws)
        assert (reply["type"], reply["ref"], reply["ok"]) == ("reply", "s", True)
        events = await until_end(ws)
        assert {event["run"] for event in events} == {reply["run"]}
        assert events[0]["type"] == "run.queued"


async def test_start_with_the_same_key_is_the_same_run_and_another_body_a_conflict(gateway, client):
    command = {"type": "start", "pipeline": "external", "input": {"a": 1, "b": 2}, "key": "once"}
    async with opened(gateway) as ws, opened(gateway) as other:
        first = await asked(ws, **command)
        again = await asked(other, **{**command, "input": {"b": 2, "a": 1}})
        assert first["run"] == again["run"]
        conflict = await asked(ws, **{**command, "input": {}})
        assert conflict["error"]["code"] == "key.conflict"
        by_http = await client.post(
            "/runs", json={"pipeline": "external", "input": {"a": 1, "b": 2}}, headers={"Idempotency-Key": "once"}
        )
        assert (by_http.status_code, by_http.json()["id"]) == (200, first["run"])
        await finished(client, first["run"])
        assert (await until_end(ws))[-1] == (await until_end(other))[-1]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"pipeline": "nothing"}, "pipeline.unknown"),
        ({"pipeline": "words", "input": {"count": -1}}, "input.invalid"),
    ],
)
async def test_a_refused_start_says_why(gateway, command, code):
    async with opened(gateway) as ws:
        assert (await asked(ws, type="start", **command))["error"]["code"] == code


async def test_subscribe_again_goes_on_from_the_new_cursor(gateway, client):
    run = await started(client, count=10)
    past = own(await by_sse(client, run, replay="full"))
    live = await started(client, "external")
    async with opened(gateway) as ws:
        for after in (0, 5, 12, len(past) - 1):
            cursor = past[after - 1]["id"] if after else None
            await said(ws, type="subscribe", run=run, after=cursor, replay="full")
            assert await heard(ws) == {"type": "reply", "ok": True, "resume": "resumed" if after else "start"}
            assert await until_end(ws) == past[after:]
        await published(client, live, {"type": "x.a"})
        await asked(ws, type="subscribe", run=live, replay="full")
        first = [await heard(ws) for _ in range(3)]
        await said(ws, type="subscribe", run=live, after=first[0]["id"], replay="full")
        assert (await heard(ws))["resume"] == "resumed"
        assert [await heard(ws) for _ in range(2)] == first[1:]
        await published(client, live, {"type": "x.b"})
        assert (await heard(ws))["type"] == "x.b"
        await finished(client, live)
        assert (await heard(ws))["type"] == "run.completed"
        assert (await asked(ws, type="ping"))["ok"]


async def test_after_unsubscribe_nothing_more_of_that_run_comes(gateway, client):
    run, other = await started(client, "external"), await started(client, "external")
    async with opened(gateway) as ws:
        for each in (run, other):
            await asked(ws, type="subscribe", run=each, replay="none")
        assert (await asked(ws, type="unsubscribe", run=run, ref="u"))["ok"]
        assert (await asked(ws, type="unsubscribe", run=run))["ok"]
        await published(client, run, {"type": "x.gone"})
        await published(client, other, {"type": "x.here"})
        await finished(client, run)
        await finished(client, other)
        frames = await until_end(ws)
        assert {frame["run"] for frame in frames} == {other}
        assert "x.here" in [frame["type"] for frame in frames]


async def test_a_client_that_reads_nothing_while_a_run_floods_it_can_cancel(gateway, client):
    run = (await client.post("/runs", json={"pipeline": "forever", "input": {"gap_s": 0.001}})).json()["id"]
    flood = await started(client, "external")
    blob = {"type": "x.blob", "data": "y" * 60_000}
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    writer.write(head("GET", "/ws", authorization(), key, *upgrade))
    await asyncio.wait_for(reader.readuntil(b"retry_ms"), 10)

    def send(**command) -> None:
        body, mask = json.dumps(command).encode().ljust(126), os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(body))
        writer.write(b"\x81" + struct.pack("!BH", 0xFE, len(body)) + mask + masked)

    send(type="subscribe", run=flood, replay="full")
    send(type="subscribe", run=run, replay="full")
    for _ in range(20):
        assert (await published(client, flood, *[blob] * 10)).status_code == 202
    for number in range(50):
        writer.write(b"\x89\x84\x00\x00\x00\x00%04d" % number)  # pings, whose answers pile up too
    send(type="cancel", run=run, reason="drowning")

    async def ended():
        state = (await client.get(f"/runs/{run}")).json()
        return state["status"] == "cancelled"

    await eventually(ended)
    assert (await by_sse(client, run, replay="none"))[-1]["reason"] == "drowning"
    writer.transport.abort()
    await finished(client, flood)


async def test_no_secret_is_in_the_log(gateway):
    assert SECRET not in gateway.output
    assert FORGED not in gateway.output
