"""The example worker in a process of its own: delegated, streamed by its owner, cancelled, killed, started again."""

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.clients import PATIENCE_S, STREAM, by_sse, caller, eventually, own
from tests.e2e.process import ROOT, token

SCRIPT = ROOT / "docs/examples/worker.py"
SCOPES = "runs:start runs:delegate runs:read runs:publish"
TEXTS = {"a.txt": "to be or not to be", "b.txt": "that is the question", "c.txt": "whether 'tis nobler"}


@pytest.fixture
async def alice(gateway):
    async with caller(gateway, "alice", "runs:read runs:cancel") as client:
        yield client


@pytest.fixture
def files(tmp_path):
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    return [tmp_path / name for name in TEXTS]


@contextlib.asynccontextmanager
async def working(gateway, *arguments):
    """The script as its docstring says, and the id that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), "--owner", "alice", *map(str, arguments),
        env={"RUNCAST_URL": gateway.url, "RUNCAST_TOKEN": token("worker", SCOPES)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        yield process, line.decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def held(files: list[Path]) -> Path:
    """The second file as a pipe: whoever reads it waits until something is written."""
    files[1].unlink()
    os.mkfifo(files[1])
    return files[1]


async def begun(client, run: str, stage: str) -> None:
    """Until the worker says that it is at a file."""

    async def there() -> bool:
        return (await client.get(f"/runs/{run}")).json()["stage"] == stage

    await eventually(there, within_s=PATIENCE_S)


async def written(path: Path, text: str) -> None:
    await asyncio.to_thread(path.write_text, text)


def worked(events: list[dict]) -> list[tuple]:
    """What a worker published, without times and places."""
    return [
        (event["type"], event.get("stage"), event.get("delta"), event.get("progress"))
        for event in events
        if not event["type"].startswith("run.")
    ]


async def test_its_owner_watches_a_delegated_worker(gateway, alice, files):
    """The run is the owner's, streamed while the worker works elsewhere, and ends with what was counted."""
    pipe = held(files)
    async with working(gateway, *files) as (process, run):
        await begun(alice, run, "b.txt")
        watching = asyncio.create_task(by_sse(alice, run, replay="full"))
        await written(pipe, TEXTS["b.txt"])
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
        events = own(await watching)
    assert (events[0]["owner"], events[0]["pipeline"]) == ("alice", "external")
    assert events[-1]["result"] == {"files": 3, "words": 13, "different": 11}
    assert Counter(event["type"] for event in events)["stage.completed"] == 3
    state = (await alice.get(f"/runs/{run}")).json()
    assert state["blocks"]["report"].startswith("- a.txt: 6 words; most often to (2), be (2)")


async def test_a_worker_notices_that_it_was_cancelled(gateway, alice, files):
    """Cancelled by the owner it stops before the next file, and the run ends as the owner wished."""
    pipe = held(files)
    async with working(gateway, *files) as (process, run):
        await begun(alice, run, "b.txt")
        assert (await alice.post(f"/runs/{run}/cancel", json={"reason": "enough"})).status_code == 202
        await written(pipe, TEXTS["b.txt"])
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 1
    events = own(await by_sse(alice, run, replay="full"))
    assert (events[-1]["type"], events[-1]["by"], events[-1]["reason"]) == ("run.cancelled", "alice", "enough")
    assert "c.txt" not in [event.get("stage") for event in events]


async def test_a_killed_worker_goes_on_from_its_journal(gateway, alice, files, tmp_path):
    """Killed in the middle of a file and started again: one run, every event once, and the whole count."""
    pipe, journal = held(files), tmp_path / "journal.json"
    async with working(gateway, "--journal", journal, *files) as (process, run):
        await begun(alice, run, "b.txt")
        watching = asyncio.create_task(by_sse(alice, run, replay="full"))
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert json.loads(journal.read_text())["seq"] == 3
    pipe.unlink()
    pipe.write_text(TEXTS["b.txt"])
    async with working(gateway, "--journal", journal, *files) as (process, again):
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    events = own(await watching)
    assert again == run
    assert events[-1]["result"] == {"files": 3, "words": 13, "different": 11}
    assert [event["stage"] for event in events if event["type"] == "stage.started"] == list(TEXTS)
    assert [event["stage"] for event in events if event["type"] == "stage.completed"] == list(TEXTS)
    assert not journal.exists()


class Killed(BaseException):
    """The process is gone."""


def example():
    spec = importlib.util.spec_from_file_location("worker", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_dying_at_any_request_loses_and_repeats_nothing(gateway, alice, files, tmp_path):
    """Before a request arrives or after, whichever it is: the log is that of a worker that lived."""
    worker = example()

    def live(journal: Path, *, dies_at: int = 0, arrives: bool = False) -> tuple[str, int]:
        made = 0

        def send(method, url, content, headers):
            nonlocal made
            made += 1
            if made == dies_at and not arrives:
                raise Killed
            answer = worker.exchange(method, url, content, headers)
            if made == dies_at:
                raise Killed
            return answer

        to = worker.Gateway(gateway.url, token("worker", SCOPES), send=send)
        run = worker.Run(to, owner="alice", title="Words", journal=journal)
        assert worker.work(run, files)
        return run.id, made

    undisturbed, requests = await asyncio.to_thread(live, tmp_path / "none.json")
    expected = own(await by_sse(alice, undisturbed, replay="full"))
    for arrives in (False, True):
        for at in range(1, requests + 1):
            journal = tmp_path / f"{at}-{arrives}.json"
            with pytest.raises(Killed):
                await asyncio.to_thread(live, journal, dies_at=at, arrives=arrives)
            run, _ = await asyncio.to_thread(live, journal)
            events = own(await by_sse(alice, run, replay="full"))
            assert worked(events) == worked(expected), (at, arrives)
            assert events[-1]["result"] == expected[-1]["result"]
    listed = (await alice.get("/runs", headers=STREAM, params={"limit": 100})).json()["runs"]
    # Who died before the start arrived started under the same key: nobody made two runs.
    assert len([one for one in listed if one["status"] == "running"]) == 0
