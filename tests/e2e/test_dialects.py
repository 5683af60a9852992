"""Dialects over a real gateway: every one of them, resumed anywhere, live and past."""

import asyncio
import json
import subprocess

import pytest

from tests.e2e.clients import (
    STREAM,
    assert_problem,
    authorization,
    by_sse,
    caller,
    finished,
    own,
    published,
    served,
    started,
)
from tests.e2e.foreign import FAILURE, FOREIGN, WORK, made, read
from tests.wire.sse_parser import Message, parse

foreign = pytest.mark.parametrize("dialect", FOREIGN)


@pytest.fixture
async def failed(client):
    """A run with something of everything, which failed."""
    return await made(client, status="failed", error=FAILURE)


def shown(messages: list[Message]) -> list[tuple[str, dict]]:
    return [(message.event, json.loads(message.data)) for message in messages]


@foreign
async def test_curl_gets_each_dialect_without_an_accept_header(gateway, client, failed, dialect):
    url = f"{gateway.url}/runs/{failed}/events?replay=full&dialect={dialect}"
    process = await asyncio.create_subprocess_exec(
        "curl", "-sN", "--max-time", "10", "-H", authorization(), url, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    parsed = parse(output)
    events = {event["id"]: event for event in own(await by_sse(client, failed, replay="full"))}
    assert [message.last_event_id for message in parsed.messages] == [
        id for id in events if id in {message.last_event_id for message in parsed.messages}
    ]
    assert len(parsed.retries) == 1
    (hello,) = parsed.comments
    assert hello.startswith('hello {"type":"hello"')
    assert parsed.messages[-1].last_event_id == list(events)[-1]


async def test_each_dialect_says_what_the_protocol_says(client, failed):
    said = {
        d: shown((await read(client, f"/runs/{failed}/events", replay="full", dialect=d)).messages) for d in FOREIGN
    }
    assert [event for event, _ in said["content"]] == ["progress", "draft", "progress", "error"]
    assert said["content"][-1][1] == {"message": "No luck.", "stage": "editor", "retryable": True}
    assert [event for event, _ in said["workflow"]] == [
        "WorkflowStarted", "WorkflowStepStarted", "WorkflowLLMCallCompleted", "WorkflowStepCompleted", "WorkflowFailed",
    ]  # fmt: skip
    assert all(fields["type"] == event and fields["run"] == failed for event, fields in said["workflow"])
    assert said["workflow"][2][1]["cost"] == 0.5
    assert said["plain"] == [
        ("message", {"step": "writer", "progress": 10, "stats": {"words": 1}, "message": "Writing"}),
        ("message", {"blockId": "b", "delta": "one\ntwo \u2028", "cites": [{"key": "1", "source": "s"}]}),
        ("message", {"step": "editor", "progress": 90, "message": "Editing"}),
        ("message", {"blockId": "c", "delta": "three", "done": True}),
        ("message", {"step": "error", "message": "No luck.", "blockId": "c", "error": "No luck."}),
    ]


async def test_a_completed_run_says_so_in_each_dialect(client):
    run = await made(client, result={"markdown": "# Hi", "doc_id": "d-1", "words": 1})
    last = {d: shown((await read(client, f"/runs/{run}/events", dialect=d)).messages)[-1] for d in FOREIGN}
    output = {"success": True, "output": "# Hi", "metadata": {"doc_id": "d-1", "words": 1}}
    assert last["content"] == ("complete", output)
    assert last["plain"] == ("message", {"step": "done", "progress": 100, "docId": "d-1"})
    assert last["workflow"][0] == last["workflow"][1]["type"] == "WorkflowCompleted"


@foreign
@pytest.mark.parametrize("types", [None, "progress", "x.own"])
async def test_a_resume_at_any_cursor_goes_on_as_the_whole_does(client, failed, dialect, types):
    filtered = {} if types is None else {"types": types}
    params = {"replay": "full", "dialect": dialect, **filtered}
    whole = (await read(client, f"/runs/{failed}/events", **params)).messages
    for event in own(await by_sse(client, failed, replay="full")):
        rest = [m for m in whole if int(m.last_event_id.split("-")[1]) > int(event["id"].split("-")[1])]
        resumed = await read(client, f"/runs/{failed}/events", after=event["id"], **params)
        assert resumed.messages == rest
        assert not resumed.comments or '"resume":"resumed"' in resumed.comments[0]
        assert (await read(client, f"/runs/{failed}/events", **params, after=event["id"])).messages == rest
    none = await read(client, f"/runs/{failed}/events", dialect=dialect, replay="none")
    assert none.messages == whole[-1:]


@foreign
@pytest.mark.parametrize("replay", ["full", "folded", "none"])
async def test_a_live_run_is_told_as_the_finished_one_is(client, dialect, replay):
    run = await started(client, "external")
    await published(client, run, *WORK[:5])

    async def follow():
        return await read(client, f"/runs/{run}/events", dialect=dialect, replay=replay)

    async with asyncio.TaskGroup() as group:
        following = group.create_task(follow())
        await asyncio.sleep(0.5)
        await finished(client, run, status="failed", error=FAILURE)
    whole = (await read(client, f"/runs/{run}/events", dialect=dialect, replay="full")).messages
    if replay == "full":
        assert following.result().messages == whole
    assert following.result().messages[-1] == whole[-1]


@foreign
async def test_a_run_is_started_and_streamed_in_each_dialect(client, dialect):
    answer = await client.post(f"/run/stream?dialect={dialect}", json={"pipeline": "words", "input": {"count": 3}})
    run = answer.headers["x-run-id"]
    told = parse(answer.content)
    assert told.comments[0].startswith("hello ")
    assert told.messages == (await read(client, f"/runs/{run}/events", dialect=dialect, replay="full")).messages


@foreign
async def test_a_gap_is_a_comment_and_all_that_is_held_follows(client, failed, dialect):
    whole = await read(client, f"/runs/{failed}/events", dialect=dialect, replay="full")
    parsed = await read(client, f"/runs/{failed}/events", dialect=dialect, replay="full", after="zzz-3")
    assert [comment.split()[0] for comment in parsed.comments] == ["hello", "gap"]
    assert parsed.messages == whole.messages


@pytest.mark.parametrize("path", ["/runs/{}/events", "/events", "/api/autopilot/stream"])
async def test_a_dialect_that_is_none_is_input_invalid(client, failed, path):
    for dialect in ("klingon", ""):
        named = {"run": failed} if path == "/events" else {"taskId": failed} if path.startswith("/api") else {}
        answer = await client.get(path.format(failed), params={"dialect": dialect, **named})
        assert_problem(answer, 422, "input.invalid")


async def test_several_runs_are_native_alone(client, failed):
    for dialect in FOREIGN:
        answer = await client.get("/events", params={"run": failed, "dialect": dialect})
        assert_problem(answer, 422, "input.invalid")
    native = await client.get("/events", params={"run": failed, "dialect": "native"})
    assert parse(native.content).messages[0].event == "hello"


async def test_heartbeats_are_events_in_workflow_and_comments_elsewhere(tmp_path):
    with served(tmp_path, heartbeat_s=0.2) as gateway:
        async with caller(gateway) as client:
            run = await started(client, "external")
            async with asyncio.TaskGroup() as group:
                reading = {d: group.create_task(read(client, f"/runs/{run}/events", dialect=d)) for d in FOREIGN}
                await asyncio.sleep(1)
                await finished(client, run)
        for dialect, task in reading.items():
            beats = [message for message in task.result().messages if message.event == "Heartbeat"]
            comments = [comment for comment in task.result().comments if comment.startswith("heartbeat ")]
            assert (bool(beats), bool(comments)) == ((True, False) if dialect == "workflow" else (False, True))


async def test_a_refusal_that_can_be_tried_again_is_spelled_in_the_dialect(tmp_path):
    with served(tmp_path, max_connections_per_subject=1) as gateway:
        async with caller(gateway) as client:
            run = await started(client, "external")
            async with client.stream("GET", f"/runs/{run}/events", headers=STREAM):
                for path in (f"/runs/{run}/events?dialect=plain", f"/api/autopilot/stream?taskId={run}"):
                    refused = parse((await client.get(path, headers=STREAM)).content)
                    assert [comment.split()[0] for comment in refused.comments] == ["hello", "reconnect"]
                    assert refused.messages == []
            await finished(client, run)


async def test_who_asks_too_often_is_told_in_the_dialect(tmp_path):
    with served(tmp_path, rate_limit="1/h") as gateway:
        async with caller(gateway) as client:
            await client.get("/runs")
            for path in ("/runs/a/events?dialect=plain", "/api/autopilot/stream?taskId=a"):
                refused = parse((await client.get(path, headers=STREAM)).content)
                assert [comment.split()[0] for comment in refused.comments] == ["hello", "reconnect"]
                assert refused.messages == []
