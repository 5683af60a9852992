"""Those who start runs, publish in them and steer them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from gateway.broker import Page, Producer, Run
from gateway.runs import EXTERNAL
from gateway.wire.cursor import Cursor
from gateway.wire.status import Status
from tests.model import pipelines
from tests.model.world import Batch, Unanswered, World
from tests.runs.doubles import ALICE, wants

STARTS = 4
ROUNDS = 25
KEYS = ("k1", "k2")
FINAL = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


async def starts(world: World) -> None:
    """Start a few runs, some at the same time and some under one key."""
    for _ in range(STARTS):
        await world.nap(0.03)
        async with asyncio.TaskGroup() as group:
            for _ in range(world.rng.choice((1, 1, 2, 3))):
                group.create_task(_start(world))


async def _start(world: World) -> None:
    rng = world.rng
    key = rng.choice((None, None, *KEYS))
    pipeline = EXTERNAL if key or rng.random() < 0.5 else rng.choice(["quick", *pipelines.ALL])
    options: dict[str, Any] = {}
    if key is None and rng.random() < 0.3:
        options = {"on_disconnect": "cancel", "disconnect_grace_s": rng.choice((0, 1 / 64, 1 / 8))}
    with suppress(Unanswered):
        run, new = await world.call("start", world.runs.start(ALICE, wants(pipeline, **options), key=key), stays=0.8)
        world.started.append(run.id)
        if key is not None:
            world.keys[key].append((run.id, new))


class Publisher:
    """Says numbered events in external runs. What it says as a producer it repeats until it is answered."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._epoch = world.rng.randint(0, 2)
        self._said: Counter[str] = Counter()

    async def publishes(self) -> None:
        for _ in range(ROUNDS):
            await self._world.nap()
            with suppress(Unanswered):
                await self._publish(await self._world.some_run(EXTERNAL))
            if self._world.rng.random() < 0.03:
                self._epoch += 1
                self._said.clear()

    async def _publish(self, run: Run) -> None:
        if run.pipeline != EXTERNAL:
            return
        rng, told = self._world.rng, self._world.told[run.id]
        numbers = self._world.fresh(rng.choice((1, 1, 3, 40)))
        said = [("x.n", {"n": number, "text": "a" * rng.choice((1, 200))}) for number in numbers]
        told.said |= set(numbers)
        as_producer = self._as_producer if rng.random() < 0.6 else self._once
        try:
            cursor = await as_producer(run, said)
        except Unanswered as unanswered:
            if unanswered.code:
                told.refused |= set(numbers)
            raise
        told.published.append(Batch(self._name, numbers, str(cursor)))

    async def _once(self, run: Run, said: list[tuple[str, Any]], producer: Producer | None = None, stays: float = 0.9):
        publishing = self._world.runs.external.publish(run, said, producer=producer)
        return await self._world.call("publish", publishing, run=run.id, stays=stays)

    async def _as_producer(self, run: Run, said: list[tuple[str, Any]]) -> Cursor:
        """The request, perhaps several times at once. Law: whoever waits for it is answered the same."""
        producer = Producer(self._name, self._epoch, self._said[run.id] + 1)
        copies = [self._once(run, said, producer) for _ in range(self._world.rng.choice((1, 1, 2, 3)))]
        outcomes = await asyncio.gather(*copies, return_exceptions=True)
        answers = {getattr(each, "code", each) for each in outcomes} - {""}
        if not answers:  # nobody waited
            answers = {await self._once(run, said, producer, stays=1)}
        if len(answers) > 1 and not self._world.told[run.id].erasing:
            self._world.fault(f"{producer} in {run.id}: one request was answered {answers}")
        cursors = [each for each in answers if isinstance(each, Cursor)]
        if not cursors:
            raise Unanswered(str(answers.pop()))
        self._said[run.id] += 1
        return cursors[0]


async def steers(world: World) -> None:
    actions = [*STEERING, *[erase] * (3 if world.conditions.erase else 0)]
    for _ in range(ROUNDS):
        await world.nap()
        with suppress(Unanswered):
            await world.rng.choice(actions)(world, await world.some_run())


async def pause(world: World, run: Run) -> None:
    await world.call("pause", world.runs.control.pause(ALICE, run), run=run.id, stays=0.85)


async def resume(world: World, run: Run) -> None:
    await world.call("resume", world.runs.control.resume(ALICE, run), run=run.id, stays=0.85)


async def cancel(world: World, run: Run) -> None:
    cancelled = await world.call("cancel", world.runs.cancel(ALICE, run, None), run=run.id, stays=0.85)
    if cancelled.final is None:
        world.told[run.id].cancelling = True
    else:
        world.told[run.id].finals.add(cancelled.final)


async def finish(world: World, run: Run) -> None:
    """Law: when a finish is answered the run has ended."""
    producer = world.rng.choice((None, Producer("finisher", 1, 1)))
    ending = world.runs.finish(run, world.rng.choice(FINAL), result=1, error=None, producer=producer)
    cursor = await world.call("finish", ending, run=run.id, stays=0.85)
    world.told[run.id].ends.append(str(cursor))
    record = await world.broker.get(run.id)
    if record is not None and not record.status.terminal:
        world.fault(f"finish of {run.id} was answered {cursor}, and the run is {record.status}")


async def describe(world: World, run: Run) -> None:
    """Law: what has ended is never told to be under way."""
    described = await world.call("describe", world.runs.views.describe(run), run=run.id)
    if run.status.terminal and described["status"] != run.status:
        world.fault(f"{run.id} had ended ({run.status}) and is described as {described['status']}")


async def listed(world: World, run: Run) -> None:
    await world.call("list", world.runs.views.page(Page(ALICE.visible)))


async def retry(world: World, run: Run) -> None:
    again = await world.call("retry", world.runs.retry(ALICE, run), run=run.id, stays=0.85)
    world.started.append(again.id)


async def answer(world: World, run: Run) -> None:
    active = world.runs._roster.get(run.id)
    for input_id in [*active.questions._open] if active else []:
        answering = world.runs.control.answer(ALICE, run, input_id, 1)
        await world.call("answer", answering, run=run.id, stays=0.85)
        world.told[run.id].answered.append(input_id)


async def erase(world: World, run: Run) -> None:
    world.told[run.id].erasing = True
    await world.call("erase", world.runs.erase(run), run=run.id, stays=0.85)
    world.told[run.id].erased = True


async def waits(world: World) -> None:
    """Law: who waits for a run's end hears of it when it has ended."""
    for _ in range(STARTS):
        await world.nap(0.1)
        with suppress(Unanswered):
            run = await world.some_run()
            outcome = await world.call("outcome", world.runs.views.outcome(run), run=run.id, stays=0.7)
            if outcome["status"] != Status.COMPLETED:
                world.fault(f"who waited for {run.id} was told that it is {outcome['status']}")


# What ends a run is drawn less often, or there would be little to meet.
STEERING: list[Callable[[World, Run], Awaitable[None]]] = [
    *[pause, resume, resume, describe, listed, answer, answer] * 3, cancel, finish, finish, retry,
]  # fmt: skip
