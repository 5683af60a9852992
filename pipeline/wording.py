"""What a campaign has a model do: divide the audience, find the concept, word the copy. And what the offline one costs.

Rule 1: a model is given numbered facts and names those that it builds on: what is claimed stays the sources' own.
Rule 2: what it words is held to the channel's lengths, the brief's call to action, and numbers that the facts have.
"""

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, Field

from pipeline.calling import ask
from pipeline.context import Context
from pipeline.copywriting import (
    LIMITS,
    MARKDOWN,
    Brief,
    Channel,
    Cited,
    Copy,
    Copywriter,
    call_to_action,
    counted,
    fits,
    too_long,
)
from pipeline.errors import StagesFailed
from pipeline.facts import Fact, names
from pipeline.models.chat import Chat
from pipeline.models.sentences import flat
from pipeline.prompting import prompt
from pipeline.reviewing import foreign_numbers
from pipeline.spending import Offline, Tokens, tokens

MESSAGE_CHARS: Final = 300
OFFLINE: Final = Offline("offline-templates")


class Metered:
    """The offline copywriter, told and paid for like any other."""

    def __init__(self, ctx: Context, copywriter: Copywriter) -> None:
        self._ctx, self._copywriter = ctx, copywriter

    async def write(self, channel: Channel, brief: Brief) -> Copy:
        given = tokens(_facts_of(brief))
        await self._ctx.checkpoint()
        async with self._ctx.llm(OFFLINE, given=given, streams=False) as call:
            copy = await self._copywriter.write(channel, brief)
            call.counted(Tokens(given, tokens(" ".join(copy.parts().values()))))
        return copy


class WordedCopy(BaseModel):
    """What a model answers when it is asked for copy."""

    parts: dict[str, str]
    facts: list[int] = Field(min_length=1, max_length=20, description="Numbers of the facts that the copy builds on.")


class ModelCopywriter:
    """A provider's model as a `Copywriter`."""

    def __init__(self, ctx: Context, chat: Chat) -> None:
        self._ctx, self._chat = ctx, chat

    async def write(self, channel: Channel, brief: Brief) -> Copy:
        call = call_to_action(brief)
        limits = {part: most for part, most in LIMITS[channel].items() if part != "call_to_action"}
        known = " ".join([brief.product, brief.audience, call, _facts_of(brief)])

        def wrong(answer: WordedCopy) -> list[str]:
            faults = [f"The part {part} is missing." for part in limits if not answer.parts.get(part, "").strip()]
            faults += [f"No part is called {part[:40]}." for part in answer.parts if part not in limits]
            faults += [
                f"The {part} has {len(answer.parts[part].strip())} characters; {most} are the most."
                for part, most in limits.items()
                if len(answer.parts.get(part, "").strip()) > most
            ]
            if channel != "ad" and call not in flat(answer.parts.get("body", "")):
                faults.append(f"The body must end with the call to action, word for word: {call}")
            text = " ".join(answer.parts.values())
            if not names(brief.product, f"{text} {call}"):
                faults.append(f"{brief.product} is not named.")
            if foreign := foreign_numbers(text, known):
                faults.append(f"No fact has the number {', '.join(foreign[:5])}.")
            return faults + _unknown(answer.facts, brief)

        text = prompt(
            "copy.md.j2", channel=channel, brief=brief, limits=limits, call=call, markdown=channel in MARKDOWN
        )
        answer = await ask(self._ctx, self._chat, text, WordedCopy, wrong=wrong)
        claims = [
            Cited(key=fact.key, source=fact.source, quote=fact.quote, repeated=False)
            for fact in _named(answer.facts, brief)
        ]
        parts = {name: answer.parts[name].strip() for name in limits}
        copy = counted(
            channel, Copy.model_validate({**parts, "call_to_action": call, "claims": claims, "variant": brief.variant})
        )
        if not fits(channel, copy):  # the brief's own call to action may be too long for a button
            raise StagesFailed(too_long(channel, copy))
        return copy


class FoundConcept(BaseModel):
    headline: str = Field(min_length=1)
    message: str = Field(min_length=1, max_length=MESSAGE_CHARS)
    proof_points: list[int] = Field(min_length=1, max_length=8, description="Numbers of facts, the strongest first.")


async def concept(ctx: Context, chat: Chat, brief: Brief, *, most: int) -> tuple[str, str, list[Fact]]:
    """A headline of at most so many characters, a message, and the facts that prove it, best first."""
    known = " ".join([brief.product, brief.audience, _facts_of(brief)])

    def wrong(answer: FoundConcept) -> list[str]:
        long = len(flat(answer.headline)) > most
        faults = [f"The headline has {len(flat(answer.headline))} characters; {most} are the most."] if long else []
        if foreign := foreign_numbers(f"{answer.headline} {answer.message}", known):
            faults.append(f"No fact has the number {', '.join(foreign[:5])}.")
        return faults + _unknown(answer.proof_points, brief)

    text = prompt("concept.md.j2", brief=brief, most=most, message=MESSAGE_CHARS)
    answer = await ask(ctx, chat, text, FoundConcept, wrong=wrong)
    return flat(answer.headline), flat(answer.message), _named(answer.proof_points, brief)


class Spoken(BaseModel):
    segment: str
    facts: list[int] = Field(max_length=20, description="Numbers of the facts that matter most to it; may be empty.")


class Division(BaseModel):
    segments: list[Spoken] = Field(min_length=1, max_length=6)


async def segments(ctx: Context, chat: Chat, brief: Brief, parts: Sequence[str]) -> dict[str, list[Fact]]:
    """The facts that speak to each part of the audience."""

    def wrong(answer: Division) -> list[str]:
        given = [one.segment for one in answer.segments]
        faults = [f"The segment “{part}” is missing." for part in parts if part not in given]
        return faults + [fault for one in answer.segments for fault in _unknown(one.facts, brief)]

    text = prompt("audience.md.j2", brief=brief, parts=parts)
    answer = await ask(ctx, chat, text, Division, wrong=wrong)
    spoken = {one.segment: _named(one.facts, brief) for one in answer.segments}
    return {part: spoken[part] for part in parts}


def _facts_of(brief: Brief) -> str:
    return " ".join(fact.quote for fact in brief.facts)


def _named(numbers: Sequence[int], brief: Brief) -> list[Fact]:
    return [brief.facts[number - 1] for number in dict.fromkeys(numbers)]


def _unknown(numbers: Sequence[int], brief: Brief) -> list[str]:
    return [f"There is no fact {number}." for number in numbers if not 1 <= number <= len(brief.facts)]
