"""What the runs of a world do, besides the external ones. Each ends by itself, or waits for somebody."""

import asyncio
from typing import Any

from pipeline import Context


async def talks(ctx: Context, input: dict[str, Any]) -> None:
    for number in range(30):
        await ctx.delta("body", "on ")
        await ctx.progress(number, "more")
        await asyncio.sleep(1 / 256)
        await ctx.checkpoint()


async def pauses(ctx: Context, input: dict[str, Any]) -> None:
    """Two tasks come to the same checkpoints."""

    async def one() -> None:
        for _ in range(10):
            await asyncio.sleep(1 / 256)
            await ctx.checkpoint()

    await asyncio.gather(one(), one())


async def asks(ctx: Context, input: dict[str, Any]) -> int:
    return await ctx.ask("How many?", int)


ALL = {"talks": talks, "pauses": pauses, "asks": asks}
