"""A long run is the same to whoever joins it: first or later, while it runs and after, before a restart and after."""

import asyncio

import httpx

from tests.e2e.clients import by_poll, by_socket, by_sse, caller, finished, own, published, started
from tests.e2e.process import GatewayProcess

WORDS = [f"wörd{number} " for number in range(5000)]
TEXT = "".join(WORDS)


async def say(client: httpx.AsyncClient, run: str, words: list[str]) -> None:
    for first in range(0, len(words), 500):
        said = [{"type": "delta", "block": "body", "delta": word} for word in words[first : first + 500]]
        assert (await published(client, run, *said)).status_code == 202


def text_of(frames: list[dict]) -> str:
    return "".join(frame["delta"] for frame in own(frames) if frame["type"] == "delta")


async def joined(gateway: GatewayProcess, client: httpx.AsyncClient, run: str, *, times: int = 2) -> list[dict]:
    """What everyone gets of a finished run; all of them the same."""
    found = [own(await by_sse(client, run)) for _ in range(times)]
    found += [own(await by_socket(gateway, run)) for _ in range(times)]
    assert all(frames == found[0] for frames in found)
    assert len(found[0]) <= 20
    return found[0]


async def test_a_long_run_is_joined_in_a_few_frames_first_or_later_running_or_ended(gateway):
    async with caller(gateway) as client, asyncio.TaskGroup() as tasks:
        run = await started(client, "external")
        await say(client, run, WORDS[:3000])
        watching = [tasks.create_task(by_sse(client, run)), tasks.create_task(by_socket(gateway, run))]
        await say(client, run, WORDS[3000:4000])
        watching += [tasks.create_task(by_socket(gateway, run)), tasks.create_task(by_sse(client, run))]
        await say(client, run, WORDS[4000:])
        await finished(client, run)
        for each in watching:
            assert text_of(await each) == TEXT
        assert text_of(await joined(gateway, client, run)) == TEXT
        assert text_of(await by_poll(client, run)) == TEXT
        full = own(await by_sse(client, run, replay="full"))
        for position in (0, 1, 999, 2500, 4999):
            later = own(await by_sse(client, run, after=full[position]["id"]))
            assert text_of(full[: position + 1]) + text_of(later) == TEXT


def test_a_restart_changes_nothing_for_whoever_joins(gateway):
    async def before() -> tuple[str, list[dict]]:
        async with caller(gateway) as client:
            run = await started(client, "external")
            await say(client, run, WORDS)
            await finished(client, run)
            return run, await joined(gateway, client, run)

    async def after() -> list[dict]:
        async with caller(gateway) as client:
            return await joined(gateway, client, run)

    run, told = asyncio.run(before())
    gateway.stop()
    gateway.start()
    again = asyncio.run(after())
    # Where a joined delta ends depends on what was folded together; what they say does not.
    assert text_of(again) == text_of(told) == TEXT
    assert [frame for frame in again if frame["type"] != "delta"] == [
        frame for frame in told if frame["type"] != "delta"
    ]
