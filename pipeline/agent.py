"""The built-in pipeline `agent`: a plan, tool calls, perhaps a question to a person, and an answer that cites them.

Rule 1: what is done next is decided by a `Mind`, the offline rules or a model; here stands what is done with it.
Rule 2: a tool that fails is a result like any other: the answer tells of it and the run goes on.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pipeline import planner
from pipeline.calling import REWRITES
from pipeline.context import Context
from pipeline.deciding import Mind, ModelMind, Rules
from pipeline.documents import Documents, as_sources, plural
from pipeline.errors import Interrupted, Rejected
from pipeline.models.chat import chosen
from pipeline.planner import Done, Step
from pipeline.registry import pipeline
from pipeline.spending import NOTIONAL, Offline, Price, Usage
from pipeline.tools import TOOLS, Desk, ToolFailed

PACE_S = 0.05  # between phrases of the answer; ten times that before each call, as long as a quick model takes
STAGES: Final = ("plan", "act", "answer")
MOST_ASKED_CHARS: Final = 1_900  # of addresses in one question
PRICES: dict[str, Price] = {planner.NAME: NOTIONAL}
_MARK = re.compile(r"\[(t\d+)\]")


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


class AgentResult(BaseModel):
    """`answer` is Markdown that cites calls of `steps` as `[t1]`."""

    answer: str
    steps: list[Taken]
    usage: Usage


@pipeline("agent")
async def agent(ctx: Context, input: AgentInput) -> AgentResult:
    """An agent plans a task, calls tools (search, calculator, word count, HTTP GET) and answers with what they gave."""
    desk = Desk(list(as_sources(input.documents)), tuple(input.allowed_hosts))
    work = _Work(ctx, input, desk)
    async with ctx.stage("plan", index=1, of=len(STAGES)):
        await ctx.progress(5, "Planning")
        steps = await work.mind.plan()
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
        text = await work.answer()
        await ctx.progress(100, "Done", stats={"steps": len(work.taken), "cost_usd": ctx.usage.cost_usd})
    return AgentResult(answer=text, steps=work.taken, usage=ctx.usage)


@dataclass
class _Work:
    """What a run has done so far."""

    ctx: Context
    input: AgentInput
    desk: Desk
    done: list[Done] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    _decided: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mind: Mind
        if (chat := chosen()) is not None:
            self.mind = ModelMind(self.ctx, chat, self.input.task, self.desk, self.done)
        else:
            priced = Offline(planner.NAME, PRICES[planner.NAME])
            self.mind = Rules(self.ctx, priced, self.input.task, self.desk, self.done, pace_s=PACE_S * 10)

    async def act(self, steps: list[Step]) -> None:
        """Take the steps, and what comes to mind when one of them gave nothing, while there are steps left."""
        waiting = list(steps)
        while waiting:
            await self.ctx.checkpoint()
            step = waiting.pop(0)
            total = len(self.done) + len(waiting) + 1
            await self.ctx.progress(20 + round(60 * len(self.done) / total), step.why[:1].upper() + step.why[1:])
            self.done.append(await self._call(step, waiting))
            if (room := self.input.max_steps - len(self.done) - len(waiting)) > 0:
                waiting[:0] = (await self.mind.again(self.done[-1], room))[:room]

    async def _call(self, step: Step, waiting: list[Step]) -> Done:
        done = Done(f"t{len(self.done) + 1}", step)
        await self.ctx.emit("tool.started", call=done.call, tool=step.tool, args=step.args)
        began = time.monotonic()
        try:
            if step.tool == "http_get" and not await self._may_fetch([step, *waiting]):
                done.declined = True
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

    async def _may_fetch(self, steps: list[Step]) -> bool:
        """Ask before the first page; the answer holds for all that are planned by then, and for no others."""
        if not self.input.ask_before:
            return True
        if (first := steps[0].args["url"]) not in self._decided:
            urls = [first]
            for step in steps[1:]:
                more = step.args["url"] if step.tool == "http_get" else first
                if more not in urls and more not in self._decided and len(" ".join([*urls, more])) < MOST_ASKED_CHARS:
                    urls.append(more)
            allowed = await self.ctx.ask(f"May the agent fetch {', '.join(urls)}?", bool)
            self._decided |= dict.fromkeys(urls, allowed)
        return self._decided[first]

    async def answer(self) -> str:
        """Stream the answer; where a provider breaks off it begins again, in a block of its own."""
        for again in range(REWRITES + 1):
            block = f"answer-{again + 1}" if again else "answer"
            try:
                return await self._show(block, self.mind.answer())
            except Interrupted as error:
                await self.ctx.delta(block, "", done=True)
                if again == REWRITES:
                    raise
                await self.ctx.warning("provider.interrupted", f"{error} The answer begins again.")
        raise AssertionError("unreachable")

    async def _show(self, block: str, pieces: AsyncGenerator[str, None]) -> str:
        tools = {one.call: one.tool for one in self.taken}
        text = held = ""
        async with aclosing(pieces):
            async for piece in pieces:
                await self.ctx.checkpoint()
                held += piece
                # A mark that is not whole yet waits for its end.
                cut = held.rfind("[") if re.search(r"\[t?\d*$", held) else len(held)
                ready, held = held[:cut], held[cut:]
                if ready:
                    text += ready
                    await self._said(block, ready, tools)
        if held:
            await self._said(block, held, tools)
        await self.ctx.delta(block, "", done=True)
        text += held
        if unknown := sorted({call for call in _MARK.findall(text) if call not in tools}):
            await self.ctx.warning("cite.unknown", f"The answer cites calls that were not made: {', '.join(unknown)}.")
        return text

    async def _said(self, block: str, text: str, tools: dict[str, str]) -> None:
        cites = [{"key": call, "source": tools[call]} for call in _MARK.findall(text) if call in tools]
        await self.ctx.delta(block, text, cites=cites or None)
        await asyncio.sleep(PACE_S if self.mind.at_leisure else 0)
