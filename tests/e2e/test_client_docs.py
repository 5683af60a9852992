"""The pages on the client and the command line: what they show works as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runcast.cli.exits import MEANING
from tests.e2e.process import ROOT, token

BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAYS = {  # what each block must print, in the order of the pages
    "python.md": [
        r"(\d+ % .*\n)+# tides\n",
        r"\['input', 'max_words'\] .*\ncancelling cancelled\nrun\.finished\n",
        r"(\S+ content\n|\S+ \w+\n)*",
        r"run\.queued\n(.*\n)+run\.completed\ncompleted\n",
        r"completed\n",
    ],
    "cli.md": [
        r"content\t.*\n(.*\n)*# tides\n",
        r"(.*\n)*.*397\.8",
        r"\S*\n\S*\ncancelling\n(.*\tcancelled\t.*\n)+\S+\n",
        r'(\{"type":"delta".*\n){2}(.*\n)*.*  progress  .*\n',
        r"5 viewers, 50 events: 250 delivered .* 0 viewers wrong\nlatency ms: .*\n",
    ],
}


def blocks():
    for page, says in SAYS.items():
        found = BLOCK.findall((ROOT / "docs" / page).read_text())
        assert len(found) == len(says), page
        for number, ((language, code), told) in enumerate(zip(found, says, strict=True), 1):
            yield pytest.param(language, code, told, id=f"{page}-{number}")


@pytest.mark.parametrize("language, code, told", [*blocks()])
def test_a_newcomer_copies_it_and_it_runs(gateway, tmp_path, language, code, told):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RUNCAST_")}
    here = {
        "RUNCAST_URL": gateway.url,
        "RUNCAST_TOKEN": token("newcomer"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    arguments = [sys.executable, "-c", code] if language == "python" else ["bash", "-e", "-u", "-c", code]
    done = subprocess.run(
        arguments, env={**clean, **here}, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(told, done.stdout), done.stdout


def test_the_exit_statuses_are_those_of_the_code():
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", (ROOT / "docs/cli.md").read_text(), re.MULTILINE)
    assert rows == [(str(int(status)), meaning) for status, meaning in MEANING.items()]


def test_links_lead_somewhere():
    for page in SAYS:
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "docs" / page).read_text()):
            assert (ROOT / "docs" / target).exists(), target
