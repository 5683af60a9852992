"""What operators read is true: every limit's row, every metric and alert, every command."""

import asyncio
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import Gateway
from gateway.settings import load, table
from pipeline import Registry
from tests.e2e.process import SECRET

DOCS = Path(__file__).parents[1] / "docs"
LIMITS = (DOCS / "limits.md").read_text()
OPERATIONS = (DOCS / "operations.md").read_text()
DASHBOARD = json.loads((DOCS / "grafana.json").read_text())
PANELS = DASHBOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
ALERTS = re.findall(r"^\| [a-z ]+ \| `(.*?)` \|", OPERATIONS, re.MULTILINE)
_METRIC = re.compile(r"\b(?:runcast|process)_\w+")


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Each metric's family by the names of its samples, with the labels it may have."""
    folder = tmp_path_factory.mktemp("gateway")
    chosen = load(jwt_secret=SECRET, broker=f"sqlite:///{folder}/runcast.db")
    gateway = Gateway(chosen, Registry())

    async def exposition() -> bytes:
        return await gateway.metrics.exposition()

    found = {}
    for family in text_string_to_metric_families(asyncio.run(exposition()).decode()):
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        found |= {family.name + ending: family for ending in endings}
    for family in gateway.metrics.collect():
        assert family.documentation
        assert family.name.startswith("runcast")
    return found


def test_every_limit_stands_in_its_row_with_its_default():
    rows = re.findall(r"^\| .*? \| `(RUNCAST_\w+)` \| `(.*?)` \| (.+) \|$", LIMITS, re.MULTILINE)
    defaults = {name: default for name, default, _ in table()}
    assert {name: default for name, default, _ in rows} == {name: defaults[name] for name, _, _ in rows}
    limits = {name for name in defaults if "_MAX_" in name or name.endswith(("_RATE", "_LIMIT"))}
    assert limits <= {name for name, _, _ in rows}
    assert {"RUNCAST_REQUEST_TIMEOUT_S", "RUNCAST_STALL_TIMEOUT_S"} <= {name for name, _, _ in rows}


def test_every_code_and_close_code_of_a_row_is_the_protocols():
    from gateway.errors import STATUSES
    from gateway.wire.codes import Close

    for status, code in re.findall(r"(\d{3}) `([a-z_.]+)`", LIMITS):
        assert STATUSES[code] == int(status), code
    for code in re.findall(r"\b(4[01]\d\d|10\d\d)\b(?= *[|;.,]| *$)", LIMITS):
        assert int(code) in [*Close, 1000], code


def test_the_dashboard_is_one_that_can_be_imported():
    ids = [panel["id"] for panel in PANELS]
    assert len(ids) == len(set(ids))
    rows = [panel["title"] for panel in PANELS if panel["type"] == "row"]
    assert rows == ["Connections", "Delivery", "Runs", "Limits", "Broker", "Loop and process"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in PANELS]
    assert len(places) == len(set(places))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)
    for panel in PANELS:
        if panel["type"] != "row":
            assert panel["description"]
            letters = [target["refId"] for target in panel["targets"]]
            assert len(letters) == len(set(letters)) > 0
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${source}"}


@pytest.mark.parametrize("query", [*QUERIES, *ALERTS])
def test_a_query_asks_for_what_there_is(query, families):
    names = _METRIC.findall(query)
    assert names
    for name in names:
        assert name in families, name
        if name.endswith("_total"):
            assert re.search(rf"(rate|increase)\({name}", query), "a counter is read by its rate"
    assert query.count("(") == query.count(")")
    assert query.count("{") == query.count("}")
    if "histogram_quantile" in query:
        assert "_bucket" in query
        assert "by (le" in query


def test_every_metric_of_the_gateway_stands_on_the_dashboard(families):
    shown = {families[name].name for query in QUERIES for name in _METRIC.findall(query)}
    own = {family.name for family in families.values() if family.name.startswith("runcast")}
    assert own - shown == {"runcast_info"}


def test_alerts_are_there_and_name_labels_that_there_are():
    assert len(ALERTS) >= 8
    for code in re.findall(r'code=~"([^"]+)"', OPERATIONS):
        from gateway.errors import STATUSES

        for pattern in code.split("|"):
            assert any(re.fullmatch(pattern, known) for known in STATUSES), pattern


def test_the_backup_of_a_log_in_use_is_whole(tmp_path):
    (command,) = re.findall(r"^    (python -c .*VACUUM.*)$", OPERATIONS, re.MULTILINE)
    log = sqlite3.connect(tmp_path / "runcast.db")
    log.execute("PRAGMA journal_mode=WAL")
    log.execute("CREATE TABLE events (offset)")
    log.execute("INSERT INTO events VALUES (1)")
    log.commit()
    log.execute("INSERT INTO events VALUES (2)")  # under way, not committed
    subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=tmp_path, check=True, timeout=30)
    log.rollback()
    log.close()
    copy = sqlite3.connect(tmp_path / "backup.db")
    assert copy.execute("SELECT * FROM events").fetchall() == [(1,)]
    copy.close()


def test_the_commands_for_tokens_and_the_audit_work(tmp_path):
    (command,) = re.findall(r"^    python -m (gateway token .*)$", OPERATIONS, re.MULTILINE)
    environment = {**os.environ, "RUNCAST_JWT_SECRET": SECRET}
    asks = [sys.executable, "-m", *command.split()]
    made = subprocess.run(asks, env=environment, capture_output=True, check=True, text=True, timeout=30)
    assert made.stdout.strip().count(".") == 2
    (search,) = re.findall(r"^    (grep .*)$", OPERATIONS, re.MULTILINE)
    line = '{"action": "delete", "outcome": "ok", "event": "audit"}\n'
    (tmp_path / "gateway.log").write_text(line + line.replace("delete", "start") + '{"event": "x"}\n')
    found = subprocess.run(["bash", "-c", search], cwd=tmp_path, capture_output=True, check=True, text=True, timeout=30)
    assert found.stdout == line


def test_as_many_files_may_be_open_as_the_system_allows():
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300));"
        "from gateway.server import _allow_files; _allow_files(250); _allow_files(9999);"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=30)
    assert "(300, 300)" in told.stdout
    assert told.stdout.count("fewer files") == 1
    assert signal.SIGTERM.name in OPERATIONS
