"""`pip install .` into an empty environment gives a command line that works."""

import os
import subprocess
import sys

from tests.e2e.process import ROOT, token


def test_an_installed_runcast_works(gateway, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=60)
    python = tmp_path / "venv/bin/python"
    install = ["install", "--quiet", "--disable-pip-version-check", "--constraint", "constraints.txt", "."]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], cwd=ROOT, check=True, timeout=300)
    here = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    here |= {"RUNCAST_URL": gateway.url, "RUNCAST_TOKEN": token()}

    def said(*arguments) -> str:
        done = subprocess.run(
            arguments, env=here, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    runcast = python.with_name("runcast")
    version = said(runcast, "--version").strip()
    assert said(python, "-m", "gateway", "--version").strip() == version
    assert said(runcast, "start", "words", "count:=2", "--watch") == '{\n  "words": 2\n}\n'
    where = "import runcast, pathlib; print(pathlib.Path(runcast.__file__).with_name('py.typed').read_text())"
    assert said(python, "-c", where).strip() == ""
    assert str(tmp_path) in said(python, "-c", "import runcast; print(runcast.__file__)")
