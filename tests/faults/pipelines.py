"""Pipelines that flood, and one that keeps the time, for the fault tests."""

import asyncio
import random
import time
from pathlib import Path

from pydantic import BaseModel, Field

from pipeline import Context, pipeline

STAGES = ("outline", "draft", "polish")


class Flood(BaseModel):
    """`burst` events are said side by side, then comes a gap. `steps`: how many bursts, over three stages."""

    seed: int = 0
    steps: int = Field(30, ge=0)
    burst: int = Field(10, ge=1)
    gap_s: float = 0.0
    size: int = 60


class Ticking(BaseModel):
    """`prefix` deltas of `size` characters, then `ticks` deltas that hold the time, `gap_s` apart."""

    prefix: int = 0
    size: int = 8192
    ticks: int = 100
    gap_s: float = 0.05


@pipeline("flood")
async def flood(ctx: Context, input: Flood) -> dict[str, int]:
    """Every kind of event that folds, at random, many at once."""
    rng = random.Random(input.seed)
    for index, stage in enumerate(STAGES, start=1):
        async with ctx.stage(stage, index=index, of=len(STAGES)):
            for step in range(input.steps // len(STAGES)):
                await asyncio.gather(*(_say(ctx, rng, input, step) for _ in range(input.burst)))
                await asyncio.sleep(input.gap_s)
    return {"seed": input.seed}


def _say(ctx: Context, rng: random.Random, input: Flood, step: int):
    text = f"{rng.random()}-ü→ " * rng.randint(0, max(1, input.size // 10))
    match rng.choices(("delta", "progress", "draft", "x"), (14, 3, 2, 1))[0]:
        case "delta":
            cites = [{"key": str(step), "source": "s"}] if rng.random() < 0.1 else None
            return ctx.delta(rng.choice("aaab"), text, cites=cites, done=rng.random() < 0.02 or None)
        case "progress":
            return ctx.progress(100 * rng.random(), f"Step {step}", stats={"n": step} if rng.random() < 0.3 else None)
        case "draft":
            return ctx.draft(text, message=None if rng.random() < 0.5 else f"Draft {step}")
        case _:
            return ctx.emit("x.note", n=rng.random())


@pipeline("ticking")
async def ticking(ctx: Context, input: Ticking) -> None:
    """A long past, then a live edge whose delay can be told."""
    for first in range(0, input.prefix, 50):
        await asyncio.gather(*(ctx.delta("past", "x" * input.size) for _ in range(min(50, input.prefix - first))))
    for _ in range(input.ticks):
        await ctx.delta("now", f"{time.time():.6f}")
        await asyncio.sleep(input.gap_s)


class Beating(BaseModel):
    path: Path


@pipeline("beating")
async def beating(ctx: Context, input: Beating) -> None:
    """Says nothing, and touches a file for as long as it runs."""
    while True:
        input.path.touch()
        await asyncio.sleep(0.02)
