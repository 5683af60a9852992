"""The log: one form for every line, whoever writes it and by which library."""

import io
import json
import logging
import subprocess
import sys

import pytest
import structlog

from gateway.logs import configure
from tests.e2e.process import ROOT

SAYING = """
import logging, sys, warnings
import structlog
from gateway.logs import configure

configure(format=sys.argv[1], level=sys.argv[2])
structlog.get_logger("gateway").info("our own", run="r1")
author = logging.getLogger("my_pipelines")
author.info("not said")
author.warning("a page was %s", "skipped", extra={"page": 7, "of": object})
logging.basicConfig(level=logging.DEBUG)  # as some do when they are imported
try:
    secret = "a secret"
    raise ValueError("no such page")
except ValueError:
    author.exception("it failed")
warnings.warn("an old way")
"""


def said(*arguments: str) -> str:
    command = [sys.executable, "-c", SAYING, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    assert "a secret" not in done.stderr  # local variables hold people's input
    return done.stderr


def test_in_json_every_line_is_an_object_of_the_same_shape():
    ours, skipped, failed, warned = map(json.loads, said("json", "info").splitlines())
    assert (ours["event"], ours["level"], ours["run"]) == ("our own", "info", "r1")
    named = (skipped["event"], skipped["level"], skipped["logger"], skipped["page"])
    assert named == ("a page was skipped", "warning", "my_pipelines", 7)
    assert (failed["event"], failed["level"]) == ("it failed", "error")
    assert failed["exception"].endswith("ValueError: no such page")
    assert (warned["logger"], "an old way" in warned["event"]) == ("py.warnings", True)
    assert all(line.keys() >= {"event", "level", "timestamp"} for line in (ours, skipped, failed, warned))


def test_each_line_is_written_in_one_piece(monkeypatch):
    """What is not is torn when the process is killed, and the next one goes on in the same line."""
    written = []
    monkeypatch.setattr(sys, "stderr", Pieces(written))
    try:
        configure(format="json", level="info")
        structlog.get_logger("gateway").info("our own", run="r1")
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(capture=False)
    assert [json.loads(piece)["run"] for piece in written] == ["r1"]
    assert written[0].endswith("}\n")


class Pieces(io.StringIO):
    """Standard error as Python has it when it is told not to gather: each call is a write of its own."""

    def __init__(self, written: list[str]) -> None:
        super().__init__()
        self._written = written

    def write(self, text: str) -> int:
        self._written.append(text)
        return len(text)


def test_as_text_every_message_is_a_line_of_the_same_shape():
    lines = said("text", "info").splitlines()
    messages = [line for line in lines if "[info" in line or "[warning" in line or "[error" in line]
    assert len(messages) == 4
    assert ("a page was skipped" in messages[1], "my_pipelines" in messages[1]) == (True, True)
    assert "ValueError: no such page" in lines


@pytest.mark.parametrize(("level", "events"), [("debug", 4), ("warning", 3), ("error", 1), ("critical", 0)])
def test_the_level_counts_for_all_and_what_others_say_begins_at_warnings(level, events):
    assert len(said("json", level).splitlines()) == events
