"""The benchmark runs, and what the README shows is what was measured. No time is asserted: the machine may be busy."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from tests.bench import plot, report
from tests.bench.machine import Used
from tests.bench.servers import Floor, serving
from tests.bench.viewers import Source, Viewer, Viewers, Watched, _take, delays, stamp
from tests.e2e.process import ROOT

FIGURES = json.loads(report.FIGURES.read_text())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and uses epoll")
def test_the_quick_form_measures_everything_and_loses_nothing():
    command = [sys.executable, "-m", "tests.bench", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    for row in report.rows(FIGURES):
        assert any(re.sub(r"\d+", "#", line).startswith(re.sub(r"\d+", "#", row.what)) for line in told), row.what


@pytest.mark.skipif(bool(Floor.missing()), reason="needs a C compiler")
def test_viewers_of_the_c_floor_see_every_message(tmp_path):
    floor = Floor()
    with serving(floor, tmp_path):
        viewers = Viewers(floor.pid, floor.port, lambda _: floor.steps("sse"))
        joined = viewers.grow(120)
        found = viewers.watch(0.3, Source(floor.port, floor.post, 50))
        viewers.close()
    assert joined.cpu_s > 0
    assert found.published > 1
    assert found.delivered == found.expected == 120 * found.published
    assert found.wrong == 0
    assert found.used.cpu_s > 0


def test_the_readme_and_the_plot_show_the_figures_that_are_kept():
    readme = report.README.read_text()
    assert report.replaced(readme, report.markdown(FIGURES)) == readme
    assert report.PLOT.read_text() == plot.drawn(FIGURES["broadcast"])


def test_the_plot_is_xml_and_names_every_server():
    root = ET.fromstring(plot.drawn(FIGURES["broadcast"]))  # noqa: S314 - our own
    text = " ".join(root.itertext())
    for servers in FIGURES["broadcast"].values():
        for name in servers:
            assert name in text


def test_stamps_are_found_however_the_bytes_are_cut():
    stream = b"".join(b'data: {"bench":"%b","pad":"xx"}\n\n' % stamp(number) for number in range(3))
    for cut in range(len(stream)):
        viewer, found = Viewer(None), Watched(1, Used(0, 0), 0)
        _take(viewer, stream[:cut], found)
        _take(viewer, stream[cut:], found)
        assert (found.delivered, found.wrong, viewer.last) == (3, 0, 2), cut


@pytest.mark.parametrize("numbers", [(0, 2), (0, 0), (1, 0), (5, 7)])
def test_a_hole_a_repetition_and_another_order_are_counted(numbers):
    viewer, found = Viewer(None), Watched(1, Used(0, 0), 0)
    for number in numbers:
        _take(viewer, b'{"bench":"%b"}' % stamp(number), found)
    assert found.wrong == 1


def test_a_row_says_when_messages_were_lost():
    lost = json.loads(json.dumps(FIGURES))
    lost["broadcast"]["sse"]["Runcast"]["levels"][0]["delivered"] -= 1
    assert len(report.not_whole(lost)) == len(report.not_whole(FIGURES)) + 1
    assert "Not whole: Runcast, sse" in report.markdown(lost)


def test_a_peer_that_is_missing_leaves_its_cells_empty_and_is_named():
    less = json.loads(json.dumps(FIGURES))
    for servers in (*less["broadcast"].values(), less["tokens"]["servers"]):
        for name in [name for name in servers if name != "Runcast"]:
            del servers[name]
    less["left_out"] = {"Nchan": "nginx is away"}
    assert "Not measured: Nchan: nginx is away." in report.markdown(less)
    for row in report.rows(less):
        assert not any(row.cells()[2:-1])


def test_a_target_that_is_missed_is_called_so():
    worse = json.loads(json.dumps(FIGURES))
    worse["held"]["joins"] = {"held_ms": 30, "computed_ms": 25, "tasks": 1}
    held = next(row for row in report.rows(worse) if row.key == "held")
    assert held.cells()[-1] == "≤ 20 ms missed"


def test_a_hundredth_exceeds_the_p99():
    assert delays([n * 1_000_000 for n in range(101)]) == {"p50_ms": 50, "p99_ms": 99}
    assert delays([]) == {"p50_ms": 0, "p99_ms": 0}
