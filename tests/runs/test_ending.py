"""How runs end: exactly one terminal event, and nothing in it that viewers must not read."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Conflict
from gateway.runs import Runs
from pipeline import Context, PipelineError, ProviderError, ProviderRefused, Rejected, StagesFailed
from tests.broker.doubles import in_loop
from tests.runs.doubles import ALICE, GRACE_S, SlowBroker, ending, log_of, service, start
from tests.wire.doubles import FEW

pytestmark = pytest.mark.looptime


class Unwinding(BaseException):
    pass


class Unspeakable(PipelineError):
    def __str__(self) -> str:
        raise RuntimeError("swordfish")


class Coded(PipelineError):
    code = 7


class NoJson:
    pass


async def failing(made, error: BaseException) -> dict:
    async def fails(ctx: Context, input: dict) -> None:
        raise error

    runs = made(fails=fails)
    return await ending(runs, await start(runs, "fails"))


@pytest.mark.parametrize(
    "error, code, retryable",
    [
        (Rejected("no sense"), "pipeline.rejected", False),
        (StagesFailed("no sense"), "stages.failed", False),
        (ProviderError("no sense"), "provider.error", True),
        (ProviderRefused("no sense"), "provider.refused", False),
        (PipelineError("no sense"), "pipeline.error", False),
    ],
)
async def test_a_pipelines_own_refusal_is_told_with_its_code(made, error, code, retryable):
    last = await failing(made, error)
    assert last["error"] == {"code": code, "message": "no sense", "retryable": retryable}
    assert last["duration_ms"] >= 0


async def test_a_refusal_without_words_still_has_a_message_and_a_long_one_is_cut(made):
    assert (await failing(made, Rejected()))["error"]["message"] == "pipeline.rejected"
    assert len((await failing(made, Rejected("a" * 10_000)))["error"]["message"]) == 2000


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("swordfish"),
        KeyError("swordfish"),
        TimeoutError("swordfish"),
        StopAsyncIteration("swordfish"),
        RecursionError("swordfish"),
        ExceptionGroup("swordfish", [ValueError("swordfish")]),
        Unwinding("swordfish"),
        BaseExceptionGroup("swordfish", [Unwinding("swordfish")]),
        SystemExit("swordfish"),
        GeneratorExit("swordfish"),
        Unspeakable(),
        Coded("swordfish"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_else_a_pipeline_raises_ends_its_run_and_tells_only_an_incident(made, error):
    last = await failing(made, error)
    assert (last["type"], last["error"]["code"], last["error"]["retryable"]) == ("run.failed", "pipeline.error", False)
    assert last["error"]["incident"] in last["error"]["message"]
    assert "swordfish" not in str(last)


async def test_a_refusal_in_text_that_is_no_unicode_ends_the_run(made):
    assert (await failing(made, Rejected("bad \ud800 text")))["type"] == "run.failed"


async def test_a_pipeline_that_cancels_itself_has_failed(made):
    last = await failing(made, asyncio.CancelledError())
    assert (last["type"], last["error"]["code"]) == ("run.failed", "pipeline.error")


@pytest.mark.parametrize(
    "result",
    [NoJson(), {"a": NoJson()}, 1 << 90, "\ud800", {"a": "\ud800"}, b"\xff", float],
    ids=lambda result: repr(result)[:20],
)
async def test_a_result_that_is_no_json_fails_the_run(made, result):
    async def returns(ctx: Context, input: dict):
        return result

    runs = made(returns=returns)
    last = await ending(runs, await start(runs, "returns"))
    assert (last["type"], last["error"]["code"]) == ("run.failed", "pipeline.error")


async def test_a_result_that_holds_itself_fails_the_run(made):
    async def returns(ctx: Context, input: dict):
        result: list = []
        result.append(result)
        return result

    runs = made(returns=returns)
    assert (await ending(runs, await start(runs, "returns")))["error"]["code"] == "pipeline.error"


@pytest.mark.parametrize("size, type", [((1 << 20) - 100, "run.completed"), (1 << 20, "run.failed")])
async def test_a_result_may_have_a_mebibyte(made, size, type):
    async def returns(ctx: Context, input: dict) -> str:
        return "a" * size

    runs = made(returns=returns)
    last = await ending(runs, await start(runs, "returns"))
    assert last["type"] == type
    assert type == "run.completed" or last["error"]["code"] == "result.too_large"


async def test_a_run_may_take_no_longer_than_it_was_allowed(made):
    runs = made()
    run = await start(runs, "forever", timeout_s=10)
    last = await ending(runs, run)
    assert (last["error"]["code"], last["error"]["retryable"]) == ("run.timeout", True)
    assert asyncio.get_running_loop().time() == pytest.approx(10)
    stubborn = await start(runs, "stubborn", timeout_s=10)
    assert (await ending(runs, stubborn))["error"]["code"] == "run.timeout"
    assert asyncio.get_running_loop().time() == pytest.approx(20 + GRACE_S)


async def test_an_event_that_is_wrong_is_the_pipelines_to_hear_of(made):
    heard = []

    async def wrong(ctx: Context, input: dict) -> None:
        for type, fields in [("nope", {}), ("run.completed", {}), ("delta", {}), ("x.a", {"v": "a" * 70_000})]:
            try:
                await ctx.emit(type, **fields)
            except ValueError as error:
                heard.append(str(error))

    runs = made(wrong=wrong)
    run = await start(runs, "wrong")
    assert (await ending(runs, run))["type"] == "run.completed"
    assert len(heard) == 4
    assert len(await log_of(runs, run)) == 3


async def test_progress_never_falls_back(made):
    async def jumps(ctx: Context, input: dict) -> None:
        for progress in (10, 40, 30, 5, 41):
            await ctx.progress(progress, "m")
        await ctx.draft("d", progress=3)
        await ctx.draft("d")
        await ctx.progress(2, "m")

    runs = made(jumps=jumps)
    run = await start(runs, "jumps")
    await ending(runs, run)
    said = [event.get("progress") for event in await log_of(runs, run) if event["type"] in ("progress", "draft")]
    assert said == [10, 40, 40, 40, 41, 41, None, 41]


async def test_the_outcome_of_a_run_waits_for_its_end(made):
    runs = made()
    run = await start(runs, "quick", {"a": 1})
    assert (await runs.views.outcome(run))["result"] == {"a": 1}


steps = st.lists(
    st.tuples(st.sampled_from(["cancel", "drain", "wait", "publish"]), st.sampled_from([0, 0.05, 0.1, 1, 4])),
    max_size=6,
)
kinds = st.sampled_from(["quick", "forever", "stubborn", "external"])


@pytest.mark.parametrize("broker", [None, SlowBroker])
def test_any_interleaving_gives_exactly_one_terminal_event_and_frees_every_place(broker):
    async def case(kind: str, timeout_s: float | None, steps: list[tuple[str, float]]) -> None:
        runs: Runs = service(broker and broker())
        run = await start(runs, kind, **({} if timeout_s is None else {"timeout_s": timeout_s}))
        calls = []
        for step, pause_s in steps:
            if step == "cancel":
                calls.append(asyncio.ensure_future(runs.cancel(ALICE, run, None)))
            elif step == "drain":
                calls.append(asyncio.ensure_future(runs.drain(within_s=0.1, grace_s=1)))
            elif step == "publish" and kind == "external":
                calls.append(asyncio.ensure_future(runs.external.publish(run, [("x.a", {})], producer=None)))
            await asyncio.sleep(pause_s)
        if kind == "forever":
            calls.append(asyncio.ensure_future(runs.cancel(ALICE, run, None)))
        last = await ending(runs, run, within_s=2000)
        await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 100)
        log = await log_of(runs, run)
        if any(event["type"] == "run.cancelling" for event in log):
            drained = last["type"] == "run.failed" and last["error"]["code"] == "server.draining"
            assert last["type"] == "run.cancelled" or drained
        await asyncio.sleep(100)
        assert await log_of(runs, run) == log
        assert runs._roster._owners.total() == 0
        assert list(runs._roster) == []
        assert (len(runs._tasks), len(runs._stragglers)) == (0, 0)

    @given(kinds, st.sampled_from([None, 0.05, 2]), steps)
    @FEW
    def check(kind: str, timeout_s: float | None, steps: list[tuple[str, float]]) -> None:
        in_loop(case(kind, timeout_s, steps), fast=True)

    check()


async def test_once_the_end_has_its_place_nobody_steers_any_more(made):
    """Also while it is still on its way to the disk, where nobody sees it yet."""

    async def asks(ctx: Context, input: dict) -> str:
        return await ctx.ask("Well?", str)

    broker = SlowBroker()
    runs = made(broker, asks=asks)
    run = await start(runs, "asks")
    while not (asked := [event for event in await log_of(runs, run) if event["type"] == "input.requested"]):
        await asyncio.sleep(0.01)
    await runs.control.answer(ALICE, run, asked[0]["input_id"], "yes")
    while not (await broker.get(run.id)).status.terminal:
        await asyncio.sleep(0.01)
    assert not runs._roster.get(run.id).state.status.terminal
    for steering in (runs.control.pause, runs.control.resume):
        with pytest.raises(Conflict, match=r"run\.finished"):
            await steering(ALICE, run)
    with pytest.raises(Conflict, match=r"run\.finished"):
        await runs.control.answer(ALICE, run, asked[0]["input_id"], "no")
    assert (await ending(runs, run))["result"] == "yes"
