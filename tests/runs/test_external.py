"""External runs: their events come from outside, and they end by their publisher, by a cancel or orphaned."""

import asyncio

import pytest

from gateway.broker import MemoryBroker, Producer
from gateway.errors import Conflict, Invalid
from gateway.runs import Cancelled, parse_producer, parse_published
from gateway.wire.events import Failure
from gateway.wire.status import Status
from tests.runs.doubles import ALICE, GRACE_S, IDLE_S, SlowBroker, ending, log_of, start, types

pytestmark = pytest.mark.looptime


async def publish(runs, run, *said, producer=None):
    return await runs.external.publish(run, list(said), producer=producer)


async def finish(runs, run, status=Status.COMPLETED, *, result=None, error=None, producer=None):
    return await runs.external.finish(run, status, result=result, error=error, producer=producer)


@pytest.fixture(params=[MemoryBroker, SlowBroker])
def external(request, made):
    """Begins an external run; called inside the test, where time is the loop's."""

    async def begin():
        runs = made(request.param())
        run = await start(runs, "external", {"any": 1})
        await asyncio.sleep(0.5)
        return runs, run

    return begin


async def test_it_is_running_at_once_and_takes_events_until_it_is_finished(external):
    runs, run = await external()
    cursor = await publish(runs, run, ("progress", {"stage": "s", "message": "m", "progress": 3}), ("x.a", {}))
    assert cursor.offset == 4
    await finish(runs, run, result={"a": 1})
    assert types(await log_of(runs, run)) == ["run.queued", "run.started", "progress", "x.a", "run.completed"]
    assert (await ending(runs, run))["result"] == {"a": 1}
    for late in (publish(runs, run, ("x.a", {})), finish(runs, run)):
        with pytest.raises(Conflict) as caught:
            await late
        assert caught.value.code == "run.finished"


@pytest.mark.parametrize(
    "status, error, type, code",
    [
        (Status.COMPLETED, None, "run.completed", None),
        (Status.FAILED, None, "run.failed", "pipeline.error"),
        (Status.FAILED, Failure(code="my.code", message="m", retryable=True), "run.failed", "my.code"),
        (Status.CANCELLED, None, "run.cancelled", None),
    ],
)
async def test_its_publisher_says_how_it_ends(external, status, error, type, code):
    runs, run = await external()
    await finish(runs, run, status, error=error)
    last = await ending(runs, run)
    assert last["type"] == type
    assert code is None or last["error"]["code"] == code


async def test_a_request_with_one_bad_event_appends_nothing_and_changes_nothing(external):
    runs, run = await external()
    said = {"stage": "s", "message": "m"}
    with pytest.raises(Invalid):
        await publish(runs, run, ("progress", {**said, "progress": 90}), ("nope", {}))
    assert types(await log_of(runs, run)) == ["run.queued", "run.started"]
    await publish(runs, run, ("progress", {**said, "progress": 10}))
    assert (await log_of(runs, run))[-1]["progress"] == 10


async def test_a_refused_request_of_a_producer_changes_nothing(external):
    runs, run = await external()
    said = {"stage": "s", "message": "m"}
    with pytest.raises(Conflict, match="gap"):
        await publish(runs, run, ("progress", {**said, "progress": 90}), producer=Producer("w", 1, 5))
    await publish(runs, run, ("progress", {**said, "progress": 10}))
    assert (await log_of(runs, run))[-1]["progress"] == 10


async def test_an_optional_field_that_is_null_harms_nothing(external):
    runs, run = await external()
    await publish(runs, run, ("progress", {"stage": "s", "message": "m", "progress": 30}))
    await publish(runs, run, ("draft", {"stage": "s", "draft": "d", "message": None, "progress": None}))
    await publish(runs, run, ("delta", {"block": "b", "delta": "d", "cites": None, "done": None}))
    assert runs._roster.get(run.id).state.progress == 30


async def test_a_producers_repeat_gets_the_original_reply_also_after_the_end(external):
    runs, run = await external()
    first = await publish(runs, run, ("x.a", {}), producer=Producer("w", 1, 1))
    assert await publish(runs, run, ("x.a", {}), producer=Producer("w", 1, 1)) == first
    last = await finish(runs, run, producer=Producer("w", 1, 2))
    await asyncio.sleep(1)
    assert await publish(runs, run, ("x.a", {}), producer=Producer("w", 1, 1)) == first
    assert await finish(runs, run, producer=Producer("w", 1, 2)) == last
    with pytest.raises(Conflict, match="finished"):
        await finish(runs, run, producer=Producer("w", 1, 3))


@pytest.mark.parametrize("amid", [False, True])
async def test_an_end_under_the_number_of_other_words_is_refused_and_harms_nothing(external, amid):
    runs, run = await external()
    said = asyncio.ensure_future(publish(runs, run, ("x.a", {}), producer=Producer("w", 1, 1)))
    await asyncio.sleep(0 if amid else 1)
    for _ in range(2):
        with pytest.raises(Conflict) as caught:
            await finish(runs, run, producer=Producer("w", 1, 1))
        assert caught.value.code == "key.conflict"
    assert (await said).offset == 3
    await publish(runs, run, ("x.b", {}), producer=Producer("w", 1, 2))
    await finish(runs, run, producer=Producer("w", 1, 3))
    assert types(await log_of(runs, run)) == ["run.queued", "run.started", "x.a", "x.b", "run.completed"]


async def test_a_run_is_cancelled_though_its_publisher_ends_it_under_a_number_of_other_words(external):
    runs, run = await external()
    await publish(runs, run, ("x.a", {}), producer=Producer("w", 1, 1))
    with pytest.raises(Conflict):
        await finish(runs, run, producer=Producer("w", 1, 1))
    assert await runs.cancel(ALICE, run, None) == Cancelled(None)
    assert (await ending(runs, run))["type"] == "run.cancelled"


async def test_an_end_is_carried_through_when_its_publisher_goes_amid_it(made):
    runs = made(SlowBroker())
    run = await start(runs, "external", {"any": 1})
    await asyncio.sleep(1)
    ending_it = asyncio.ensure_future(runs.finish(run, Status.COMPLETED, result=1, error=None, producer=None))
    await asyncio.sleep(SlowBroker.delay_s / 2)
    ending_it.cancel()
    await asyncio.sleep(1)
    assert (await ending(runs, run))["type"] == "run.completed"
    assert await runs._broker.snapshot(run.id) is not None


async def test_two_who_pause_or_resume_it_at_once_are_told_the_same(external):
    runs, run = await external()
    for call, status in ((runs.control.pause, Status.PAUSED), (runs.control.resume, Status.RUNNING)):
        assert await asyncio.gather(call(ALICE, run), call(ALICE, run)) == [status, status]
    said = types(await log_of(runs, run))
    assert said == ["run.queued", "run.started", "run.paused", "run.resumed"]


async def test_only_an_external_run_takes_events_from_outside(made):
    runs = made()
    run = await start(runs, "forever")
    for call in (publish(runs, run, ("x.a", {})), finish(runs, run)):
        with pytest.raises(Conflict) as caught:
            await call
        assert caught.value.code == "run.not_external"


async def test_it_is_orphaned_when_its_publisher_is_not_heard_of_for_too_long(made):
    runs = made()
    run = await start(runs, "external")
    for _ in range(3):
        await asyncio.sleep(IDLE_S - 1)
        await publish(runs, run, ("x.a", {}))
    last = await ending(runs, run, within_s=IDLE_S + 1)
    assert (last["error"]["code"], last["error"]["retryable"]) == ("run.orphaned", True)
    assert asyncio.get_running_loop().time() == pytest.approx(3 * (IDLE_S - 1) + IDLE_S)
    await asyncio.sleep(1)
    assert list(runs._roster) == []


async def test_a_cancelled_one_ends_cancelled_when_its_publisher_finishes(external):
    runs, run = await external()
    assert await runs.cancel(ALICE, run, "enough") == Cancelled(None)
    await publish(runs, run, ("x.a", {}))
    await finish(runs, run, Status.COMPLETED, result=1)
    last = await ending(runs, run)
    assert (last["type"], last["by"], last["reason"], last["forced"]) == ("run.cancelled", "alice", "enough", False)


async def test_a_cancelled_one_whose_publisher_does_not_care_is_cut_off(external):
    runs, run = await external()
    await runs.cancel(ALICE, run, "enough")
    last = await ending(runs, run, within_s=GRACE_S + 1)
    assert (last["type"], last["forced"]) == ("run.cancelled", True)


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
@pytest.mark.parametrize("first", ["finish", "cancel"])
async def test_a_cancel_and_a_finish_at_once_give_one_end_and_no_one_waits_for_ever(external, status, first):
    runs, run = await external()
    calls = [finish(runs, run, status), runs.cancel(ALICE, run, None), finish(runs, run, status)]
    if first == "cancel":
        calls[0], calls[1] = calls[1], calls[0]
    async with asyncio.timeout(60):
        await asyncio.gather(*calls, return_exceptions=True)
    last = await ending(runs, run)
    cancelling = "run.cancelling" in types(await log_of(runs, run))
    assert last["type"] == ("run.cancelled" if cancelling else f"run.{status}")


async def test_a_cancel_at_the_moment_it_is_orphaned_is_a_cancel_or_too_late(external):
    runs, run = await external()
    await asyncio.sleep(IDLE_S - 0.51)
    answer = await runs.cancel(ALICE, run, None)
    last = await ending(runs, run)
    cancelling = "run.cancelling" in types(await log_of(runs, run))
    assert last["type"] == ("run.cancelled" if cancelling else "run.failed")
    assert answer.final in (None, str(runs._broker._runs[run.id].run.status))


@pytest.mark.parametrize(
    "header, parsed",
    [
        (None, None),
        ("w; epoch=1; seq=1", Producer("w", 1, 1)),
        ("  w-1.x/y ;epoch=0;seq=12  ", Producer("w-1.x/y", 0, 12)),
        ("w=w; epoch=1; seq=1", Producer("w=w", 1, 1)),
    ],
)
def test_a_producer_header_is_read(header, parsed):
    assert parse_producer(header) == parsed


@pytest.mark.parametrize(
    "header",
    ["", "w", "w; epoch=1", "w; seq=1; epoch=1", "w; epoch=1; seq=0", "w; epoch=-1; seq=1", "w; epoch=1; seq=1; x=1",
     "; epoch=1; seq=1", "w w; epoch=1; seq=1", "w; epoch=٣; seq=1", "ä; epoch=1; seq=1",
     f"{'w' * 129}; epoch=1; seq=1",
     "w; epoch=1; seq=" + "9" * 30, "w; epoch=1;\nseq=1x"],
)  # fmt: skip
def test_a_producer_header_of_another_form_is_refused(header):
    with pytest.raises(Invalid):
        parse_producer(header)


@pytest.mark.parametrize(
    "body, count",
    [
        (b'{"type":"x.a"}', 1),
        (b'{"events":[{"type":"x.a"},{"type":"x.b"}]}', 2),
        (b'{"type":"x.a"}\n{"type":"x.b"}\n', 2),
        (b'{"type":"x.a"}\r\n\r\n  \n{"type":"x.b"}', 2),
        (b'{"events":[' + b",".join([b'{"type":"x.a"}'] * 1000) + b"]}", 1000),
    ],
)
def test_a_publish_request_is_read_in_each_of_its_forms(body, count):
    assert len(parse_published(body)) == count


@pytest.mark.parametrize(
    "body",
    [b"", b"\n", b"nope", b"[]", b"null", b"3", b'{"events":[]}', b'{"events":{}}', b'{"events":[1]}',
     b'{"events":null}',
     b'{"type":1}', b'{"type":"x.a"}\nnope', b'{"type":"x.a"}\n[]', b"\xff", b'{"type":"x.a","v":NaN}',
     b'{"events":[' + b",".join([b'{"type":"x.a"}'] * 1001) + b"]}", b'{"events":[{"type":"x.a"}],"more":1}'],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_a_publish_request_of_another_form_is_refused(body):
    with pytest.raises(Invalid) as caught:
        parse_published(body)
    assert caught.value.code == "event.invalid"
