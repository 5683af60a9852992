"""One stream, many ways in: the same events with the same ids, wherever and however a client joins."""

import asyncio
import json
import subprocess

import pytest

from tests.e2e.clients import (
    STREAM,
    authorization,
    by_poll,
    by_socket,
    by_sse,
    finished,
    own,
    published,
    started,
    terminals,
)

BAD_CURSORS = {
    "malformed": "abc",
    "no-offset": "abc-",
    "no-epoch": "-3",
    "offset-zero": "{epoch}-0",
    "leading-zero": "{epoch}-01",
    "negative": "{epoch}--1",
    "beyond-the-tail": "{epoch}-99999",
    "beyond-any-number": "{epoch}-" + "9" * 40,
    "another-epoch": "zzzzzz0-3",
    "upper-case": "ABC-3",
    "spaces": " {epoch}-3",
    "long": "x" * 2000,
    "composite": "{epoch}-3~{epoch}-3",
    "json": '{{"a":1}}',
    "latin": "caf\xe9-1",
}


@pytest.fixture
async def past(client):
    """A finished run and all of its events."""
    run = await started(client, count=8)
    return run, own(await by_sse(client, run, replay="full"))


def folded(events: list[dict]) -> dict:
    """What a client knows after these events."""
    known: dict = {"blocks": {}, "ended": [], "stages": []}
    for event in events:
        if event["type"] == "delta":
            known["blocks"][event["block"]] = known["blocks"].get(event["block"], "") + event["delta"]
        elif event["type"] == "progress":
            known["progress"] = (event["stage"], event["progress"], event["message"])
        elif event["type"] == "draft":
            known.setdefault("drafts", {})[event["stage"]] = event["draft"]
        elif event["type"].startswith("run."):
            known["ended"].append(event["type"])
        else:
            known["stages"].append((event["type"], event["stage"]))
    return known


async def test_curl_sees_the_same_events(client, gateway, past):
    run, events = past
    command = ["curl", "-sN", "--max-time", "10", "-H", "Accept: text/event-stream", "-H", authorization()]
    process = await asyncio.create_subprocess_exec(
        *command, f"{gateway.url}/runs/{run}/events?replay=full", stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    frames = output.decode().split("\n\n")
    assert frames[0].startswith("retry: ")
    told = [dict(line.split(": ", 1) for line in frame.splitlines()) for frame in frames[1:] if frame]
    assert [json.loads(frame["data"]) for frame in told] == events
    assert [frame["id"] for frame in told] == [event["id"] for event in events]
    assert [frame["event"] for frame in told] == [event["type"] for event in events]


async def test_a_live_run_is_the_same_on_every_transport(client, gateway):
    run = await started(client, count=40, gap_s=0.01)
    sse, socket, polled, one_by_one = await asyncio.gather(
        by_sse(client, run, replay="full"),
        by_socket(gateway, run, replay="full"),
        by_poll(client, run, replay="full"),
        by_poll(client, run, replay="full", limit=1),
    )
    assert own(sse) == socket == polled == one_by_one
    assert [int(event["id"].split("-")[1]) for event in socket] == list(range(1, len(socket) + 1))
    assert len(terminals(socket)) == 1


@pytest.mark.parametrize("replay", ["full", "folded", "none"])
async def test_a_finished_run_can_be_joined_at_every_cursor(client, gateway, past, replay):
    run, events = past
    for position in range(len(events) + 1):
        after = {"after": events[position - 1]["id"]} if position else {}
        sse = own(await by_sse(client, run, replay=replay, **after))
        socket = await by_socket(gateway, run, replay=replay, **after) if position < len(events) else []
        assert sse == socket == await by_poll(client, run, replay=replay, **after)
        if replay == "none" and not position:
            assert sse == events[-1:]
        elif replay == "folded":
            assert folded(events[:position] + sse) == folded(events)
            assert {event["id"] for event in sse} <= {event["id"] for event in events[position:]}
        else:  # a cursor beats `none`, which then counts as folded
            assert replay == "none" or sse == events[position:]
            assert folded(events[:position] + sse) == folded(events)


async def test_every_prefix_of_a_folded_stream_is_a_state_of_the_full_one(client, past):
    run, events = past
    sent = own(await by_sse(client, run, replay="folded"))
    assert len(sent) <= len(events)
    for count in range(1, len(sent) + 1):
        offset = int(sent[count - 1]["id"].split("-")[1])
        assert folded(sent[:count]) == folded(events[:offset])


@pytest.mark.parametrize("replay", ["full", "folded", "none"])
async def test_a_running_run_can_be_joined_at_every_cursor(client, gateway, replay):
    run = await started(client, "external")
    for number in range(6):
        await published(client, run, {"type": "delta", "block": "b", "delta": f"{number} "})
    held = (await client.get(f"/runs/{run}/events", params={"replay": "full"})).json()["events"]
    joins = [{"after": event["id"]} for event in held] + [{}]
    async with asyncio.TaskGroup() as group:
        sse = [group.create_task(by_sse(client, run, replay=replay, **join)) for join in joins]
        socket = [group.create_task(by_socket(gateway, run, replay=replay, **join)) for join in joins]
        await asyncio.sleep(0.3)
        for number in range(6, 9):
            await published(client, run, {"type": "delta", "block": "b", "delta": f"{number} "})
        await finished(client, run)
    events = own(await by_sse(client, run, replay="full"))
    for position, (by_http, by_ws) in enumerate(zip(sse, socket, strict=True), start=1):
        got = own(by_http.result())
        assert got == by_ws.result()
        if position <= len(held):
            assert folded(events[:position] + got) == folded(events)
            assert replay != "full" or got == events[position:]
        else:
            assert got == (events[len(held) :] if replay == "none" else got)
            assert replay == "none" or folded(got) == folded(events)


async def test_last_event_id_beats_after(client, past):
    run, events = past
    got = await by_sse(client, run, headers={"Last-Event-ID": events[4]["id"]}, after=events[1]["id"], replay="full")
    assert own(got) == events[5:]
    assert (
        own(await by_sse(client, run, headers={"Last-Event-ID": ""}, after=events[1]["id"], replay="full"))
        == events[2:]
    )


@pytest.mark.parametrize("after", ["", "0"])
async def test_an_empty_cursor_is_the_start(client, past, after):
    run, events = past
    got = await by_sse(client, run, after=after, replay="full")
    assert got[0]["resume"] == "start"
    assert got[1:] == events


async def test_at_the_end_of_a_finished_run_it_is_204(client, past):
    run, events = past
    last = events[-1]["id"]
    for params, headers in (
        ({"after": last}, STREAM),
        ({}, {**STREAM, "Last-Event-ID": last}),
        ({"after": last, "dialect": "native"}, {}),
    ):
        answer = await client.get(f"/runs/{run}/events", params=params, headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await client.head(f"/runs/{run}/events", params=params, headers=headers)).status_code == 204
    polled = (await client.get(f"/runs/{run}/events", params={"after": last})).json()
    assert (polled["events"], polled["done"], polled["cursor"], polled["resume"]) == ([], True, last, "resumed")


async def test_head_gives_the_headers_alone_and_leaves_nothing_open(client):
    run = await started(client, "external")
    answer = await client.head(f"/runs/{run}/events", headers=STREAM)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    await finished(client, run)


async def test_a_types_filter_lets_lifecycle_and_control_pass(client, gateway, past):
    run, events = past
    wanted = [event for event in events if event["type"] == "delta" or event["type"].startswith("run.")]
    for replay in ("full", "folded"):
        sse = await by_sse(client, run, types="delta", replay=replay)
        assert sse[0]["type"] == "hello"
        assert own(sse) == await by_socket(gateway, run, types=["delta"], replay=replay)
        assert own(sse) == await by_poll(client, run, types="delta", replay=replay)
        assert folded(own(sse)) == folded(wanted)
    assert own(await by_sse(client, run, types="delta", replay="full")) == wanted
    assert [event["type"] for event in await by_poll(client, run, types="")] == [
        "run.queued",
        "run.started",
        "run.completed",
    ]


@pytest.mark.parametrize("cursor", BAD_CURSORS.values(), ids=BAD_CURSORS)
async def test_a_bad_cursor_is_a_gap_and_then_all_that_is_held(client, gateway, past, cursor):
    run, events = past
    bad = cursor.format(epoch=events[0]["id"].split("-")[0])
    gap = {"type": "gap", "run": run, "after": bad, "from": events[0]["id"]}
    sse = await by_sse(client, run, after=bad, replay="full")
    assert sse[0]["resume"] == "gap"
    assert sse[1:] == [gap, *events]
    if bad.isascii() and bad == bad.strip():
        assert (await by_sse(client, run, headers={"Last-Event-ID": bad}, replay="full"))[1:] == [gap, *events]
    polled = (await client.get(f"/runs/{run}/events", params={"after": bad, "replay": "full"})).json()
    assert (polled["resume"], polled["events"]) == ("gap", [gap, *events])
    assert await by_socket(gateway, run, after=bad, replay="full") == [gap, *events]
