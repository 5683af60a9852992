"""Runs over HTTP: started, listed, described, waited for, retried, erased; and what the gateway says of itself."""

import asyncio
from itertools import chain

import httpx
import jsonschema
import pytest
from openapi_spec_validator import validate

from gateway.routes import ENDPOINTS, declare
from tests.e2e.clients import (
    assert_problem,
    by_sse,
    caller,
    eventually,
    finished,
    own,
    published,
    started,
)


async def test_start_answers_201_with_location_and_links_that_work(client):
    answer = await client.post("/runs", json={"pipeline": "words", "input": {"count": 1}})
    told = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/runs/{told['id']}")
    assert told["links"].keys() == {"self", "events", "cancel", "socket"}
    assert (await client.get(told["links"]["self"])).status_code == 200
    assert (await client.get(told["links"]["events"])).status_code == 200
    assert (await client.post(told["links"]["cancel"])).status_code in (200, 202)


async def test_a_run_that_is_done_is_described_in_full(client):
    run = await started(client, count=4, text="w")
    events = own(await by_sse(client, run, replay="full"))
    told = (await client.get(f"/runs/{run}")).json()
    assert told["blocks"] == {"body": "w0 w1 w2 w3 "}
    assert (told["id"], told["pipeline"], told["owner"], told["status"]) == (run, "words", "alice", "completed")
    assert (told["result"], told["error"], told["tail"]) == ({"words": 4}, None, events[-1]["id"])
    assert (told["stage"], told["message"], told["progress"]) == ("writer", "Word 3", 75)
    stamps = {event["type"]: event["ts"] for event in events}
    assert told["created_at"] == stamps["run.queued"]
    assert told["started_at"] == stamps["run.started"]
    assert told["finished_at"] == stamps["run.completed"]


async def test_a_run_under_way_is_described_as_its_events_say(client):
    run = await started(client, "external")
    await published(
        client,
        run,
        {"type": "progress", "stage": "s", "message": "m", "progress": 40},
        {"type": "progress", "stage": "s", "message": "n", "progress": 10},
        {"type": "draft", "stage": "s", "draft": "first"},
        {"type": "draft", "stage": "s", "draft": "second"},
        {"type": "delta", "block": "b", "delta": "x"},
        {"type": "delta", "block": "b", "delta": "y"},
    )
    told = (await client.get(f"/runs/{run}")).json()
    assert (told["status"], told["message"], told["progress"]) == ("running", "n", 40)
    assert (told["drafts"], told["blocks"], told["finished_at"]) == ({"s": "second"}, {"b": "xy"}, None)
    await finished(client, run)


async def test_listing_pages_newest_first_without_loss_or_repetition(gateway):
    async with caller(gateway, "pager") as pager:
        made = [await started(pager, count=0) for _ in range(12)]
        pages, before = [], None
        while True:
            params = {"limit": 5} | ({"before": before} if before else {})
            answer = (await pager.get("/runs", params=params)).json()
            pages.append([run["id"] for run in answer["runs"]])
            before = answer["next"]
            if before is None:
                break
        assert [len(page) for page in pages] == [5, 5, 2]
        assert list(chain.from_iterable(pages)) == made[::-1]


async def test_listing_filters_by_status_and_pipeline(gateway):
    async with caller(gateway, "sorter") as sorter:
        words = await started(sorter, count=0)
        failed, going = await started(sorter, "broken"), await started(sorter, "external")

        async def ids(**params) -> list[str]:
            return [run["id"] for run in (await sorter.get("/runs", params=params)).json()["runs"]]

        async def settled():
            return await ids(status="failed") == [failed] and await ids(status="completed") == [words]

        await eventually(settled)
        assert await ids(status="running") == [going]
        assert await ids(pipeline="words") == [words]
        assert await ids(pipeline="words", status="failed") == []
        assert await ids(pipeline="nothing") == []
        await finished(sorter, going)
        assert await ids(status="completed") == [going, words]


async def test_one_caller_does_not_see_anothers_runs_in_the_list(gateway):
    async with caller(gateway, "one") as one, caller(gateway, "two") as two:
        run = await started(one, count=0)
        assert run in [each["id"] for each in (await one.get("/runs")).json()["runs"]]
        assert (await two.get("/runs")).json() == {"runs": [], "next": None}
        assert (await two.get("/runs", params={"before": run})).json()["runs"] == []


async def test_retry_starts_anew_with_the_same_pipeline_and_input(client):
    run = await started(client, count=2, text="again")
    await by_sse(client, run)
    answer = await client.post(f"/runs/{run}/retry")
    new = answer.json()["id"]
    assert (answer.status_code, answer.headers["location"]) == (201, f"/runs/{new}")
    events = own(await by_sse(client, new, replay="full"))
    assert events[0]["retry_of"] == run
    assert (await client.get(f"/runs/{new}")).json()["blocks"] == {"body": "again0 again1 "}
    assert (await client.get(f"/runs/{new}")).json()["retry_of"] == run


async def test_a_run_under_way_can_be_neither_retried_nor_erased(client):
    run = await started(client, "external")
    assert_problem(await client.post(f"/runs/{run}/retry"), 409, "run.active")
    assert_problem(await client.delete(f"/runs/{run}"), 409, "run.active")
    await finished(client, run)


async def test_erasing_leaves_nothing_and_the_key_can_be_used_again(client):
    headers = {"Idempotency-Key": "erased"}
    body = {"pipeline": "words", "input": {"count": 0}}
    run = (await client.post("/runs", json=body, headers=headers)).json()["id"]
    await by_sse(client, run)
    erased = await client.delete(f"/runs/{run}")
    assert (erased.status_code, erased.content) == (204, b"")
    assert_problem(await client.delete(f"/runs/{run}"), 404, "run.not_found")
    assert_problem(await client.get(f"/runs/{run}"), 404, "run.not_found")
    assert_problem(await client.get(f"/runs/{run}/events"), 404, "run.not_found")
    assert run not in [each["id"] for each in (await client.get("/runs")).json()["runs"]]
    again = await client.post("/runs", json=body, headers=headers)
    assert again.status_code == 201
    assert again.json()["id"] != run


async def test_erasing_right_at_the_end_harms_nothing(client):
    for _ in range(25):
        run = await started(client, count=0)
        await by_sse(client, run)
        assert (await client.delete(f"/runs/{run}")).status_code == 204
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    assert (await client.post("/run", json={"pipeline": "words", "input": {"count": 0}})).status_code == 200


async def test_the_same_key_and_body_is_the_same_run_and_another_body_a_conflict(client):
    headers = {"Idempotency-Key": "once"}
    first = await client.post("/runs", content=b'{"pipeline":"words","input":{"count":1,"text":"a"}}', headers=headers)
    same = await client.post("/runs", content=b'{"input":{"text":"a","count":1}, "pipeline":"words"}', headers=headers)
    assert (first.status_code, same.status_code) == (201, 200)
    assert same.json()["id"] == first.json()["id"]
    assert same.headers["location"] == first.headers["location"]
    other = await client.post("/runs", json={"pipeline": "words", "input": {"count": 2}}, headers=headers)
    assert_problem(other, 409, "key.conflict")
    waited = await client.post("/run", json={"pipeline": "words", "input": {"count": 1, "text": "a"}}, headers=headers)
    assert waited.json()["id"] == first.json()["id"]


async def test_one_key_at_the_same_moment_makes_one_run(client):
    body = {"pipeline": "words", "input": {"count": 0}}
    answers = await asyncio.gather(
        *(client.post("/runs", json=body, headers={"Idempotency-Key": "race"}) for _ in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_a_key_belongs_to_its_owner(gateway, client):
    body = {"pipeline": "words", "input": {"count": 0}}
    headers = {"Idempotency-Key": "mine"}
    async with caller(gateway, "bob") as bob:
        mine = await client.post("/runs", json=body, headers=headers)
        his = await bob.post("/runs", json=body, headers=headers)
        assert (mine.status_code, his.status_code) == (201, 201)


@pytest.mark.parametrize(
    ("pipeline", "code"),
    [
        ("broken", "pipeline.error"),
        ("rejecting", "pipeline.rejected"),
        ("unserialisable", "pipeline.error"),
        ("huge", "result.too_large"),
    ],
)
async def test_run_answers_502_with_id_and_error_when_the_run_fails(client, pipeline, code):
    answer = await client.post("/run", json={"pipeline": pipeline, "input": {}})
    assert_problem(answer, 502, "run.failed")
    told = answer.json()
    assert told["error"]["code"] == code
    assert "swordfish" not in answer.text
    described = (await client.get(f"/runs/{told['id']}")).json()
    assert (described["status"], described["error"]) == ("failed", told["error"])


async def test_run_answers_409_with_id_when_the_run_is_cancelled(gateway):
    async with caller(gateway, "waiter") as waiter:
        waiting = asyncio.create_task(waiter.post("/run", json={"pipeline": "forever", "input": {}}))

        async def going():
            return (await waiter.get("/runs", params={"status": "running"})).json()["runs"]

        run = (await eventually(going))[0]["id"]
        assert (await waiter.post(f"/runs/{run}/cancel")).json() == {"status": "cancelling"}
        answer = await waiting
        assert_problem(answer, 409, "run.cancelled")
        assert answer.json()["id"] == run
        assert "error" in answer.json()


async def test_a_run_that_takes_too_long_ends_with_run_timeout(client):
    body = {"pipeline": "forever", "input": {}, "options": {"timeout_s": 0.3}}
    answer = await client.post("/run", json=body)
    assert_problem(answer, 502, "run.failed")
    error = answer.json()["error"]
    assert (error["code"], error["retryable"]) == ("run.timeout", True)


async def test_a_run_goes_on_when_the_one_who_waits_goes_away(gateway):
    async with caller(gateway, "leaver") as leaver:
        body = {"pipeline": "words", "input": {"count": 10, "gap_s": 0.05}}
        with pytest.raises(httpx.TimeoutException):
            await leaver.post("/run", json=body, timeout=0.2)

        async def done():
            return (await leaver.get("/runs", params={"status": "completed"})).json()["runs"]

        assert len(await eventually(done)) == 1


async def test_cancel_twice_is_one_cancel(client):
    run = await started(client, "forever")
    answers = await asyncio.gather(*(client.post(f"/runs/{run}/cancel", json={"reason": str(n)}) for n in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    events = own(await by_sse(client, run, replay="full"))
    assert [event["type"] for event in events].count("run.cancelling") == 1
    assert [event["type"] for event in events].count("run.cancelled") == 1
    assert (await client.post(f"/runs/{run}/cancel")).json() == {"status": "finished", "final": "cancelled"}


async def test_pipelines_are_listed_with_their_schemas(client):
    listed = {each["name"]: each for each in (await client.get("/pipelines")).json()["pipelines"]}
    assert {"words", "forever", "external"} <= listed.keys()
    words = listed["words"]
    assert words["description"] == "Says `count` words, with progress, in one stage."
    assert words["input_schema"]["properties"].keys() == {"count", "gap_s", "text"}
    for each in listed.values():
        jsonschema.Draft202012Validator.check_schema(each["input_schema"])
        jsonschema.Draft202012Validator.check_schema(each["result_schema"])


async def test_the_openapi_document_is_valid_and_lists_every_address(client):
    document = (await client.get("/openapi.json")).json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert listed == {(endpoint.method, endpoint.path) for endpoint in (*ENDPOINTS, *declare())}


async def test_the_documentation_names_every_address_and_runs_no_script(client):
    answer = await client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    for endpoint in (*ENDPOINTS, *declare()):
        assert f"{endpoint.method} {endpoint.path}" in answer.text


async def test_every_event_of_a_run_fits_the_published_schema(client):
    schema = (await client.get("/schema/events.json")).json()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for pipeline in ("words", "broken", "rejecting"):
        frames = await by_sse(client, await started(client, pipeline, count=2), replay="full")
        for frame in frames:
            one = jsonschema.Draft202012Validator({**schema, "anyOf": [{"$ref": f"#/$defs/{frame['type']}"}]})
            one.validate(frame)
            validator.validate(frame)
