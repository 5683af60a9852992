"""The command line `runcast`: in a terminal, in a pipe, with whatever goes wrong.

Over 300 lines, because every command is asked in the same two ways: in a pipe and in a terminal.
"""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

import httpx
import pytest

from runcast.cli import main
from runcast.cli.exits import MEANING
from tests.client import scripted
from tests.e2e.clients import caller, served
from tests.e2e.process import bearer, free_port, token
from tests.e2e.terminal import CTRL_C, Terminal
from tests.faults.check import log_of


def environment(gateway, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RUNCAST_")}
    return {**clean, "RUNCAST_URL": gateway.url, "RUNCAST_TOKEN": token(), "COLUMNS": "200", **more}


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def runcast(gateway, *arguments: str, stdin: str = "", **more: str) -> Done:
    """The command in this process, with pipes for its streams: a process for each would take most of the time."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment(gateway, **more), clear=True),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = ended.code
    return Done(status, stdout.getvalue(), stderr.getvalue())


def said(gateway, *arguments: str, **more: str) -> str:
    """What a command that goes well prints."""
    done = runcast(gateway, *arguments, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


def state_of(gateway, run: str) -> dict:
    return httpx.get(f"{gateway.url}/runs/{run}", headers=bearer()).json()


def question_of(gateway, run: str) -> str:
    """The id of the question that a run asks."""
    end, cursor = time.monotonic() + 20, "0"
    while time.monotonic() < end:
        query = {"wait": 5, "after": cursor}
        told = httpx.get(f"{gateway.url}/runs/{run}/events", params=query, headers=bearer(), timeout=20).json()
        cursor = told["cursor"]
        for event in told["events"]:
            if event["type"] == "input.requested":
                return event["input_id"]
    raise AssertionError("nothing is asked")


def until_status(gateway, run: str, status: str) -> None:
    end = time.monotonic() + 20
    while state_of(gateway, run)["status"] != status:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_run_is_started_watched_and_its_result_alone_is_on_stdout(gateway):
    done = runcast(gateway, "start", "words", "count:=3", "--watch")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"words": 3})
    assert "progress" in done.stderr
    assert "run.completed" in done.stderr
    again = runcast(gateway, "watch", done.stderr.splitlines()[0])
    assert (again.returncode, again.stdout) == (0, done.stdout)


def test_a_result_in_markdown_is_printed_as_it_is(gateway):
    source = "The tides follow the moon, which pulls the sea twice a day."
    done = runcast(gateway, "start", "content", "topic=tides", f"sources:={json.dumps([source])}", "--watch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# ")
    assert source in done.stdout


@pytest.mark.parametrize(
    "arguments, stdin",
    [
        (["--input", '{"text": "a b", "count": 1}'], ""),
        (["--input", "@input.json"], ""),
        (["--input", "-"], '{"text": "a b", "count": 1}'),
        (["text=a b", "count:=1"], ""),
        (["text=@text.txt", "count:=1"], ""),
        (["--input", '{"text": "other", "count": 1}', "text=a b"], ""),
    ],
)
def test_an_input_is_json_a_file_standard_input_or_fields(gateway, tmp_path, monkeypatch, arguments, stdin):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input.json").write_text('{"text": "a b", "count": 1}')
    (tmp_path / "text.txt").write_text("a b")
    run = said(gateway, "start", "words", *arguments, stdin=stdin)
    assert said(gateway, "watch", run) == '{\n  "words": 1\n}'
    assert state_of(gateway, run)["blocks"]["body"] == "a b0 "


@pytest.mark.parametrize(
    "pipeline, status, told",
    [
        ("broken", 3, "(pipeline.error, incident "),
        ("rejecting", 3, "this input makes no sense (pipeline.rejected)"),
        ("spending", 4, "The run was cancelled."),
    ],
)
def test_how_a_run_ended_is_the_exit_status(gateway, pipeline, status, told):
    done = runcast(gateway, "start", pipeline, "--watch")
    assert (done.returncode, done.stdout) == (status, "")
    assert told in done.stderr
    assert "swordfish" not in done.stderr


@pytest.mark.parametrize(
    "arguments, more, status, told",
    [
        (["start", "nope"], {}, 5, "There is no such pipeline (pipeline.unknown)"),
        (["start", "words", "count:=-1"], {}, 5, "input.count: Input should be greater than or equal to 0"),
        (["watch", "nope"], {}, 5, "There is no such run (run.not_found)"),
        (["tail", "nope"], {}, 5, "There is no such run (run.not_found)"),
        (["ls"], {"RUNCAST_TOKEN": "bad"}, 5, "(auth.invalid)"),
        (["ls"], {"RUNCAST_TOKEN": ""}, 5, "no token: set RUNCAST_TOKEN"),
        (["ls"], {"RUNCAST_TOKEN": token(scope="runs:start")}, 5, "(auth.forbidden)"),
        (["ls"], {"RUNCAST_TOKEN": token(ttl_s=-5)}, 5, "(auth.expired)"),
        (["ls"], {"RUNCAST_URL": f"http://127.0.0.1:{free_port()}"}, 6, "cannot be reached"),
        (["watch", "x"], {"RUNCAST_URL": f"http://127.0.0.1:{free_port()}"}, 6, "cannot be reached"),
        (["input", "nope", "q", "1"], {}, 5, "(run.not_found)"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_status_of_its_kind(gateway, arguments, more, status, told):
    done = runcast(gateway, *arguments, **more)
    assert (done.returncode, done.stdout) == (status, "")
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    assert told in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments, told",
    [
        ([], "COMMAND"),
        (["nope"], "invalid choice"),
        (["start", "words", "count"], "count: a field is NAME=TEXT"),
        (["start", "words", "count:=x"], "count: not JSON"),
        (["start", "words", "--input", "{"], "--input: not JSON"),
        (["start", "words", "--input", "@nope.json"], "--input: nope.json: No such file"),
        (["start", "words", "--input", "[1]", "a=b"], "not an object"),
        (["ls", "--limit", "0"], "a number from 1"),
        (["ls", "--url", "gopher://x"], "not an http(s) address"),
        (["ls", "--url", "http://"], "not an address"),
        (["ls", "--url", "http://["], "not an address"),
        (["--url", "gopher://x", "ls"], "not an http(s) address"),
        (["--url", "http://", "ls", "--url", "gopher://x"], "not an http(s) address"),
        (["ls", "--url", "http://127.0.0.1:port"], "not an address"),
        (["ls", "--url", "http://127.0.0.1:99999"], "not an address"),
        (["ls", "--token", "é"], "no JWT"),
    ],
)
def test_a_wrong_command_line_is_status_2(gateway, arguments, told):
    done = runcast(gateway, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "command, status, told",
    [
        ("watch RUN <&-", 0, ""),
        ("watch RUN 2>&-", 0, ""),
        ("watch RUN >/dev/full", 7, "No space left"),
        ("start words --input - <&-", 2, "--input: not JSON"),
        ("ls >&-", 0, ""),
        ("ls >/dev/full", 7, "No space left"),
        ("bench --viewers 1 --events 2 >/dev/full", 7, "No space left"),
        ("bench --viewers 1 --events 2 >&$GONE", 141, ""),
    ],
)
def test_streams_that_are_closed_or_full_are_a_status_of_their_kind(gateway, command, status, told):
    run = said(gateway, "start", "words", "count:=1")
    gone, pipe = os.pipe()
    os.close(gone)
    shell = f'exec "{sys.executable}" -m runcast {command.replace("RUN", run).replace("$GONE", str(pipe))}'
    # As it is for most: with a buffer before stdout.
    clean = {name: value for name, value in environment(gateway).items() if name != "PYTHONUNBUFFERED"}
    with os.fdopen(pipe, "wb"):
        done = subprocess.run(
            ["bash", "-c", shell], env=clean, capture_output=True, text=True, timeout=20, pass_fds=[pipe], check=False
        )
    assert done.returncode == status, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_what_the_outputs_alphabet_lacks_is_escaped(gateway):
    run = said(gateway, "start", "words", "count:=1", "text=→")
    done = subprocess.run(
        [sys.executable, "-m", "runcast", "tail", run],
        env=environment(gateway, PYTHONIOENCODING="latin-1"), capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u2192" in done.stdout


def test_a_token_out_of_a_file_may_end_in_a_newline(gateway):
    said(gateway, "ls", RUNCAST_TOKEN=f"{token()}\n")


def test_help_tells_the_exit_statuses(gateway):
    for arguments in (["--help"], ["watch", "--help"]):
        told = said(gateway, *arguments)
        for status, meaning in MEANING.items():
            assert f"  {status:<4} {meaning}" in told


async def test_tail_gives_the_log_line_by_line(gateway):
    run = await asyncio.to_thread(said, gateway, "start", "words", "count:=5")
    lines = (await asyncio.to_thread(said, gateway, "tail", run, "--json")).splitlines()
    async with caller(gateway) as http:
        log = await log_of(http, run)
    assert [json.loads(line) for line in lines] == log
    rest = await asyncio.to_thread(said, gateway, "tail", run, "--json", "--after", log[4]["id"])
    assert rest.splitlines() == lines[5:]
    few = await asyncio.to_thread(said, gateway, "tail", run, "--types", "progress")
    assert [line.split()[1] for line in few.splitlines()] == [
        event["type"] for event in log if event["type"].startswith(("run.", "progress"))
    ]


@pytest.mark.parametrize("pipeline, status", [("words", 0), ("broken", 3), ("spending", 4)])
def test_tail_from_the_end_of_a_run_tells_how_it_ended(gateway, pipeline, status):
    run = said(gateway, "start", pipeline)
    *_, last = runcast(gateway, "tail", run, "--json").stdout.splitlines()
    done = runcast(gateway, "tail", run, "--after", json.loads(last)["id"])
    assert (done.returncode, done.stdout) == (status, "")


def test_tail_ends_quietly_when_its_reader_has_enough(gateway):
    run = said(gateway, "start", "forever")
    tail = subprocess.Popen(
        [sys.executable, "-m", "runcast", "tail", run, "--json"],
        env=environment(gateway), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert json.loads(tail.stdout.readline())["type"] == "run.queued"  # it comes while the run goes on
    tail.stdout.close()
    assert tail.wait(20) == 141
    assert tail.stderr.read() == b""
    tail.stderr.close()
    said(gateway, "cancel", run)


def test_a_run_is_commanded(gateway):
    run = said(gateway, "start", "steps", "count:=100000", "gap_s:=0.01")
    said(gateway, "pause", run)
    until_status(gateway, run, "paused")
    said(gateway, "resume", run)
    until_status(gateway, run, "running")
    assert said(gateway, "cancel", run, "--reason", "enough") == "cancelling"
    until_status(gateway, run, "cancelled")
    assert said(gateway, "cancel", run) == "cancelled"
    again = said(gateway, "retry", run)
    assert again != run
    said(gateway, "cancel", again)
    listed = said(gateway, "ls", "--pipeline", "steps", "--limit", "2").splitlines()
    assert [line.split("\t")[0] for line in listed] == [again, run]
    assert {json.loads(line)["id"] for line in said(gateway, "ls", "--json").splitlines()} >= {again, run}


def test_a_question_is_shown_and_answered(gateway):
    run = said(gateway, "start", "asking")
    with Terminal("runcast", "watch", run, environment=environment(gateway)) as terminal:
        terminal.until("? How many?")
        terminal.until(f"runcast input {run} ")
        question = terminal.screen.rpartition(f"runcast input {run} ")[2].split()[0]
        said(gateway, "input", run, question, "12")
        terminal.until("12\n")
        assert terminal.status() == 0


def test_a_question_is_put_to_whoever_watches(gateway):
    run = said(gateway, "start", "asking")
    with Terminal("runcast", "watch", run, environment=environment(gateway)) as terminal:
        terminal.until("How many? [Enter: leave it to others]: ")
        terminal.press("many\n")
        terminal.until("(input.invalid)")
        terminal.until("How many? [Enter: leave it to others]: ", times=2)
        terminal.press("12\n")
        terminal.until("completed")
        assert terminal.status() == 0
        assert terminal.screen.rstrip().endswith("12")


def test_a_question_that_is_passed_over_is_not_put_again(gateway):
    run = said(gateway, "start", "asking")
    with Terminal("runcast", "watch", run, environment=environment(gateway)) as terminal:
        terminal.until("[Enter: leave it to others]: ")
        terminal.press("\n")
        hint = f"runcast input {run} "
        terminal.until(hint, times=terminal.screen.count(hint) + 1)  # the picture moves again
        terminal.press(CTRL_C)
        terminal.until("Cancel the run?")
        terminal.press("y\n")
        assert terminal.status() == 4
        assert terminal.screen.count("[Enter: leave it to others]: ") == 1


def test_without_a_terminal_a_question_is_only_shown(gateway):
    run = said(gateway, "start", "asking")
    with subprocess.Popen(
        [sys.executable, "-m", "runcast", "watch", run], env={**os.environ, **environment(gateway)},
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as watching:  # fmt: skip
        said(gateway, "input", run, question_of(gateway, run), "12")
        shown = watching.communicate(timeout=20)[1]
    assert ("input.requested" in shown, "input.received" in shown, "[Enter" in shown) == (True, True, False)
    assert watching.returncode == 0


def test_pipelines_are_listed_with_their_fields(gateway):
    lines = dict(line.split("\t", 1) for line in said(gateway, "pipelines").splitlines())
    assert lines["content"].startswith("topic*, sources")
    found = [json.loads(line) for line in said(gateway, "pipelines", "--json").splitlines()]
    assert {each["name"] for each in found} == lines.keys()


@pytest.mark.parametrize("transport", ["sse", "websocket", "poll"])
def test_a_small_load_is_measured(gateway, transport):
    load = ["--viewers", "3", "--events", "20", "--rate", "100", "--transport", transport]
    found = json.loads(said(gateway, "bench", *load, "--json"))
    assert (found["delivered"], found["wrong"], found["viewers"]) == (60, 0, 3)
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"] <= found["max_ms"]


def test_a_terminal_shows_the_run_as_it_goes(gateway):
    arguments = ("start", "words", "count:=60", "gap_s:=0.03", "text=growing", "--watch")
    with Terminal("runcast", *arguments, environment=environment(gateway)) as terminal:
        terminal.until("▸ writer")
        terminal.until("growing3")
        terminal.until(" % Word ")
        terminal.until("━")
        terminal.until("✔ writer")
        terminal.until('"words": 60')
        assert terminal.status() == 0


def watched(gateway) -> tuple[str, Terminal]:
    run = said(gateway, "start", "forever", "gap_s:=0.05")
    return run, Terminal("runcast", "watch", run, environment=environment(gateway))


@contextlib.contextmanager
def interrupted(gateway) -> Iterator[tuple[str, Terminal]]:
    """A run that is watched, just after Ctrl-C."""
    run, terminal = watched(gateway)
    with terminal:
        terminal.until("on on")
        terminal.press(CTRL_C)
        terminal.until("Cancel the run?")
        yield run, terminal


def test_ctrl_c_asks_and_a_yes_cancels(gateway):
    with interrupted(gateway) as (run, terminal):
        terminal.press("y\n")
        terminal.until("The run was cancelled.")
        assert terminal.status() == 4
    assert state_of(gateway, run)["status"] == "cancelled"


@pytest.mark.parametrize("keys", ["\n", "n\n", CTRL_C])
def test_anything_else_and_a_second_ctrl_c_only_leave(gateway, keys):
    with interrupted(gateway) as (run, terminal):
        terminal.press(keys)
        terminal.until(f"The run goes on: runcast watch {run}")
        assert terminal.status() == 130
    assert state_of(gateway, run)["status"] == "running"
    said(gateway, "cancel", run)


async def test_who_will_not_wait_for_the_answer_to_a_cancel_leaves_by_ctrl_c():
    async def answer(request, connection):
        if request.method == "POST":
            asked.set()
            return await connection.gone()
        if not request.streams:
            return scripted.told({"id": "r", "status": "running"})
        await connection.stream(scripted.hello(), scripted.event(1, "delta", block="b", delta="on on"))
        return await connection.gone()

    def watch() -> None:
        with Terminal("runcast", "watch", "r", environment=environment(server)) as terminal:
            terminal.until("on on")
            terminal.press(CTRL_C)
            terminal.until("Cancel the run?")
            terminal.press("y\n")
            assert asked.wait(20)
            terminal.press(CTRL_C)
            terminal.until("The run goes on: runcast watch r")
            assert terminal.status() == 130

    asked = threading.Event()
    async with scripted.Server(answer) as server:
        await asyncio.to_thread(watch)


def test_a_run_that_ends_while_it_asks_is_told(gateway):
    with interrupted(gateway) as (run, terminal):
        said(gateway, "cancel", run)
        assert terminal.status() == 4


def test_without_a_terminal_an_interrupt_leaves_at_once(gateway):
    run = said(gateway, "start", "forever", "gap_s:=0.05")
    watch = subprocess.Popen(
        [sys.executable, "-m", "runcast", "watch", run],
        env=environment(gateway), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while "run.started" not in watch.stderr.readline():
        pass
    watch.send_signal(signal.SIGINT)
    stdout, stderr = watch.communicate(timeout=20)
    assert (watch.returncode, stdout) == (130, "")
    assert f"runcast watch {run}" in stderr
    said(gateway, "cancel", run)


def test_watching_goes_on_after_the_gateway_was_away(gateway_of_its_own):
    gateway = gateway_of_its_own
    run = said(gateway, "start", "external", "title=t")
    with Terminal("runcast", "watch", run, environment=environment(gateway)) as terminal:
        terminal.until(run)
        gateway.stop(signal.SIGKILL)
        terminal.until("connecting")
        gateway.start()
        finish = {"status": "completed", "result": "all there"}
        assert httpx.post(f"{gateway.url}/runs/{run}/finish", json=finish, headers=bearer()).is_success
        terminal.until("all there")
        assert terminal.status() == 0


@pytest.fixture
def gateway_of_its_own(tmp_path):
    with served(tmp_path, retry_ms=100) as running:
        yield running
