"""The built-in pipeline `agent`: a plan, tool calls, perhaps a question to a person, and an answer that cites them.

Rule 1: what a model call costs is counted here, call by call; a run that has spent its `budget_usd` stops there.
Rule 2: a tool that fails is a result like any other: the answer tells of it and the run goes on.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pipeline import planner
from pipeline.context import Context
from pipeline.documents import Documents, as_sources, plural
from pipeline.errors import BudgetExceeded, Rejected
from pipeline.planner import Done, Step
from pipeline.registry import pipeline
from pipeline.tools import TOOLS, Desk, ToolFailed

PACE_S = 0.05  # between phrases of the answer; ten times that before each call, as long as a quick model takes
STAGES: Final = ("plan", "act", "answer")
WARN_AT = 0.8  # of the budget
EXPECTED_OUTPUT_TOKENS = 150  # what an estimate assumes before a call

R = TypeVar("R")


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens."""

    input_usd: float
    output_usd: float


# The offline model costs nothing; this notional price, that of a middling hosted model, lets budgets be exercised.
PRICES: dict[str, Price] = {planner.NAME: Price(input_usd=3.0, output_usd=15.0)}


class OverBudget(BudgetExceeded):
    """`usage` is what all calls so far took."""

    def __init__(self, usage: "Usage", limit_usd: float) -> None:
        super().__init__(f"The run has spent {usage.cost_usd:.6f} of {limit_usd:.6f} US dollars.")
        self.usage = usage


class AgentInput(BaseModel):
    """A task, and what the agent may use for it."""

    model_config = ConfigDict(extra="forbid", title="Agent")

    task: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)] = Field(
        title="Task",
        description="Questions on the documents, arithmetic, “how many words …”, addresses to read; also several.",
    )
    documents: Documents = Field(
        default_factory=list,
        title="Documents",
        description="Texts to search and count in.",
        json_schema_extra={"x-widget": "textarea"},
    )
    allowed_hosts: list[Annotated[str, StringConstraints(min_length=1, max_length=253)]] = Field(
        default_factory=list,
        max_length=20,
        title="Allowed hosts",
        description="Public hosts that may be read from, such as example.com, or example.com:8080 for another port.",
    )
    max_steps: int = Field(default=6, ge=1, le=12, title="Most steps", description="The most tool calls.")
    ask_before: bool = Field(
        default=False, title="Ask first", description="Ask a person before the first page is fetched."
    )


class Taken(BaseModel):
    """One tool call; `result` or `error`."""

    call: str
    tool: str
    args: dict[str, Any]
    result: dict[str, Any] | None = None
    error: str | None = None
    duration_ms: int


class Usage(BaseModel):
    """What all calls to the model took."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


class AgentResult(BaseModel):
    """`answer` is Markdown that cites calls of `steps` as `[t1]`."""

    answer: str
    steps: list[Taken]
    usage: Usage


@pipeline("agent")
async def agent(ctx: Context, input: AgentInput) -> AgentResult:
    """An agent plans a task, calls tools (search, calculator, word count, HTTP GET) and answers with what they gave."""
    work = _Work(ctx, input, Desk(list(as_sources(input.documents)), tuple(input.allowed_hosts)))
    async with ctx.stage("plan", index=1, of=len(STAGES)):
        await ctx.progress(5, "Planning")
        steps = await work.think(work.prompt("Which tools does this task need?"), lambda: planner.plan(input.task))
        if not steps:
            raise Rejected("The task holds no question, no arithmetic, nothing to count and no address to read.")
        if len(steps) > input.max_steps:
            left_out = ", ".join(step.why for step in steps[input.max_steps :])
            await ctx.warning(
                "steps.left_out", f"More than {plural(input.max_steps, 'step')}; left out: {left_out[:500]}"
            )
        steps = steps[: input.max_steps]
        await ctx.draft("\n".join(f"{at}. {step.why}" for at, step in enumerate(steps, 1)), message="Plan", progress=20)
    async with ctx.stage("act", index=2, of=len(STAGES)):
        await work.act(steps)
    async with ctx.stage("answer", index=3, of=len(STAGES)):
        await ctx.progress(85, "Answering")
        text = await work.think(work.prompt("Answer from these results."), lambda: planner.answer(work.done))
        await work.show(text)
        await ctx.progress(100, "Done", stats={"steps": len(work.taken), "cost_usd": work.usage.cost_usd})
    return AgentResult(answer=text, steps=work.taken, usage=work.usage)


@dataclass
class _Work:
    """What a run has done so far."""

    ctx: Context
    input: AgentInput
    desk: Desk
    usage: Usage = field(default_factory=Usage)
    done: list[Done] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    _calls: int = 0
    _warned: bool = False
    _allowed: bool | None = None

    async def act(self, steps: list[Step]) -> None:
        """Take the steps; a search that found nothing is tried once more while there are steps left."""
        waiting = list(steps)
        while waiting:
            await self.ctx.checkpoint()
            step = waiting.pop(0)
            total = len(self.done) + len(waiting) + 1
            await self.ctx.progress(20 + round(60 * len(self.done) / total), step.why[:1].upper() + step.why[1:])
            self.done.append(await self._call(step))
            room = len(self.done) + len(waiting) < self.input.max_steps
            rule = partial(planner.again, self.done[-1])
            if room and rule() is not None:
                other = await self.think(self.prompt("That found nothing. What else?"), rule)
                waiting[:0] = [other] if other is not None else []

    async def _call(self, step: Step) -> Done:
        done = Done(f"t{len(self.done) + 1}", step)
        await self.ctx.emit("tool.started", call=done.call, tool=step.tool, args=step.args)
        began = time.monotonic()
        try:
            if step.tool == "http_get" and not await self._may_fetch():
                raise ToolFailed("A person declined it.")
            await asyncio.sleep(PACE_S * 10)
            done.result = await TOOLS[step.tool](self.desk, step.args)
        except ToolFailed as failed:
            done.error = str(failed)
        outcome: dict[str, Any] = {"result": done.result} if done.error is None else {"error": done.error}
        took = round((time.monotonic() - began) * 1000)
        await self.ctx.emit("tool.completed", call=done.call, tool=step.tool, duration_ms=took, **outcome)
        self.taken.append(Taken(call=done.call, tool=step.tool, args=step.args, duration_ms=took, **outcome))
        return done

    async def _may_fetch(self) -> bool:
        """Ask before the first page; the answer holds for the others."""
        if self._allowed is None:
            urls = [step.args["url"] for step in planner.plan(self.input.task) if step.tool == "http_get"]
            prompt = f"May the agent fetch {', '.join(urls)}?"[:2000]
            self._allowed = not self.input.ask_before or await self.ctx.ask(prompt, bool)
        return bool(self._allowed)

    async def think(self, prompt: str, rule: Callable[[], R]) -> R:
        """One call to the model, told and paid for. Raises OverBudget when the budget is spent then."""
        await self.ctx.checkpoint()
        self._calls += 1
        call, price = f"llm{self._calls}", PRICES[planner.NAME]
        given = tokens(prompt)
        estimate = _cost(price, given, EXPECTED_OUTPUT_TOKENS)
        await self.ctx.emit("llm.started", call=call, model=planner.NAME, estimated_cost_usd=estimate)
        await asyncio.sleep(PACE_S * 10)
        thought = await self.ctx.in_thread(rule)
        made = tokens(json.dumps(thought, default=vars, ensure_ascii=False))
        cost = _cost(price, given, made)
        self.usage.input_tokens += given
        self.usage.output_tokens += made
        self.usage.cost_usd = round(self.usage.cost_usd + cost, 9)
        usage = {"input_tokens": given, "output_tokens": made}
        await self.ctx.emit("llm.completed", call=call, model=planner.NAME, usage=usage, cost_usd=cost)
        await self._mind_budget()
        return thought

    async def _mind_budget(self) -> None:
        limit = self.ctx.options.get("budget_usd")
        if limit is None:
            return
        spent = self.usage.cost_usd
        if spent > limit:
            await self.ctx.emit("budget.exceeded", limit_usd=float(limit), spent_usd=spent)
            raise OverBudget(self.usage.model_copy(), limit)
        if spent >= WARN_AT * limit and not self._warned:
            self._warned = True
            await self.ctx.emit("budget.warning", limit_usd=float(limit), spent_usd=spent)

    def prompt(self, order: str) -> str:
        """What a language model would be sent: it decides how many tokens a call takes."""
        documents = [f"[{one.key}] {one.name}" for one in self.desk.documents]
        tools = [f"{name}: {tool.__doc__}" for name, tool in TOOLS.items()]
        results = [json.dumps({"call": one.call, "result": one.result, "error": one.error}) for one in self.done]
        return "\n".join([order, self.input.task, *documents, *tools, *results])

    async def show(self, text: str) -> None:
        """Let the answer grow phrase by phrase."""
        tools = {one.call: one.tool for one in self.taken}
        for phrase in re.findall(r"\s*(?:\S+\s*){1,3}", text):
            await self.ctx.checkpoint()
            cites = [
                {"key": call, "source": tools[call]} for call in re.findall(r"\[(t\d+)\]", phrase) if call in tools
            ]
            await self.ctx.delta("answer", phrase, cites=cites or None)
            await asyncio.sleep(PACE_S)
        await self.ctx.delta("answer", "", done=True)


def tokens(text: str) -> int:
    """About what a tokenizer would count: four characters each, and never less than one for a word or mark."""
    return max(len(re.findall(r"\w+|[^\w\s]", text)), len(text) // 4)


def _cost(price: Price, given: int, made: int) -> float:
    return round((given * price.input_usd + made * price.output_usd) / 1_000_000, 9)
