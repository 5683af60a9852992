"""The crew pipeline: who waits for whom, what happens to failures, and that reports say what the documents say."""

import asyncio

import pytest
from pydantic import ValidationError

from pipeline import Context, Recorder, Rejected, StagesFailed, crew
from pipeline.actions import ACTIONS, Job, Output
from pipeline.crew import CrewInput, CrewResult
from pipeline.errors import ProviderError
from pipeline.models.extractive import escape
from pipeline.models.sentences import flat, split
from pipeline.registry import REGISTRY
from tests.pipeline.texts import WORKS, Work, read

BEES = (
    "Bees carry pollen from flower to flower. The workers of a colony feed the queen all summer long. "
    "A colony of bees stores honey for the cold months. In 1851 a hive with 10 movable frames was shown."
)


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PACE_S", 0)


def act(monkeypatch: pytest.MonkeyPatch, name: str, action) -> None:
    monkeypatch.setitem(ACTIONS, name, action)


async def say(job: Job) -> Output:
    return Output("said")


async def fail(job: Job) -> Output:
    raise RuntimeError("secret path /etc")


def task(id: str, *depends_on: str, action: str = "say", agent: str = "writer", **more) -> dict:
    return {"id": id, "agent": agent, "action": action, "depends_on": depends_on, **more}


async def run(*tasks: dict, recorder: Recorder | None = None, **given) -> tuple[CrewResult, Recorder]:
    recorder = recorder or Recorder()
    given = {"goal": "bees and honey", "documents": [BEES], "tasks": list(tasks), **given}
    return await crew.crew(Context(recorder), CrewInput.model_validate(given)), recorder


def told(recorder: Recorder, id: str | None = None) -> list:
    said = [fields for type, fields in recorder.events if type == "x.crew.task"]
    return [each["status"] for each in said if each["task"] == id] if id else [(e["task"], e["status"]) for e in said]


def of(recorder: Recorder, type: str) -> list[dict]:
    return [fields for kind, fields in recorder.events if kind == type]


@pytest.mark.parametrize("works", [WORKS[:2], WORKS[2:4], WORKS[4:]], ids=lambda works: works[0].name)
async def test_the_default_crew_reports_on_real_texts(works: tuple[Work, ...]) -> None:
    """Four tasks, each done at once; every finding is a sentence of the document that it cites."""
    texts = [read(work) for work in works]
    result, recorder = await run(goal=" and ".join(work.topic for work in works), documents=texts)
    assert [(one.status, one.attempts) for one in result.tasks.values()] == [("done", 1)] * 4
    assert result.report == result.tasks["report"].output
    for heading in ("Findings", "Comparison of words", "What is missing"):
        assert f"## {heading}" in result.report
    findings = result.tasks["research"].output.splitlines()
    assert len(findings) >= 3
    for line in findings:
        key = int(line[line.rindex("[") + 1 : -1])
        assert line.removeprefix("- ").rsplit(" [", 1)[0].removesuffix(" …") in escape(flat(texts[key - 1]))
    assert not of(recorder, "warning")


async def test_different_texts_give_different_reports() -> None:
    """What is reported comes from the documents."""
    reports = [(await run(goal="what happens", documents=[read(work)]))[0].report for work in WORKS[:3]]
    assert len(set(reports)) == 3


async def test_events_tell_of_every_task() -> None:
    """Each task waits, runs and is done; its stage, block and draft bear its id, and progress only rises to 100."""
    result, recorder = await run()
    assert told(recorder)[:4] == [(name, "waiting") for name in ("research", "analysis", "critique", "report")]
    for name, one in result.tasks.items():
        assert told(recorder, name) == ["waiting", "running", "done"]
        blocks = [fields for fields in of(recorder, "delta") if fields["block"] == name]
        assert "".join(fields["delta"] for fields in blocks) == one.output
        assert blocks[-1]["done"] is True
        assert [f["draft"] for f in of(recorder, "draft") if f["stage"] == name] == [one.output]
    assert {fields["stage"] for fields in of(recorder, "stage.completed")} == set(result.tasks)
    progress = [fields["progress"] for fields in of(recorder, "progress")]
    assert progress == sorted(progress)
    assert progress[-1] == 100


async def test_tasks_that_do_not_wait_for_each_other_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tasks meet, which they could not one after the other; the one that needs both comes last."""
    barrier = asyncio.Barrier(2)

    async def meet(job: Job) -> Output:
        await barrier.wait()
        return Output("met")

    act(monkeypatch, "meet", meet)
    act(monkeypatch, "say", say)
    result, recorder = await run(task("c", "a", "b"), task("a", action="meet"), task("b", action="meet"))
    assert result.report == "said"
    assert told(recorder)[-2:] == [("c", "running"), ("c", "done")]


async def test_a_task_sees_what_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs of its dependencies, no others, and its own focus as topic."""
    seen: list[Job] = []

    async def look(job: Job) -> Output:
        seen.append(job)
        return Output(job.topic)

    act(monkeypatch, "look", look)
    await run(task("a", action="look"), task("b", "a", action="look", focus="honey"), task("c", action="look"))
    by_topic = {job.topic: job for job in seen}
    assert by_topic["honey"].inputs == {"a": Output("bees and honey")}


@pytest.mark.parametrize("failures", [1, 2])
async def test_a_failing_agent_is_tried_again(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    """At most twice; then the output is as if nothing had been."""
    left = [ProviderError("The provider is away.")] * failures

    async def flaky(job: Job) -> Output:
        if left:
            raise left.pop()
        return Output("at last")

    act(monkeypatch, "flaky", flaky)
    result, recorder = await run(task("a", action="flaky"))
    assert told(recorder, "a") == ["waiting", "running", *["retrying", "running"] * failures, "done"]
    assert (result.report, result.tasks["a"].attempts, result.tasks["a"].error) == ("at last", failures + 1, None)
    assert len(of(recorder, "stage.started")) == 1


@pytest.mark.parametrize("broken", ["extract", "compare", "criticise", "report"])
async def test_each_stage_may_fail(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Whichever action of the default crew fails for good, its dependants are skipped and the run fails in words."""
    act(monkeypatch, broken, fail)
    recorder = Recorder()
    with pytest.raises(StagesFailed, match="RuntimeError") as caught:
        await run(recorder=recorder)
    assert "secret" not in str(caught.value) + str(recorder.events)
    failed = [name for name, status in told(recorder) if status == "failed"]
    skipped = {name for name, status in told(recorder) if status == "skipped"}
    expected = {"extract": {"analysis", "critique", "report"}, "report": set()}
    assert (len(failed), skipped) == (1, expected.get(broken, {"report"}))
    assert told(recorder, failed[0]).count("running") == 3
    assert failed[0] not in {fields["stage"] for fields in of(recorder, "stage.completed")}


async def test_one_final_task_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed and what was skipped stands in the result beside what was done."""
    act(monkeypatch, "fail", fail)
    act(monkeypatch, "say", say)
    result, recorder = await run(task("a", action="fail"), task("b", "a"), task("c"))
    assert {name: (one.status, one.attempts, one.output) for name, one in result.tasks.items()} == {
        "a": ("failed", 3, ""),
        "b": ("skipped", 0, ""),
        "c": ("done", 1, "said"),
    }
    assert result.report == "said"
    assert [fields["code"] for fields in of(recorder, "warning")] == ["task.failed"]


async def test_a_refusal_is_not_tried_again() -> None:
    """A document without a sentence cannot get one by asking twice."""
    recorder = Recorder()
    with pytest.raises(StagesFailed, match="no sentence"):
        await run(recorder=recorder, documents=["1 2 3"])
    assert told(recorder, "research") == ["waiting", "running", "failed"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"tasks": [task("a", "b"), task("b", "a")]}, "wait for each other: a, b"),
        ({"tasks": [task("a", "a")]}, "wait for each other"),
        ({"tasks": [task("a", "x")]}, "x, which is no task"),
        ({"tasks": [task("a", agent="x")]}, "x, who is no agent"),
        ({"tasks": [task("a", action="x")]}, "no action x"),
        ({"tasks": [task("a"), task("a")]}, "same id"),
        ({"agents": [{"name": "a", "role": "A"}] * 2}, "same name"),
        ({"documents": []}, "at least one"),
        ({"documents": [" \n"]}, "at least one"),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_rejected_before_any_event(
    monkeypatch: pytest.MonkeyPatch, given: dict, why: str
) -> None:
    """Cycles, unknown names and doubles are told in words."""
    act(monkeypatch, "say", say)
    recorder = Recorder()
    with pytest.raises(Rejected, match=why):
        await run(*given.pop("tasks", []), recorder=recorder, **given)
    assert not recorder.events


@pytest.mark.parametrize("wrong", [{"goal": " "}, {"documents": ["a"] * 21}, {"documents": ["a" * 200_001]}], ids=str)
async def test_input_out_of_bounds_is_refused(wrong: dict) -> None:
    """Nothing beyond the documented bounds is taken."""
    with pytest.raises(ValidationError):
        await run(**wrong)


@pytest.mark.parametrize("stage", ["research", "analysis", "critique", "report"])
async def test_a_cancel_takes_effect_in_each_stage(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """The task under way is cancelled with its neighbours, and nothing is said afterwards."""
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def hang(job: Job) -> Output:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    actions = {one.id: one.action for one in crew.TASKS}
    act(monkeypatch, actions[stage], hang)
    recorder = Recorder()
    running = asyncio.create_task(run(recorder=recorder))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert stopped.is_set()
    assert told(recorder, stage) == ["waiting", "running"]


class Gated(Recorder):
    """Lets a number of checkpoints pass, then holds the run until it is opened."""

    def __init__(self, free: int) -> None:
        super().__init__()
        self.free, self.held, self.open = free, asyncio.Event(), asyncio.Event()

    async def checkpoint(self) -> None:
        self.free -= 1
        if self.free < 0:
            self.held.set()
            await self.open.wait()


@pytest.mark.parametrize("free", [0, 1, 4, 8, 20])
async def test_a_paused_run_stands_still_and_goes_on(free: int) -> None:
    """Wherever it is paused no line follows, and resumed it ends as if nothing had been."""
    expected, _ = await run()
    sink = Gated(free)
    running = asyncio.create_task(run(recorder=sink))
    await sink.held.wait()
    before = len(of(sink, "delta"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(of(sink, "delta")) - before <= 1  # another task may have been past its checkpoint
    assert not running.done()
    sink.open.set()
    assert (await running)[0] == expected


async def test_figures_and_a_summary_of_tasks() -> None:
    """Every figure stands in its sentence, and a summary takes its sentences from the tasks before it."""
    tasks = [task("f", action="figures", agent="analyst"), task("s", "f", action="summarise")]
    result, _ = await run(*tasks)
    assert result.tasks["f"].output.startswith("- **1851, 10**: In 1851 a hive with 10 movable frames was shown. [1]")
    assert result.report == "In 1851 a hive with 10 movable frames was shown. [1]"
    result, _ = await run(*tasks, documents=[read(WORKS[2]), read(WORKS[3])])
    sentences = {sentence.text for work in WORKS[2:4] for sentence in split(read(work))}
    figures = [line for line in result.tasks["f"].output.splitlines() if line.startswith("- **")]
    assert len(figures) >= 5
    assert all(line.split("**: ", 1)[1].rsplit(" [", 1)[0] in {escape(one) for one in sentences} for line in figures)


async def test_one_may_bring_agents_of_ones_own() -> None:
    """They stand beside the default ones, and their role heads what they write."""
    agents = [{"name": "me", "role": "My own findings", "max_words": 30}]
    tasks = [task("a", action="extract", agent="me"), task("r", "a", action="report")]
    result, _ = await run(*tasks, agents=agents)
    assert "## My own findings" in result.report


def test_the_form_knows_what_to_show() -> None:
    """Every field has a title and a description."""
    declared = REGISTRY.get("crew")
    assert declared is not None
    assert all(field["title"] and field["description"] for field in declared.input_schema()["properties"].values())
