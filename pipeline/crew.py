"""The built-in pipeline `crew`: agents with tasks that wait for each other, side by side where the graph allows.

Rule 1: a task begins when all that it depends on is done; one whose dependency failed or was skipped is skipped.
Rule 2: what an action does is in `pipeline.actions`; here stands when it is done, how often, and what viewers see.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pipeline.actions import ACTIONS, MODEL, Job, Output
from pipeline.calling import Writer
from pipeline.context import Context, side_by_side
from pipeline.documents import Documents, as_sources
from pipeline.errors import BudgetExceeded, PipelineError, ProviderRefused, Rejected, none_left
from pipeline.models import Source
from pipeline.registry import pipeline

PACE_S = 0.08  # between the lines of an output, so that viewers see it grow; ten times that before a retry
RETRIES = 2
MOST_AT_ONCE = 4  # actions under way: they share one interpreter with the gateway
MOST_CHARS = 10_000  # of an output: 24 of them and the report fit a terminal event

Status = Literal["waiting", "running", "retrying", "done", "failed", "skipped"]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]

log = logging.getLogger(__name__)


class Agent(BaseModel):
    """Who does tasks. `role` heads what the agent writes in a report."""

    model_config = ConfigDict(extra="forbid")

    name: Id
    role: Line
    max_words: int = Field(default=220, ge=30, le=1000, description="The most words that each output quotes.")


class Task(BaseModel):
    """One step of the work, `action` being a name in `pipeline.actions.ACTIONS`."""

    model_config = ConfigDict(extra="forbid")

    id: Id
    agent: Id
    action: Id = Field(description="extract, compare, figures, criticise, summarise or report.")
    depends_on: list[Id] = Field(default_factory=list, max_length=24)
    focus: Line | None = Field(default=None, description="What this task is about, where not the goal.")


AGENTS = (
    Agent(name="researcher", role="Findings"),
    Agent(name="analyst", role="Comparison of words"),
    Agent(name="critic", role="What is missing"),
    Agent(name="writer", role="Report"),
)
TASKS = (
    Task(id="research", agent="researcher", action="extract"),
    Task(id="analysis", agent="analyst", action="compare", depends_on=["research"]),
    Task(id="critique", agent="critic", action="criticise", depends_on=["research"]),
    Task(id="report", agent="writer", action="report", depends_on=["research", "analysis", "critique"]),
)


class CrewInput(BaseModel):
    """A goal, the documents to reach it with, and who does what."""

    model_config = ConfigDict(extra="forbid", title="Crew")

    goal: Line = Field(title="Goal", description="What the crew is to find out from the documents.")
    documents: Documents = Field(
        title="Documents",
        description="Texts to read, plain or Markdown; at least one.",
        json_schema_extra={"x-widget": "textarea"},
    )
    agents: list[Agent] = Field(
        default_factory=list,
        max_length=24,
        title="Agents",
        description="Beside or instead of researcher, analyst, critic and writer.",
    )
    tasks: list[Task] = Field(
        default_factory=list,
        max_length=24,
        title="Tasks",
        description="Empty: research, then analysis and critique side by side, then a report.",
    )


class TaskResult(BaseModel):
    """How a task ended. `output` is Markdown, empty unless the task is done; `attempts` is 0 for a skipped one."""

    agent: str
    action: str
    status: Status
    output: str = ""
    attempts: int = 0
    error: str | None = None


class CrewResult(BaseModel):
    """`report` is the output of the tasks that no other waits for, those that are done."""

    goal: str
    tasks: dict[str, TaskResult]
    report: str


@pipeline("crew")
async def crew(ctx: Context, input: CrewInput) -> CrewResult:
    """A crew of agents reads documents for a goal: findings, comparison and critique side by side, then a report."""
    documents = as_sources(input.documents)
    if not documents:
        raise Rejected("A crew works on documents: give at least one that holds text.")
    tasks = _ordered(input.tasks or TASKS)
    agents = _agents(input, tasks)
    work = _Work(ctx, input.goal, documents, {task.id: task for task in tasks}, agents)
    for task in tasks:
        await work.say(task, "waiting", depends_on=task.depends_on)
    await side_by_side(work.take(task) for task in tasks)
    needed = {one for task in tasks for one in task.depends_on}
    final = [task for task in tasks if task.id not in needed]
    done = [task for task in final if task.id in work.outputs]
    if not done:
        errors = [f"{name}: {one.error}" for name, one in work.results.items() if one.status == "failed"]
        raise none_left(f"No final task was done. {' '.join(errors)}"[:1000], work.errors)
    whole = [work.outputs[task.id].markdown for task in done]
    if len(done) > 1:
        whole = [f"## {work.titles[task.id]}\n\n{text}" for task, text in zip(done, whole, strict=True)]
    results = {task.id: work.results[task.id] for task in tasks}
    return CrewResult(goal=input.goal, tasks=results, report="\n\n".join(whole))


@dataclass
class _Work:
    """What is known of the tasks while they run; `results` has those that have ended, `outputs` those that are done."""

    ctx: Context
    goal: str
    documents: tuple[Source, ...]
    tasks: dict[str, Task]
    agents: dict[str, Agent]
    results: dict[str, TaskResult] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ended = {name: asyncio.Event() for name in self.tasks}
        self._writer = Writer(self.ctx, MODEL, shown=False)
        self._place = asyncio.Semaphore(MOST_AT_ONCE)
        roles = [self.agents[task.agent].role for task in self.tasks.values()]
        self.titles = {
            task.id: role if roles.count(role) == 1 else f"{role}: {task.focus or task.id}"
            for task, role in zip(self.tasks.values(), roles, strict=True)
        }

    async def take(self, task: Task) -> None:
        """See a task to its end, whatever that is."""
        for one in task.depends_on:
            await self._ended[one].wait()
        missing = [one for one in task.depends_on if one not in self.outputs]
        if missing:
            error = f"{' and '.join(missing)} could not be done"
            await self._end(task, TaskResult(agent=task.agent, action=task.action, status="skipped", error=error))
            return
        try:
            index = list(self.tasks).index(task.id) + 1
            async with self.ctx.stage(task.id, index=index, of=len(self.tasks)):
                result = await self._attempts(task)
        except _Failed as failed:
            result = failed.result
        await self._end(task, result)

    async def _attempts(self, task: Task) -> TaskResult:
        """Raises _Failed after RETRIES, or at once when another try would not help."""
        result = TaskResult(agent=task.agent, action=task.action, status="running")
        while True:
            result.attempts += 1
            await self.say(task, "running", attempt=result.attempts)
            await self._progress(task, f"{task.agent} works on {task.id}")
            try:
                async with self._place:
                    output = await ACTIONS[task.action](self._job(task))
            except BudgetExceeded:
                raise
            except Exception as error:  # an agent's failure is its own, whatever it is
                # A provider's model has had its attempts within the call, so only bugs are left to try again.
                hopeless = (Rejected, ProviderRefused) if self._writer.at_leisure else PipelineError
                again = result.attempts <= RETRIES and not isinstance(error, hopeless)
                # The words of an unexpected exception are not for viewers.
                result.error = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}"
                log.warning("task %s of run %s failed", task.id, self.ctx.run, exc_info=error)
                if not again:
                    result.status = "failed"
                    self.errors.append(error)
                    raise _Failed(result) from error
                await self.say(task, "retrying", attempt=result.attempts, error=result.error)
                await asyncio.sleep(PACE_S * 10 * result.attempts)
                await self.ctx.checkpoint()
                continue
            output = Output(_clip(output.markdown), output.claims)
            await self._show(task, output)
            self.outputs[task.id] = output
            result.status, result.output, result.error = "done", output.markdown, None
            return result

    async def _show(self, task: Task, output: Output) -> None:
        """Let a block grow line by line, then show the whole."""
        names = {one.key: one.name for one in self.documents}
        for line in re.findall(r"[^\n]+\n*|\n+", output.markdown):
            await self.ctx.checkpoint()
            cites = [{"key": key, "source": names[key]} for key in names if f"[{key}]" in line]
            await self.ctx.delta(task.id, line, cites=cites or None)
            await asyncio.sleep(PACE_S)
        await self.ctx.delta(task.id, "", done=True)
        await self.ctx.draft(output.markdown, message=f"{task.agent}: {task.id}")

    async def _end(self, task: Task, result: TaskResult) -> None:
        self.results[task.id] = result
        extra = {"error": result.error} if result.error else {}
        await self.say(task, result.status, attempt=result.attempts, **extra)
        if result.status == "failed":
            await self.ctx.warning("task.failed", f"{task.id} ({task.agent}) failed: {result.error}")
        await self._progress(task, f"{task.id}: {result.status}")
        self._ended[task.id].set()

    async def say(self, task: Task, status: Status, **more: Any) -> None:
        await self.ctx.emit("x.crew.task", task=task.id, agent=task.agent, action=task.action, status=status, **more)

    async def _progress(self, task: Task, message: str) -> None:
        """Also said after the task's stage has ended."""
        share = round(100 * len(self.results) / len(self.tasks))
        await self.ctx.emit("progress", stage=task.id, message=message, progress=share)

    def _job(self, task: Task) -> Job:
        return Job(
            goal=self.goal,
            topic=task.focus or self.goal,
            documents=self.documents,
            inputs={one: self.outputs[one] for one in task.depends_on},
            titles=self.titles,
            max_words=self.agents[task.agent].max_words,
            writer=self._writer,
        )


class _Failed(Exception):
    """Leaves a stage open: one that failed is never completed."""

    def __init__(self, result: TaskResult) -> None:
        self.result = result


def _ordered(tasks: Sequence[Task]) -> list[Task]:
    """The tasks so that each comes after what it depends on. Raises Rejected."""
    known = {task.id: task for task in tasks}
    if len(known) < len(tasks):
        raise Rejected("Two tasks have the same id.")
    for task in tasks:
        if task.action not in ACTIONS:
            raise Rejected(f"Task {task.id}: there is no action {task.action}; there are {', '.join(ACTIONS)}.")
        if unknown := [one for one in task.depends_on if one not in known]:
            raise Rejected(f"Task {task.id} depends on {unknown[0]}, which is no task.")
    try:
        order = list(TopologicalSorter({task.id: task.depends_on for task in tasks}).static_order())
    except CycleError as error:
        raise Rejected(f"These tasks wait for each other: {', '.join(sorted(set(error.args[1])))}.") from None
    return [known[name] for name in order]


def _agents(input: CrewInput, tasks: Sequence[Task]) -> dict[str, Agent]:
    if len({agent.name for agent in input.agents}) < len(input.agents):
        raise Rejected("Two agents have the same name.")
    known = {agent.name: agent for agent in (*AGENTS, *input.agents)}
    for task in tasks:
        if task.agent not in known:
            raise Rejected(f"Task {task.id} is given to {task.agent}, who is no agent.")
    return known


def _clip(text: str) -> str:
    return text if len(text) <= MOST_CHARS else text[:MOST_CHARS].rsplit("\n", 1)[0] + "\n…"
