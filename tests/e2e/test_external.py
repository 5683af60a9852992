"""External runs: events from outside, all or nothing, once each; and their end."""

import asyncio
import json

import pytest

from tests.e2e.clients import (
    assert_problem,
    by_sse,
    caller,
    eventually,
    finished,
    own,
    published,
    served,
    started,
    terminals,
)

GOOD = {"type": "x.good"}
BAD = {
    "no-type": {},
    "type-number": {"type": 1},
    "lifecycle": {"type": "run.completed", "result": 1, "duration_ms": 1},
    "control": {"type": "heartbeat", "ts": 1},
    "unknown": {"type": "nothing"},
    "x-alone": {"type": "x."},
    "x-upper": {"type": "x.Upper"},
    "x-long": {"type": "x." + "a" * 65},
    "x-newline": {"type": "x.a\nid: 5"},
    "reserved-id": {"type": "x.a", "id": "k-1"},
    "reserved-run": {"type": "x.a", "run": "other"},
    "reserved-ts": {"type": "x.a", "ts": 1},
    "missing-field": {"type": "delta", "block": "b"},
    "wrong-type": {"type": "delta", "block": "b", "delta": 1},
    "progress-beyond": {"type": "progress", "stage": "s", "message": "m", "progress": 101},
    "progress-text": {"type": "progress", "stage": "s", "message": "m", "progress": "10"},
    "cites": {"type": "delta", "block": "b", "delta": "x", "cites": [{"key": "1"}]},
    "too-large": {"type": "x.a", "data": "y" * 65_536},
    "not-an-object": "x.a",
}


@pytest.fixture
async def run(client):
    run = await started(client, "external")
    yield run
    await finished(client, run)


async def events_of(client, run: str) -> list[dict]:
    answer = await client.get(f"/runs/{run}/events", params={"replay": "full"})
    return [event for event in answer.json()["events"] if not event["type"].startswith("run.")]


@pytest.mark.parametrize("event", BAD.values(), ids=BAD)
async def test_one_bad_event_refuses_the_whole_request(client, run, event):
    assert_problem(await published(client, run, GOOD, event, GOOD), 422, "event.invalid")
    lines = b"\n".join(json.dumps(each).encode() for each in (GOOD, event))
    assert_problem(await client.post(f"/runs/{run}/events", content=lines), 422, "event.invalid")
    assert await events_of(client, run) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        b'{"events":[]}',
        b'{"events":{}}',
        b'{"type":"x.a"}\nnonsense',
        b'{"events":[{"type":"x.a"}],"more":1}',
    ],
    ids=range(6),
)
async def test_a_request_without_events_is_event_invalid(client, run, body):
    assert_problem(await client.post(f"/runs/{run}/events", content=body), 422, "event.invalid")
    assert await events_of(client, run) == []


async def test_one_event_a_list_and_ndjson_are_appended_in_order(client, run):
    first = await client.post(f"/runs/{run}/events", json={"type": "x.one", "n": 1})
    batch = await published(client, run, {"type": "x.two"}, {"type": "x.three"})
    lines = b'{"type":"x.four"}\n\n{"type":"x.five","text":"a\\nb \xe2\x80\xa8 c"}\r\n'
    last = await client.post(f"/runs/{run}/events", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert [answer.status_code for answer in (first, batch, last)] == [202, 202, 202]
    events = await events_of(client, run)
    assert [event["type"] for event in events] == ["x.one", "x.two", "x.three", "x.four", "x.five"]
    assert events[-1]["text"] == "a\nb \u2028 c"
    assert [answer.json()["cursor"] for answer in (first, batch, last)] == [events[i]["id"] for i in (0, 2, 4)]


async def test_a_thousand_events_go_in_one_request_and_no_more(client, run):
    assert_problem(await published(client, run, *[GOOD] * 1001), 422, "event.invalid")
    assert (await published(client, run, *[GOOD] * 1000)).status_code == 202
    assert (await client.get(f"/runs/{run}")).json()["tail"].endswith("-1002")


async def test_a_repeat_gets_the_original_reply_and_appends_nothing(client, run):
    first = await published(client, run, GOOD, Producer="p; epoch=1; seq=1")
    second = await published(client, run, GOOD, Producer="p; epoch=1; seq=2")
    for answer, seq in ((first, 1), (second, 2), (first, 1)):
        again = await published(client, run, GOOD, Producer=f"p; epoch=1; seq={seq}")
        assert (again.status_code, again.json()) == (202, answer.json())
    assert len(await events_of(client, run)) == 2


async def test_a_hole_is_producer_gap_and_an_older_epoch_is_fenced(client, run):
    assert_problem(await published(client, run, GOOD, Producer="p; epoch=5; seq=2"), 409, "producer.gap")
    assert (await published(client, run, GOOD, Producer="p; epoch=5; seq=1")).status_code == 202
    assert_problem(await published(client, run, GOOD, Producer="p; epoch=5; seq=3"), 409, "producer.gap")
    assert_problem(await published(client, run, GOOD, Producer="p; epoch=6; seq=2"), 409, "producer.gap")
    assert (await published(client, run, GOOD, Producer="p; epoch=6; seq=1")).status_code == 202
    assert_problem(await published(client, run, GOOD, Producer="p; epoch=5; seq=2"), 409, "producer.fenced")
    assert (await published(client, run, GOOD, Producer="q; epoch=0; seq=1")).status_code == 202
    assert len(await events_of(client, run)) == 3


async def test_a_refused_request_does_not_use_up_its_place(client, run):
    assert_problem(await published(client, run, {"type": "no"}, Producer="p; epoch=1; seq=1"), 422, "event.invalid")
    assert (await published(client, run, GOOD, Producer="p; epoch=1; seq=1")).status_code == 202


async def test_one_request_sent_many_times_at_once_is_appended_once(client, run):
    answers = await asyncio.gather(*(published(client, run, GOOD, Producer="p; epoch=1; seq=1") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["cursor"] for answer in answers}) == 1
    assert len(await events_of(client, run)) == 1


async def test_finish_ends_the_run_once(client):
    run = await started(client, "external")
    answer = await finished(client, run, result={"doc_id": 7})
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    assert_problem(await finished(client, run), 409, "run.finished")
    assert_problem(await published(client, run, GOOD), 409, "run.finished")
    assert_problem(await published(client, run, GOOD, Producer="p; epoch=1; seq=1"), 409, "run.finished")
    events = own(await by_sse(client, run))
    assert len(terminals(events)) == 1
    assert events[-1]["result"] == {"doc_id": 7}
    assert answer.json()["cursor"] == events[-1]["id"]


async def test_finish_with_a_producer_can_be_repeated(client):
    run = await started(client, "external")
    headers = {"Producer": "p; epoch=1; seq=2"}
    earlier = await published(client, run, GOOD, Producer="p; epoch=1; seq=1")
    first = await client.post(f"/runs/{run}/finish", json={"status": "completed", "result": 1}, headers=headers)
    again = await client.post(f"/runs/{run}/finish", json={"status": "completed", "result": 1}, headers=headers)
    assert (first.status_code, again.status_code, again.json()) == (200, 200, first.json())
    late = await published(client, run, GOOD, Producer="p; epoch=1; seq=1")
    assert (late.status_code, late.json()) == (202, earlier.json())


@pytest.mark.parametrize(
    ("body", "last"),
    [
        ({"status": "failed", "error": {"code": "provider.error", "message": "m", "retryable": True}}, "run.failed"),
        ({"status": "failed"}, "run.failed"),
        ({"status": "cancelled"}, "run.cancelled"),
    ],
)
async def test_finish_can_fail_or_cancel_the_run(client, body, last):
    run = await started(client, "external")
    assert (await client.post(f"/runs/{run}/finish", json=body)).json()["status"] == body["status"]
    event = own(await by_sse(client, run))[-1]
    assert event["type"] == last
    assert "error" not in body or event["error"] == body["error"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"status": "running"},
        {"status": "completed", "no": 1},
        {"status": "failed", "error": "x"},
        {"status": "failed", "error": {"code": "c"}},
    ],
)
async def test_finish_with_a_wrong_body_is_input_invalid(client, run, body):
    assert_problem(await client.post(f"/runs/{run}/finish", json=body), 422, "input.invalid")


async def test_a_pipelines_run_takes_nothing_from_outside(client):
    run = await started(client, "forever")
    assert_problem(await published(client, run, GOOD), 409, "run.not_external")
    assert_problem(await finished(client, run), 409, "run.not_external")
    await client.post(f"/runs/{run}/cancel")


async def test_a_cancelled_external_run_ends_cancelled_whatever_its_publisher_says(client):
    run = await started(client, "external")
    assert (await client.post(f"/runs/{run}/cancel", json={"reason": "stop"})).status_code == 202
    assert (await finished(client, run)).json()["status"] == "cancelled"
    events = own(await by_sse(client, run))
    assert [event["type"] for event in events][-2:] == ["run.cancelling", "run.cancelled"]
    assert events[-1]["reason"] == "stop"


async def test_creator_and_owner_publish_and_a_stranger_finds_no_run(gateway, client):
    run = (await client.post("/runs", json={"pipeline": "external", "owner": "carol"})).json()["id"]
    async with caller(gateway, "carol") as carol, caller(gateway, "mallory") as mallory:
        assert (await published(carol, run, GOOD)).status_code == 202
        assert (await published(client, run, GOOD)).status_code == 202
        assert_problem(await published(mallory, run, GOOD), 404, "run.not_found")
    await finished(client, run)


async def test_an_external_run_that_is_not_heard_of_ends_orphaned(tmp_path):
    with served(tmp_path, external_idle_s=1) as gateway:
        async with caller(gateway) as client:
            silent, busy = await started(client, "external"), await started(client, "external")
            for _ in range(8):
                await asyncio.sleep(0.25)
                assert (await published(client, busy, GOOD)).status_code == 202
            events = own(await by_sse(client, silent))
            assert events[-1]["type"] == "run.failed"
            assert (events[-1]["error"]["code"], events[-1]["error"]["retryable"]) == ("run.orphaned", True)

            async def status():
                return (await client.get(f"/runs/{busy}")).json()["status"] == "failed"

            assert (await client.get(f"/runs/{busy}")).json()["status"] == "running"
            await eventually(status)
