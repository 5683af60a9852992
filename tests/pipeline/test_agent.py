"""The agent pipeline: plans from the words of the task, calls with their costs, budgets, questions, pauses."""

import asyncio

import pytest
from pydantic import ValidationError

from pipeline import BudgetExceeded, Context, Recorder, Rejected, agent, planner
from pipeline.agent import AgentInput, AgentResult
from pipeline.models.extractive import escape
from pipeline.models.sentences import flat
from pipeline.registry import REGISTRY
from pipeline.spending import OverBudget
from pipeline.tools import TOOLS, ToolFailed
from tests.pipeline.texts import WORKS, Work, read

BEES = "Bees carry pollen from flower to flower. The queen of a colony was seen by Maria on 4 May."
TASK = "Who saw the queen? What is 12 * (3 + 4)? How many words are in the documents?"


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "PACE_S", 0)


async def run(
    task: str = TASK, *, recorder: Recorder | None = None, options: dict | None = None, **given
) -> tuple[AgentResult, Recorder]:
    recorder = recorder or Recorder()
    input = AgentInput.model_validate({"task": task, "documents": [BEES], **given})
    return await agent.agent(Context(recorder, options=options), input), recorder


def of(recorder: Recorder, *types: str) -> list[dict]:
    return [fields for kind, fields in recorder.events if kind in types]


@pytest.mark.parametrize(
    ("task", "calls"),
    [
        ("What is 12 * (3 + 4)?", [("calculator", "12 * (3 + 4)")]),
        ("17% of 2,340, and the square root of 9", [("calculator", "17 / 100 * 2340"), ("calculator", "sqrt(9)")]),
        ("5 times 7 plus 1, and 2^10", [("calculator", "5 * 7 + 1"), ("calculator", "2 ** 10")]),
        ("what is 9**9**9?", [("calculator", "9**9**9")]),
        ('How many words are in "to be or not to be"?', [("word_count", "to be or not to be")]),
        ("How often is Holmes mentioned?", [("word_count", "Holmes")]),
        ("Who was Holmes, and how many words are there?", [("search", "Who was Holmes"), ("word_count", None)]),
        ("What happened on 2024-05-06, on pages 10-20?", [("search", "What happened on 2024-05-06, on pages 10-20")]),
        ("In 1889/90 what did Newton do?", [("search", "In 1889/90 what did Newton do")]),
        ("Read https://a.b/c?d=1. What of tides?", [("http_get", "https://a.b/c?d=1"), ("search", "What of tides")]),
        ("fetch file:///etc/passwd", [("http_get", "file:///etc/passwd")]),
        ("please tell me", []),
    ],
)  # fmt: skip
def test_the_plan_follows_the_words_of_the_task(task: str, calls: list) -> None:
    """Arithmetic is calculated, words counted, addresses read, and the rest is searched for."""
    assert [(step.tool, next(iter(step.args.values()), None)) for step in planner.plan(task)] == calls


@pytest.mark.parametrize("work", WORKS[2:], ids=lambda work: work.name)
async def test_real_texts_are_searched_and_cited(work: Work) -> None:
    """What the answer quotes stands in the text, and every paragraph cites its call."""
    text = read(work)
    result, recorder = await run(f"What is said of {work.topic}? How many words are there? 6*7", documents=[text])
    quotes = result.steps[0].result["passages"]
    assert quotes
    assert all(flat(each["quote"]) in flat(text) and escape(each["quote"]) in result.answer for each in quotes)
    assert "6\\*7 = 42 [t3]" in result.answer
    assert {cite["key"] for fields in of(recorder, "delta") for cite in fields.get("cites", [])} == {"t1", "t2", "t3"}
    assert "".join(fields["delta"] for fields in of(recorder, "delta")) == result.answer


async def test_events_come_in_order_and_add_up() -> None:
    """Stages, two model calls, three tools; the calls' costs are the usage of the result."""
    result, recorder = await run()
    assert [kind for kind, _ in recorder.events if kind.startswith(("stage", "llm", "tool"))] == [
        "stage.started", "llm.started", "llm.completed", "stage.completed",
        "stage.started", *["tool.started", "tool.completed"] * 3, "stage.completed",
        "stage.started", "llm.started", "llm.completed", "stage.completed",
    ]  # fmt: skip
    calls = of(recorder, "llm.completed")
    assert result.usage.cost_usd == pytest.approx(sum(call["cost_usd"] for call in calls))
    assert result.usage.input_tokens == sum(call["usage"]["input_tokens"] for call in calls)
    price = agent.PRICES[planner.NAME]
    for call in calls:
        tokens = call["usage"]
        cost = tokens["input_tokens"] * price.input_usd + tokens["output_tokens"] * price.output_usd
        assert call["cost_usd"] == pytest.approx(cost / 1e6)
    assert "Maria" in result.answer
    assert "12 \\* (3 + 4) = 84 [t2]" in result.answer
    assert "19 words. [t3]" in result.answer
    progress = [fields["progress"] for fields in of(recorder, "progress")]
    assert progress == sorted(progress)
    assert progress[-1] == 100


async def test_a_search_that_finds_nothing_is_tried_once_more() -> None:
    """A third model call finds other words; when they find something too, the answer has both."""
    result, recorder = await run("What is known about pollination?")
    assert [step.args["query"] for step in result.steps] == ["What is known about pollination", "pollinati"]
    assert len(of(recorder, "llm.completed")) == 3
    assert "nothing on “What is known about pollination”. [t1]" in result.answer
    assert len((await run("What is known about pollination?", max_steps=1))[0].steps) == 1


async def test_too_many_steps_are_left_out_and_told() -> None:
    """At most max_steps tools are called."""
    result, recorder = await run(max_steps=2)
    assert [step.tool for step in result.steps] == ["search", "calculator"]
    assert [fields["code"] for fields in of(recorder, "warning")] == ["steps.left_out"]


async def test_a_task_that_asks_for_nothing_is_rejected() -> None:
    """The refusal says what could be asked."""
    with pytest.raises(Rejected, match="no question"):
        await run("please tell me")


@pytest.mark.parametrize("tool", ["search", "calculator", "word_count"])
async def test_a_tool_that_fails_is_told_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    """The step has its error instead of a result, and so has the answer."""

    async def broken(desk, args):
        raise ToolFailed("Out of order.")

    monkeypatch.setitem(TOOLS, tool, broken)
    result, recorder = await run()
    assert [step.tool for step in result.steps if step.error == "Out of order."] == [tool]
    assert "Out of order. [t" in result.answer
    assert sum("error" in fields for fields in of(recorder, "tool.completed")) == 1


async def test_a_budget_that_is_nearly_spent_is_warned_of() -> None:
    """At 80 %, once; the run completes."""
    whole = (await run())[0].usage.cost_usd
    result, recorder = await run(options={"budget_usd": whole / 0.9})
    assert result.usage.cost_usd == whole
    assert of(recorder, "budget.warning") == [{"limit_usd": whole / 0.9, "spent_usd": whole}]
    assert not of(recorder, "budget.exceeded")


@pytest.mark.parametrize(("share", "calls"), [(0.0, 1), (0.9, 2)])
async def test_a_spent_budget_stops_the_run(share: float, calls: int) -> None:
    """Right after the call that spent it, with the usage so far; no answer is shown."""
    whole = (await run())[0].usage.cost_usd
    recorder = Recorder()
    with pytest.raises(OverBudget) as caught:
        await run(recorder=recorder, options={"budget_usd": whole * share})
    assert isinstance(caught.value, BudgetExceeded)
    assert [kind for kind, _ in recorder.events[-2:]] == ["llm.completed", "budget.exceeded"]
    assert len(of(recorder, "llm.completed")) == calls
    assert caught.value.usage.cost_usd == of(recorder, "budget.exceeded")[0]["spent_usd"] > 0


FETCH = "Read http://example.com/a and http://example.com/b. 1 + 1"


async def test_a_person_is_asked_before_the_first_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for all pages, with their addresses; after a yes they are fetched."""
    fetched = []

    async def get(desk, args):
        fetched.append(args["url"])
        return {"url": args["url"], "status": 200, "type": "text/plain", "bytes": 2, "cut": False, "excerpt": "Hi"}

    monkeypatch.setitem(TOOLS, "http_get", get)
    _, recorder = await run(FETCH, recorder=Recorder(answers=[True]), ask_before=True)
    (asked,) = of(recorder, "input.requested")
    assert asked["prompt"] == "May the agent fetch http://example.com/a, http://example.com/b?"
    assert fetched == ["http://example.com/a", "http://example.com/b"]
    _, recorder = await run(FETCH)
    assert not of(recorder, "input.requested")
    assert len(fetched) == 4


async def test_a_no_keeps_the_agent_from_fetching(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the task is done, and the answer says what was declined."""
    monkeypatch.delitem(TOOLS, "http_get")
    result, _ = await run(FETCH, recorder=Recorder(answers=[False]), ask_before=True, allowed_hosts=["example.com"])
    assert [step.error for step in result.steps] == ["A person declined it."] * 2 + [None]
    assert "1 + 1 = 2" in result.answer


async def test_a_host_that_is_not_allowed_is_not_fetched() -> None:
    """Nothing is allowed unless it is named."""
    result, _ = await run("Read http://example.com/a and file:///etc/passwd")
    assert "example.com is not among" in result.steps[0].error
    assert "Only http" in result.steps[1].error


class Gated(Recorder):
    """Holds the run at its first checkpoint after an event of a type, until it is opened."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at, self.held, self.open = at, asyncio.Event(), asyncio.Event()

    async def checkpoint(self) -> None:
        if self.events and self.events[-1][0] == self.at:
            self.held.set()
            await self.open.wait()


WHERE = ["stage.started", "stage.completed", "tool.completed", "progress", "delta"]


@pytest.mark.parametrize("at", WHERE)
async def test_a_paused_run_stands_still_and_goes_on(at: str) -> None:
    """Between steps, calls and phrases; resumed it gives what it would have given."""
    expected, _ = await run()
    sink = Gated(at)
    running = asyncio.create_task(run(recorder=sink))
    await sink.held.wait()
    before = len(sink.events)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(sink.events) == before
    sink.open.set()
    result, _ = await running
    assert (result.answer, result.usage) == (expected.answer, expected.usage)


@pytest.mark.parametrize("at", WHERE)
async def test_a_cancel_takes_effect_where_it_stands(at: str) -> None:
    """Nothing is said after it."""
    running = asyncio.create_task(run(recorder=(sink := Gated(at))))
    await sink.held.wait()
    before = len(sink.events)
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    assert len(sink.events) == before


@pytest.mark.parametrize(
    "wrong", [{"task": " "}, {"max_steps": 0}, {"max_steps": 13}, {"allowed_hosts": [""]}], ids=str
)
async def test_input_out_of_bounds_is_refused(wrong: dict) -> None:
    """Nothing beyond the documented bounds is taken."""
    with pytest.raises(ValidationError):
        await run(**wrong)


def test_the_form_knows_what_to_show() -> None:
    """Every field has a title and a description."""
    declared = REGISTRY.get("agent")
    assert declared is not None
    assert all(field["title"] and field["description"] for field in declared.input_schema()["properties"].values())
