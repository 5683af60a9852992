"""Pipelines for the tests: each does one thing that a run may do."""

import asyncio
import time

from pydantic import BaseModel, Field

from pipeline import BudgetExceeded, Context, Rejected, pipeline


class Words(BaseModel):
    count: int = Field(10, ge=0)
    gap_s: float = 0.0
    text: str = "word"


@pipeline("words")
async def words(ctx: Context, input: Words) -> dict[str, int]:
    """Says `count` words, with progress, in one stage."""
    async with ctx.stage("writer", index=1, of=1):
        for number in range(input.count):
            await ctx.progress(100 * number / input.count, f"Word {number}")
            await ctx.delta("body", f"{input.text}{number} ")
            await asyncio.sleep(input.gap_s)
    return {"words": input.count}


@pipeline("forever")
async def forever(ctx: Context, input: Words) -> None:
    """Goes on until it is cancelled."""
    async with ctx.stage("writer", index=1, of=1):
        while True:
            await ctx.delta("body", "on ")
            await asyncio.sleep(input.gap_s or 0.01)


@pipeline("stubborn")
async def stubborn(ctx: Context, input: Words) -> None:
    """Ignores every cancellation for a while, and goes on talking."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            await ctx.delta("body", "no ")
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)


@pipeline("broken")
async def broken(ctx: Context, input: Words) -> None:
    """Raises an exception whose text nobody may see."""
    raise RuntimeError("the password is swordfish")


@pipeline("rejecting")
async def rejecting(ctx: Context, input: Words) -> None:
    """Refuses its input."""
    raise Rejected("this input makes no sense")


@pipeline("unserialisable")
async def unserialisable(ctx: Context, input: Words) -> object:
    """Returns something that is not JSON."""
    return object()


@pipeline("huge")
async def huge(ctx: Context, input: Words) -> str:
    """Returns more than a terminal event may hold."""
    return "x" * (1 << 20)


@pipeline("blocking")
async def blocking(ctx: Context, input: Words) -> int:
    """Waits in a thread."""
    return await ctx.in_thread(_block, input.gap_s)


def _block(seconds: float) -> int:
    time.sleep(seconds)
    return 1


@pipeline("asking")
async def asking(ctx: Context, input: Words) -> int:
    """Asks for a number and gives it back."""
    return await ctx.ask("How many?", int)


@pipeline("steps")
async def steps(ctx: Context, input: Words) -> int:
    """Says a word and comes to a checkpoint, over and over."""
    async with ctx.stage("writer", index=1, of=1):
        for number in range(input.count):
            await ctx.delta("body", f"{number} ")
            await ctx.checkpoint()
            await asyncio.sleep(input.gap_s)
    return input.count


@pipeline("spending")
async def spending(ctx: Context, input: Words) -> None:
    """Calls a model twice and then has spent too much."""
    for call in ("one", "two"):
        await ctx.emit("llm.started", call=call, model="m")
        used = {"input_tokens": 10, "output_tokens": 5}
        await ctx.emit("llm.completed", call=call, model="m", usage=used, cost_usd=0.25)
    raise BudgetExceeded
