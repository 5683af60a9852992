"""Pipelines to be measured."""

import asyncio

from pydantic import BaseModel

from pipeline import Context, pipeline
from tests.bench.viewers import stamp


class Tokens(BaseModel):
    rate: float = 30


@pipeline("tokens")
async def tokens(ctx: Context, input: Tokens) -> None:
    """Says a stamped token at a rate, until it is cancelled."""
    gap_s, number = 1 / input.rate, 0
    while True:
        await ctx.emit("x.token", bench=stamp(number).decode(), delta=f"token {number} ")
        number += 1
        await asyncio.sleep(gap_s)


class Deltas(BaseModel):
    count: int = 5000


@pipeline("deltas")
async def deltas(ctx: Context, input: Deltas) -> None:
    """Says so many words in one block."""
    for number in range(input.count):
        await ctx.delta("body", f"word{number} ")


class Nothing(BaseModel):
    pass


@pipeline("waiting")
async def waiting(ctx: Context, input: Nothing) -> None:
    """Says nothing until it is cancelled."""
    await asyncio.Event().wait()
