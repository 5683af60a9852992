"""Context and Recorder: calls become events, and threads never hold a run up."""

import asyncio
import threading

import pytest

from pipeline import Context, Recorder


async def test_a_stage_is_bracketed_and_names_what_is_said_inside() -> None:
    """Progress and draft carry the stage they are said in; the stage is completed with its duration."""
    recorder = Recorder()
    ctx = Context(recorder)
    async with ctx.stage("one", index=1, of=2):
        await ctx.progress(5, "going")
        await ctx.draft("text")
    assert [type for type, _ in recorder.events] == ["stage.started", "progress", "draft", "stage.completed"]
    assert all(fields["stage"] == "one" for _, fields in recorder.events)
    assert recorder.events[-1][1]["duration_ms"] >= 0


async def test_a_stage_that_raises_is_not_completed() -> None:
    """An exception leaves the stage open and reaches the caller."""
    recorder = Recorder()
    with pytest.raises(KeyError):
        async with Context(recorder).stage("one", index=1, of=1):
            raise KeyError
    assert [type for type, _ in recorder.events] == ["stage.started"]


async def test_stages_side_by_side_keep_their_names() -> None:
    """Each task knows its own stage."""
    recorder = Recorder()
    ctx = Context(recorder)

    async def work(name: str) -> None:
        async with ctx.stage(name, index=1, of=2):
            await ctx.checkpoint()
            await ctx.progress(1, name)

    await asyncio.gather(work("a"), work("b"))
    said = [fields for type, fields in recorder.events if type == "progress"]
    assert all(fields["stage"] == fields["message"] for fields in said)


async def test_what_is_not_given_is_not_said() -> None:
    """Optional fields that were left out are no fields of the event."""
    recorder = Recorder()
    await Context(recorder).delta("body", "x")
    assert recorder.events == [("delta", {"block": "body", "delta": "x"})]


async def test_a_thread_gives_back_results_and_errors() -> None:
    """What the function returns or raises comes out of the await."""
    ctx = Context(Recorder())

    def fail() -> None:
        raise LookupError("gone")

    assert await ctx.in_thread(max, 1, 2) == 2
    with pytest.raises(LookupError, match="gone"):
        await ctx.in_thread(fail)


async def test_cancelling_does_not_wait_for_the_thread() -> None:
    """A cancelled run goes on at once while the function still blocks."""
    begun, release = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        release.wait()

    task = asyncio.create_task(Context(Recorder()).in_thread(block))
    while not begun.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
