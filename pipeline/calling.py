"""Calls to models on behalf of a run: told, paid for, tried again, and read.

Rule 1: what a viewer has seen cannot be unsaid: a call is tried again only while nothing of its answer was shown.
After that a provider's failure is `Interrupted`, and whoever writes begins again in a block of its own, or gives up.
Rule 2: an answer that must have a shape is validated; one that has not is asked for again, told what was wrong.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.context import Context
from pipeline.errors import Interrupted, ProviderError, StagesFailed
from pipeline.models import Piece, Request, TextModel
from pipeline.models.chat import Aside, Chat, Turn, chosen
from pipeline.models.cited import Cited
from pipeline.prompting import prompt
from pipeline.spending import Offline, Priced, Tokens, tokens

ATTEMPTS: Final = 4  # of a call whose provider fails
BACKOFF_S = 1.0  # before the second attempt, then twice as long each time, half of it by chance
MOST_WAIT_S: Final = 60.0  # a provider that wants to be left alone for longer fails the call
REASKS: Final = 2  # for an answer that cannot be used
REWRITES: Final = 2  # of a text that is not accepted; offline models would write the same again
EXPECTED_ANSWER_TOKENS: Final = 600
TOKENS_A_WORD: Final = 3  # of a cited text: the evidence is written too

T = TypeVar("T")


class Writer:
    """A `TextModel` for one run: the chosen model, or the offline one where none was chosen.

    `shown` False: what it gives is not shown before it is all there, so that a call that breaks off can begin anew.
    `rewrites`: how often it is worth asking again. `at_leisure`: it writes faster than anyone reads.
    """

    def __init__(self, ctx: Context, offline: TextModel, *, shown: bool = True) -> None:
        self._ctx, self._offline, self._shown, self._chat = ctx, offline, shown, chosen()
        self.at_leisure = self._chat is None
        self.rewrites = 0 if self._chat is None else REWRITES

    async def write(self, prompt: str, request: Request) -> AsyncGenerator[Piece, None]:
        """Raises Interrupted when the provider fails after a part was shown."""
        await self._ctx.checkpoint()
        writing = self._quote(prompt, request) if self._chat is None else self._say(self._chat, prompt, request)
        async with aclosing(writing) as pieces:
            async for piece in pieces:
                yield piece

    async def _quote(self, prompt: str, request: Request) -> AsyncGenerator[Piece, None]:
        model = self._offline
        priced = model if isinstance(model, Priced) else Offline(f"offline-{type(model).__name__.lower()}")
        async with (
            self._ctx.llm(priced, given=tokens(prompt), expected=request.max_words) as call,
            aclosing(model.write(prompt, request)) as pieces,
        ):
            async for piece in pieces:
                await call.grew(piece.text)
                yield piece

    async def _say(self, chat: Chat, prompt: str, request: Request) -> AsyncGenerator[Piece, None]:
        cited = Cited(request.sources)
        turns, expected = opening(prompt), TOKENS_A_WORD * request.max_words
        if not self._shown:
            for piece in cited.feed(await whole(self._ctx, chat, turns, expected=expected)):
                yield piece
        else:
            async with aclosing(stream(self._ctx, chat, turns, expected=expected)) as texts:
                async for text in texts:
                    for piece in cited.feed(text):
                        yield piece
        for piece in cited.end():
            yield piece


async def stream(ctx: Context, chat: Chat, turns: Sequence[Turn], *, expected: int) -> AsyncGenerator[str, None]:
    """One call's answer as it comes, to be shown at once. Raises ProviderError after ATTEMPTS, Interrupted."""
    async with aclosing(_attempts(ctx, chat, turns, expected=expected, shown=True)) as texts:
        async for text in texts:
            yield text or ""


async def whole(ctx: Context, chat: Chat, turns: Sequence[Turn], *, expected: int) -> str:
    """One call's answer when it is all there. Raises ProviderError after ATTEMPTS."""
    said = ""
    async with aclosing(_attempts(ctx, chat, turns, expected=expected, shown=False)) as texts:
        async for text in texts:
            said = "" if text is None else said + text
    return said


async def _attempts(
    ctx: Context, chat: Chat, turns: Sequence[Turn], *, expected: int, shown: bool
) -> AsyncGenerator[str | None, None]:
    """What comes, attempt by attempt; None takes back all that came before, which `shown` forbids."""
    async with ctx.llm(chat, given=sum(tokens(turn.text) for turn in turns), expected=expected) as call:
        for attempt in range(1, ATTEMPTS + 1):
            given = False
            try:
                call.asked()
                async with aclosing(chat.say(turns)) as parts:
                    async for part in parts:
                        if isinstance(part, Tokens):
                            call.counted(part)
                        elif isinstance(part, Aside):
                            await call.grew(part.text)
                        else:
                            await call.grew(part)
                            given = True
                            yield part
                if not given:
                    raise ProviderError("The model gave no answer.")
                return
            except ProviderError as error:
                if given and shown:
                    raise Interrupted(f"{error} Part of the answer had come.") from None
                call.again()
                if given:
                    yield None
                await _wait(ctx, error, attempt)


async def ask(
    ctx: Context, chat: Chat, prompt: str, shape: type[T], *, wrong: Callable[[T], Sequence[str]] = lambda _: ()
) -> T:
    """An answer of this shape in which nothing is `wrong` (sentences that say what). Raises StagesFailed."""
    adapter: TypeAdapter[T] = TypeAdapter(shape)
    turns = opening(prompt + "\n\n" + _shape_prompt(adapter))
    for asked in range(1, REASKS + 2):
        await ctx.checkpoint()
        text = await whole(ctx, chat, turns, expected=EXPECTED_ANSWER_TOKENS)
        try:
            answer = adapter.validate_json(_json_of(text))
            faults = list(wrong(answer))
        except ValidationError as error:
            faults = [
                f"{'.'.join(map(str, one['loc'])) or 'The answer'}: {one['msg']}"
                for one in error.errors(include_url=False, include_input=False, include_context=False)
            ]
        if not faults:
            return answer
        if asked <= REASKS:
            message = f"The model's answer could not be used ({faults[0]}); asking again ({asked} of {REASKS})."
            await ctx.warning("llm.answer", message[:500])
            turns = [*turns, Turn("model", text or "(nothing)"), Turn("user", _again_prompt(faults))]
    raise StagesFailed(f"The model gave no answer that could be used in {REASKS + 1} attempts. {faults[0]}"[:500])


async def _wait(ctx: Context, error: ProviderError, attempt: int) -> None:
    """Before the next attempt, as long as the provider wants or the backoff says. Raises the error after the last."""
    after_s = error.retry_after_s or 0.0
    if attempt == ATTEMPTS or after_s > MOST_WAIT_S:
        raise error
    backoff_s = BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)  # nosec B311 # noqa: S311 - nothing secret depends on it
    wait_s = max(after_s, backoff_s)
    message = f"{error} Trying again in {wait_s:.0f} s ({attempt + 1} of {ATTEMPTS})."
    await ctx.warning("provider.retry", message)
    await asyncio.sleep(wait_s)
    await ctx.checkpoint()


def opening(text: str) -> list[Turn]:
    """A conversation that begins with this prompt."""
    return [Turn("system", prompt("system.md.j2")), Turn("user", text)]


def _shape_prompt(adapter: TypeAdapter[Any]) -> str:
    schema = json.dumps(adapter.json_schema(), ensure_ascii=False)
    return prompt("shape.md.j2", schema=schema)


def _again_prompt(faults: Sequence[str]) -> str:
    return prompt("again.md.j2", faults=faults[:10])


def _json_of(text: str) -> str:
    """The JSON of an answer that may have words or a fence around it."""
    begin, end = text.find("{"), text.rfind("}")
    return text[begin : end + 1] if 0 <= begin < end else text
