"""The built-in pipelines as the gateway runs them: cancelled, paused, failed and retried in every stage they have.

Rule 1: a stage is held at an event of its own until the test has done what it came for; nothing here waits for time.
Over 300 lines, because the tables of stages and failures belong beside each other.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.broker import MemoryBroker
from gateway.runs import Cancelled, Runs, active
from gateway.wire import json
from pipeline import (
    Context,
    ProviderError,
    ProviderRefused,
    Rejected,
    StagesFailed,
    agent,
    campaign,
    content,
    crew,
    outline,
    planner,
    writing,
)
from pipeline.actions import ACTIONS
from pipeline.campaign import COPYWRITER
from pipeline.models import Piece
from pipeline.models.extractive import Extractive
from pipeline.tools import TOOLS, ToolFailed
from tests.pipeline.test_campaign import KETTLE
from tests.runs.doubles import ALICE, ending, log_of, start, types

TIDES = (
    "The tides follow the moon. Twice a day the sea rises and falls at the coast. In 1687 Newton showed that the pull "
    "of the moon raises the water. Spring tides come when sun and moon pull together. At Saint-Malo the sea rises by "
    "twelve metres. Fishermen have lived by the tables of the harbours for hundreds of years."
)
INPUTS: dict[str, dict[str, Any]] = {
    "content": {"topic": "the tides", "sources": [TIDES], "max_words": 80},
    "campaign": {
        "product": "Harbor Kettle",
        "audience": "travellers",
        "sources": [KETTLE],
        "channels": ["email", "ad"],
    },
    "crew": {"goal": "the tides", "documents": [TIDES]},
    "agent": {"task": "What follows the moon? What is 6 * 7? How many words are there?", "documents": [TIDES]},
    "autopilot": {"topic": "the tides", "documents": [TIDES], "doc_id": "doc"},
    "generation": {"topic": "the tides and the sea", "documents": [TIDES, KETTLE], "max_words": 240, "doc_id": "doc"},
}
STAGES = {
    "content": ["load_prompts", "generator", "formatter", "validator", "done"],
    "campaign": ["research", "audience", "concept", "copy:email", "copy:ad", "review", "assemble"],
    "crew": ["research", "analysis", "critique", "report"],
    "agent": ["plan", "act", "answer"],
    "autopilot": ["search", "strategy", "outline", "done"],
    "generation": ["prepare", "write", "done"],
}
WALK = [(name, stage) for name, stages in STAGES.items() for stage in stages]
FUNCTIONS = {
    "content": content.content,
    "campaign": campaign.campaign,
    "crew": crew.crew,
    "agent": agent.agent,
    "autopilot": writing.autopilot,
    "generation": writing.generation,
}


class HeldBroker(MemoryBroker):
    """Whoever appends the first event that is `wanted` waits, once it is durable, until `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: Callable[[str, dict[str, Any]], bool] = lambda _type, _fields: False
        self.held, self.go = asyncio.Event(), asyncio.Event()
        self._speaker = None

    def append_nowait(self, run, draft):
        offset = super().append_nowait(run, draft)
        if self._speaker is None and self.wanted(draft.type, json.loads(draft.body)):
            self._speaker = asyncio.current_task()
        return offset

    async def durable(self):
        if asyncio.current_task() is self._speaker and not self.held.is_set():
            self.held.set()
            await self.go.wait()


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch):
    for module in (content, campaign, crew, agent, writing):
        monkeypatch.setattr(module, "PACE_S", 0)
    monkeypatch.setattr(active, "MAX_AHEAD", 0)  # so whoever says something waits for the log


@pytest.fixture
async def broker():
    return HeldBroker()


@pytest.fixture
async def runs(made, broker) -> Runs:
    return made(broker, **FUNCTIONS)


def in_stage(stage: str, moment: str) -> Callable[[str, dict[str, Any]], bool]:
    """An event at which a stage begins, or that it says in its middle."""
    begun = []

    def wanted(type: str, fields: dict[str, Any]) -> bool:
        if type == "stage.started" and fields["stage"] == stage:
            begun.append(type)
            return moment == "begin"
        return bool(begun) and moment == "middle" and not type.startswith(("stage.", "run."))

    return wanted


async def whole(runs: Runs, name: str, **options: Any) -> dict[str, Any]:
    """The terminal event of a run that nobody disturbs."""
    return await ending(runs, await start(runs, name, INPUTS[name], **options))


def plain(result: Any) -> Any:
    """A result without what is another time each time."""
    if isinstance(result, dict):
        return {name: plain(value) for name, value in result.items() if name != "duration_ms"}
    return [plain(one) for one in result] if isinstance(result, list) else result


def spent(log: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What the model calls in a log come to."""
    calls = [event for event in log if event["type"] == "llm.completed"]
    if not calls:
        return None
    tokens = {kind: sum(call["usage"][kind] for call in calls) for kind in ("input_tokens", "output_tokens")}
    return {**tokens, "cost_usd": pytest.approx(sum(call["cost_usd"] for call in calls))}


@pytest.mark.parametrize("name", STAGES)
async def test_the_stages_are_those_of_this_walk(runs, name):
    """A run completes with the usage of its calls, after exactly the stages that the other tests go through."""
    last = await whole(runs, name)
    log = await log_of(runs, last["run"])
    assert last["type"] == "run.completed"
    started = [event["stage"] for event in log if event["type"] == "stage.started"]
    assert sorted(started) == sorted(STAGES[name])
    assert sorted(event["stage"] for event in log if event["type"] == "stage.completed") == sorted(started)
    assert last.get("usage") == spent(log)


@pytest.mark.parametrize("moment", ["begin", "middle"])
@pytest.mark.parametrize(("name", "stage"), WALK)
async def test_a_cancel_ends_a_run_in_any_stage(runs, broker, name, stage, moment):
    """Cancelled when a stage begins or in its middle: `run.cancelled` with the usage so far."""
    broker.wanted = in_stage(stage, moment)
    run = await start(runs, name, INPUTS[name])
    await broker.held.wait()
    before = len(await log_of(runs, run))
    assert await runs.cancel(ALICE, run, "enough") == Cancelled(None)
    last = await ending(runs, run)
    assert (last["type"], last["by"], last["reason"], last["forced"]) == ("run.cancelled", "alice", "enough", False)
    log = await log_of(runs, run)
    assert "run.cancelling" in types(log[before:])
    assert stage not in [event["stage"] for event in log[before:] if event["type"] == "stage.completed"]
    assert last.get("usage") == spent(log)
    assert name != "agent" or stage == "plan" or last["usage"]["cost_usd"] > 0


@pytest.mark.parametrize("name", STAGES)
async def test_a_pause_at_every_checkpoint_changes_nothing(runs, broker, name):
    """Paused again as soon as it is resumed, a run stands still each time and ends with the same result."""
    expected = await whole(runs, name)
    paused: asyncio.Queue[None] = asyncio.Queue()
    run = await start(runs, name, INPUTS[name])
    active = runs._roster.get(run.id)
    await broker.watch(run.id, lambda seen: [paused.put_nowait(None) for one in seen if one.type == "run.paused"])
    await runs.control.pause(ALICE, run)

    async def keep_pausing() -> None:
        while True:
            await paused.get()
            await runs.control.resume(ALICE, run)
            await runs.control.pause(ALICE, run)

    pausing = asyncio.create_task(keep_pausing())
    last = await ending(runs, run)
    pausing.cancel()
    assert active.state.status == "completed"
    assert plain(last["result"]) == plain(expected["result"])
    said = [type for type in types(await log_of(runs, run)) if type in ("run.paused", "run.resumed")]
    assert len(said) >= 2 * len(STAGES[name])
    assert said == ["run.paused", "run.resumed"] * (len(said) // 2)


@pytest.mark.parametrize(("name", "stage"), WALK)
async def test_a_run_paused_in_any_stage_says_nothing_until_it_may(runs, broker, name, stage):
    """After `run.paused` only what was under way side by side is told; resumed, the result is the same."""
    expected = await whole(runs, name)
    broker.wanted = in_stage(stage, "begin")
    run = await start(runs, name, INPUTS[name])
    await broker.held.wait()
    told = asyncio.Event()
    await broker.watch(run.id, lambda seen: [told.set() for one in seen if one.type == "run.paused"])
    await runs.control.pause(ALICE, run)
    broker.go.set()
    await asyncio.wait(
        {asyncio.create_task(told.wait()), runs._roster.get(run.id).ended}, return_when="FIRST_COMPLETED"
    )
    assert told.is_set()
    await settled(runs, run)
    before = len(await log_of(runs, run))
    await settled(runs, run)
    assert len(await log_of(runs, run)) == before
    await runs.control.resume(ALICE, run)
    assert plain((await ending(runs, run))["result"]) == plain(expected["result"])


async def settled(runs: Runs, run) -> None:
    """Until what was under way beside a checkpoint has come to its own."""
    seen = -1
    while seen != (seen := len(await log_of(runs, run))):
        for _ in range(200):
            await asyncio.sleep(0)


def raising(error: Exception) -> Callable[..., Any]:
    def call(*_args: Any, **_more: Any) -> Any:
        raise error

    return call


class Failing:
    """A text model that fails whatever it is asked for."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def write(self, *_args: Any):
        raise self._error
        yield  # what makes it a generator


class Copyless:
    """A copywriter that fails for every channel."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def write(self, *_args: Any) -> Any:
        raise self._error


class Rambling:
    """Writes what no source says."""

    async def write(self, prompt, request):
        async for piece in Extractive().write(prompt, request):
            yield Piece(piece.text)


async def acting(*_args: Any) -> Any:
    raise RuntimeError("/etc/passwd")


BUG = RuntimeError("/etc/passwd")
LONG = StagesFailed("No copy is short enough.")
AWAY, NO, WHY = ProviderError("The provider is away."), ProviderRefused("The provider refuses."), Rejected("Not so.")
# Pipeline, stage, what is broken there, and the code of `run.failed`.
FAILURES: list[tuple[str, str, Any, str, Any, str]] = [
    ("content", "load_prompts", Context, "in_thread", raising(BUG), "pipeline.error"),
    ("content", "generator", content, "MODEL", Failing(AWAY), "provider.error"),
    ("content", "generator", content, "MODEL", Failing(NO), "provider.refused"),
    ("content", "generator", content, "MODEL", Failing(WHY), "pipeline.rejected"),
    ("content", "generator", content, "MODEL", Failing(BUG), "pipeline.error"),
    ("content", "formatter", content, "_document", raising(BUG), "pipeline.error"),
    ("content", "validator", content, "check", raising(BUG), "pipeline.error"),
    ("content", "retry", content, "MODEL", Rambling(), "stages.failed"),
    ("campaign", "research", campaign, "find", raising(BUG), "pipeline.error"),
    ("campaign", "audience", campaign, "speaking", raising(BUG), "pipeline.error"),
    ("campaign", "concept", campaign, "headline", raising(BUG), "pipeline.error"),
    ("campaign", "copy:ad", campaign, "COPYWRITER", Copyless(LONG), "stages.failed"),
    ("campaign", "copy:ad", campaign, "COPYWRITER", Copyless(BUG), "stages.failed"),
    ("campaign", "review", campaign, "review", raising(BUG), "pipeline.error"),
    ("campaign", "assemble", campaign, "templates", raising(BUG), "pipeline.error"),
    ("crew", "research", ACTIONS, "extract", acting, "stages.failed"),
    ("crew", "analysis", ACTIONS, "compare", acting, "stages.failed"),
    ("crew", "critique", ACTIONS, "criticise", acting, "stages.failed"),
    ("crew", "report", ACTIONS, "report", acting, "stages.failed"),
    ("agent", "plan", planner, "plan", raising(BUG), "pipeline.error"),
    ("agent", "act", TOOLS, "calculator", acting, "pipeline.error"),
    ("agent", "answer", planner, "answer", raising(BUG), "pipeline.error"),
    ("autopilot", "search", writing, "search", raising(BUG), "pipeline.error"),
    ("autopilot", "strategy", writing, "plan", raising(BUG), "pipeline.error"),
    ("autopilot", "outline", outline, "Extractive", raising(BUG), "pipeline.error"),
    ("generation", "prepare", writing, "passages", raising(BUG), "pipeline.error"),
    ("generation", "write", writing, "MODEL", Failing(LONG), "stages.failed"),
    ("generation", "write", writing, "MODEL", Failing(BUG), "stages.failed"),
    ("generation", "done", writing, "count_words", raising(BUG), "pipeline.error"),
]


def broken(patch: pytest.MonkeyPatch, where: Any, what: str, by: Any) -> None:
    if isinstance(where, dict):
        patch.setitem(where, what, by)
    else:
        patch.setattr(where, what, by)


@pytest.mark.parametrize(("name", "stage", "where", "what", "by", "code"), FAILURES)
async def test_a_failure_in_any_stage_is_told_and_can_be_retried(runs, name, stage, where, what, by, code):
    """`run.failed` with its code and no word of the inside, in that stage; a retry, once it works, gives the result."""
    expected = await whole(runs, name)
    with pytest.MonkeyPatch.context() as patch, capture_logs() as logged:
        broken(patch, where, what, by)
        run = await start(runs, name, INPUTS[name])
        last = await ending(runs, run)
    assert (last["type"], last["error"]["code"]) == ("run.failed", code)
    assert last["error"]["retryable"] == (code == "provider.error")
    incidents = [entry["incident"] for entry in logged if "incident" in entry]
    assert incidents == ([last["error"]["incident"]] if code == "pipeline.error" else [])
    log = await log_of(runs, run)
    assert "passwd" not in str(log)
    assert [event["stage"] for event in log if event["type"] == "stage.started"][-1] == stage or name == "crew"
    assert stage not in [event["stage"] for event in log if event["type"] == "stage.completed"] or stage == "copy:ad"
    assert last.get("usage") == spent(log)
    again = await runs.retry(ALICE, await runs.views.find(ALICE, run.id))
    last = await ending(runs, again)
    assert (await log_of(runs, again))[0]["retry_of"] == run.id
    assert plain(last["result"]) == plain(expected["result"])


async def test_a_tool_that_fails_is_told_and_the_agent_goes_on(runs, monkeypatch):
    """The step has the error, the answer says so, and the run completes."""

    async def out_of_order(*_args):
        raise ToolFailed("Out of order.")

    for tool in ("search", "calculator", "word_count"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(TOOLS, tool, out_of_order)
            last = await whole(runs, "agent")
        assert last["type"] == "run.completed"
        assert [step["tool"] for step in last["result"]["steps"] if step["error"]] == [tool]
        assert "Out of order." in last["result"]["answer"]


async def test_one_channel_or_block_that_fails_is_a_warning(runs, monkeypatch):
    """The run goes on without it and completes with the rest, which says what is missing."""

    class Half:
        async def write(self, channel, brief):
            if channel == "ad":
                raise AWAY
            return await COPYWRITER.write(channel, brief)

    monkeypatch.setattr(campaign, "COPYWRITER", Half())
    last = await whole(runs, "campaign")
    assert (list(last["result"]["channels"]), [one["channel"] for one in last["result"]["failed"]]) == (
        ["email"],
        ["ad"],
    )
    assert [event["code"] for event in await log_of(runs, last["run"]) if event["type"] == "warning"] == ["copy.ad"]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
async def test_a_spent_budget_cancels_the_agent_with_its_usage(runs, share):
    """`budget.exceeded`, then `run.cancelled` by the gateway for reason `budget` with all that was spent."""
    usage = (await whole(runs, "agent"))["usage"]
    last = await whole(runs, "agent", budget_usd=usage["cost_usd"] * share)
    log = await log_of(runs, last["run"])
    assert (last["type"], last["by"], last["reason"], last["forced"]) == ("run.cancelled", "gateway", "budget", False)
    assert "budget.exceeded" in types(log)
    assert last["usage"] == spent(log)
    assert 0 < last["usage"]["cost_usd"] <= usage["cost_usd"]
