"""The README tells the truth."""

import re
from pathlib import Path

from gateway.settings import table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_settings_table_is_that_of_the_code():
    rows = [f"| `{name}` | {f'`{default}`' if default else ''} | {meaning} |" for name, default, meaning in table()]
    assert re.findall(r"^\| `RUNCAST_.*$", README, re.MULTILINE) == rows


def test_every_link_and_picture_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_pipeline_example_runs(tmp_path, monkeypatch):
    """What a newcomer copies works as it stands."""
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    (tmp_path / "my_pipelines.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    import asyncio

    from my_pipelines import Input, hello

    from pipeline import Context, Recorder

    recorder = Recorder()
    assert asyncio.run(hello(Context(recorder), Input(topic="you"))) == {"text": "Hello, you."}
    assert [type for type, _ in recorder.events] == ["stage.started", "progress", "delta", "x.rows", "stage.completed"]
