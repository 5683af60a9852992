"""Who decides what an agent does: rules that work offline, or a model.

Rule 1: a mind plans and answers, it does nothing itself: its steps are checked here before anyone takes them.
Rule 2: an answer says only what tools returned, each statement with the mark of its call, `[t1]`.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, Protocol, TypeVar

from pydantic import BaseModel, Field

from pipeline import planner
from pipeline.calling import ask, opening, stream
from pipeline.context import Context
from pipeline.errors import StagesFailed
from pipeline.models.chat import Chat
from pipeline.planner import Done, Step
from pipeline.prompting import prompt
from pipeline.spending import Offline, Tokens, tokens
from pipeline.tools import TOOLS, Desk

MOST_RESULT_CHARS: Final = 4_000  # of one call's result, as a model is shown it
EXPECTED_ANSWER_TOKENS: Final = 400
PHRASES: Final = re.compile(r"\s*(?:\S+\s*){1,3}")

# What each tool must be given, and what it may be given.
_ARGS: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    "search": (frozenset({"query"}), frozenset()),
    "calculator": (frozenset({"expression"}), frozenset()),
    "word_count": (frozenset(), frozenset({"text", "word"})),
    "http_get": (frozenset({"url"}), frozenset()),
}

R = TypeVar("R")


class Mind(Protocol):
    """`at_leisure`: it thinks faster than anyone reads."""

    at_leisure: bool

    async def plan(self) -> list[Step]:
        """The calls that the task asks for; empty when it asks for nothing."""

    async def again(self, done: Done, room: int) -> list[Step]:
        """What to try after this call, at most `room` steps; most often nothing."""

    def answer(self) -> AsyncGenerator[str, None]:
        """Markdown, as it comes. Raises Interrupted."""


class Rules:
    """The offline rules of `pipeline.planner`; `pace_s` is how long each thought takes, as a quick model would."""

    at_leisure = True

    def __init__(
        self, ctx: Context, priced: Offline, task: str, desk: Desk, done: Sequence[Done], *, pace_s: float
    ) -> None:
        self._ctx, self._priced, self._task, self._desk, self._done = ctx, priced, task, desk, done
        self._pace_s = pace_s

    async def plan(self) -> list[Step]:
        return await self._think("Which tools does this task need?", partial(planner.plan, self._task))

    async def again(self, done: Done, room: int) -> list[Step]:  # noqa: ARG002 - a rule never has more than one
        rule = partial(planner.again, done)
        if rule() is None:
            return []
        other = await self._think("That found nothing. What else?", rule)
        return [other] if other is not None else []

    async def answer(self) -> AsyncGenerator[str, None]:
        text = await self._think("Answer from these results.", partial(planner.answer, self._done))
        for phrase in PHRASES.findall(text):
            yield phrase

    async def _think(self, order: str, rule: Callable[[], R]) -> R:
        """One call, told and paid for."""
        await self._ctx.checkpoint()
        given = tokens(self._prompt(order))
        async with self._ctx.llm(self._priced, given=given, streams=False) as call:
            await asyncio.sleep(self._pace_s)
            thought = await self._ctx.in_thread(rule)
            call.counted(Tokens(given, tokens(json.dumps(thought, default=vars, ensure_ascii=False))))
        return thought

    def _prompt(self, order: str) -> str:
        """What a language model would be sent: it decides how many tokens a call takes."""
        documents = [f"[{one.key}] {one.name}" for one in self._desk.documents]
        tools = [f"{name}: {tool.__doc__}" for name, tool in TOOLS.items()]
        results = [json.dumps({"call": one.call, "result": one.result, "error": one.error}) for one in self._done]
        return "\n".join([order, self._task, *documents, *tools, *results])


class PlannedCall(BaseModel):
    tool: str
    args: dict[str, str] = {}
    why: str = Field(min_length=1, max_length=200, description="In a few words, such as: look for the year")


class Plan(BaseModel):
    """What a model answers when it is asked what to do."""

    steps: list[PlannedCall] = Field(max_length=20)


class ModelMind:
    """A provider's model."""

    at_leisure = False

    def __init__(self, ctx: Context, chat: Chat, task: str, desk: Desk, done: Sequence[Done]) -> None:
        self._ctx, self._chat, self._task, self._desk, self._done = ctx, chat, task, desk, done

    async def plan(self) -> list[Step]:
        return await self._steps("plan.md.j2")

    async def again(self, done: Done, room: int) -> list[Step]:
        nothing = done.step.tool == "search" and not done.result.get("passages")
        if done.declined or (done.error is None and not nothing):
            return []
        before = [(one.step.tool, one.step.args) for one in self._done]
        try:
            steps = await self._steps("further.md.j2", room=room)
        except StagesFailed:  # no use in it; what was found so far can be answered from
            return []
        return [step for step in steps if (step.tool, step.args) not in before]

    async def answer(self) -> AsyncGenerator[str, None]:
        text = prompt("answer.md.j2", task=self._task, results=self._results())
        await self._ctx.checkpoint()
        answer = stream(self._ctx, self._chat, opening(text), expected=EXPECTED_ANSWER_TOKENS)
        async with aclosing(answer) as pieces:
            async for piece in pieces:
                yield piece

    async def _steps(self, template: str, **more: object) -> list[Step]:
        text = prompt(
            template,
            task=self._task,
            documents=self._desk.documents,
            hosts=self._desk.allowed_hosts,
            tools={name: " ".join((tool.__doc__ or "").split()) for name, tool in TOOLS.items()},
            results=self._results(),
            **more,
        )
        plan = await ask(self._ctx, self._chat, text, Plan, wrong=_wrong)
        return [Step(one.tool, dict(one.args), one.why.strip()) for one in plan.steps]

    def _results(self) -> list[str]:
        told = []
        for one in self._done:
            outcome = {"result": one.result} if one.error is None else {"error": one.error}
            whole = json.dumps({"call": one.call, "tool": one.step.tool, "args": one.step.args, **outcome})
            told.append(whole[:MOST_RESULT_CHARS])
        return told


def _wrong(plan: Plan) -> list[str]:
    faults = []
    for one in plan.steps:
        if one.tool not in TOOLS:
            faults.append(f"There is no tool {one.tool[:80]}; there are {', '.join(TOOLS)}.")
            continue
        must, may = _ARGS.get(one.tool, (frozenset(), frozenset(one.args)))
        if missing := must - one.args.keys():
            faults.append(f"{one.tool} needs {', '.join(sorted(missing))}.")
        if unknown := one.args.keys() - must - may:
            faults.append(f"{one.tool} takes no {', '.join(sorted(unknown))[:80]}.")
    return faults
