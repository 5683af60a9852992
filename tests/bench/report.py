"""From figures to a table, for the terminal and the README: each row beside its peers and the project's target.

Rule 1: nothing is measured here; the same figures always give the same words.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.bench import plot
from tests.bench.works import Figures
from tests.e2e.process import ROOT

FIGURES, PLOT, README = ROOT / "docs/bench.json", ROOT / "docs/bench.svg", ROOT / "README.md"
BEGINS, ENDS = "<!-- written by make bench -->\n", "<!-- to here -->\n"
TIMES = "\N{MULTIPLICATION SIGN}"
STARLETTE, NCHAN, FLOOR = "Starlette, uvicorn", "Nchan", "C floor"
HEAD = ("", "Runcast", STARLETTE, NCHAN, FLOOR, "target")
_COLUMNS = {"sse-starlette": STARLETTE, "Starlette": STARLETTE, "Nchan": NCHAN, "C floor": FLOOR}


class Target(NamedTuple):
    """At most `most`: times what the peer in column `of` has, or in the row's own unit."""

    most: float
    of: str = ""


# Of every row that has some. They are what the gateway is built towards, met or not.
TARGETS = {
    "delivery sse": (Target(1, NCHAN), Target(1.7, FLOOR), Target(0.2, STARLETTE)),
    "delivery websocket": (Target(1.1, NCHAN), Target(0.25, STARLETTE)),
    "growth sse": (Target(1.2, FLOOR),),
    "tokens": (Target(0.5, STARLETTE),),
    "connect sse": (Target(0.8, STARLETTE),),
    "memory sse": (Target(24),),
    "memory websocket": (Target(24),),
    "ping": (Target(50),),
    "cancel": (Target(50),),
    "frames": (Target(20),),
    "first join": (Target(3),),
    "join": (Target(3),),
    "later join": (Target(3),),
    "unwatched": (Target(0.6),),
    "heartbeats": (Target(2),),
    "held": (Target(20),),
}


class Row(NamedTuple):
    """`value` is Runcast's. `peers` by column. `note` stands behind the value."""

    key: str
    what: str
    value: float
    unit: str
    peers: Mapping[str, float] = MappingProxyType({})
    note: str = ""

    def met(self, target: Target) -> bool | None:
        """None: the peer that it names is missing."""
        if target.of and target.of not in self.peers:
            return None
        return self.value <= target.most * self.peers.get(target.of, 1)

    def cells(self) -> tuple[str, ...]:
        wanted = "; ".join(self._told(target) for target in TARGETS.get(self.key, ()))
        peers = (
            f"{_with(peer, self.unit)} ({self.value / peer:.2f} {TIMES})" if (peer := self.peers.get(column)) else ""
            for column in HEAD[2:-1]
        )
        return (self.what, _with(self.value, self.unit) + self.note, *peers, wanted)

    def _told(self, target: Target) -> str:
        most = f"{target.most:g} {TIMES} {target.of}" if target.of else _with(target.most, self.unit)
        return f"≤ {most}{' missed' if self.met(target) is False else ''}"


def rows(figures: Figures) -> Iterator[Row]:
    """In the order of the table."""
    crowd = figures["counts"]["crowd"]
    for kind, name in (("sse", "SSE"), ("websocket", "WebSocket")):
        servers = figures["broadcast"][kind]
        at_crowd = {server: _level(each, crowd)["cpu_us"] for server, each in servers.items()}
        yield _row(f"delivery {kind}", f"CPU of a delivery, {name}, {crowd} viewers of one run", at_crowd, "µs")
        late = {server: _level(each, crowd)["p99_ms"] for server, each in servers.items()}
        middle = _level(servers["Runcast"], crowd)["p50_ms"]
        row = _row(f"delay {kind}", "its delay, p99", late, "ms")
        yield row._replace(note=f" (p50 {_with(middle, 'ms')})")
        most = max(level["viewers"] for level in servers["Runcast"]["levels"])
        growth = {server: _level(each, most)["cpu_us"] / at_crowd[server] for server, each in servers.items()}
        yield _row(f"growth {kind}", f"a delivery to {most} viewers costs, of that", growth, TIMES)
    tokens = figures["tokens"]["servers"]
    each = {server: found["cpu_us"] for server, found in tokens.items()}
    many = f"{tokens['Runcast']['viewers']} runs {TIMES} {figures['counts']['tokens_a_s']}/s"
    yield _row("tokens", f"CPU of an event, {many}, a viewer each", each, "µs")
    unwatched = figures["tokens"]["unwatched"]["cpu_us"]
    yield Row("unwatched", "the same with nobody watching", unwatched / each["Runcast"], TIMES)
    for kind, name in (("sse", "SSE"), ("websocket", "WebSocket")):
        servers = figures["broadcast"][kind]
        for key, what, field, unit in (
            ("connect", "CPU to connect", "connect_us", "µs"),
            ("memory", "memory of an idle connection", "kib_each", "KiB"),
        ):
            yield _row(f"{key} {kind}", f"{what}, {name}", {s: f[field] for s, f in servers.items()}, unit)
    beats = {kind: servers["Runcast"]["heartbeats_percent"] for kind, servers in figures["broadcast"].items()}
    note = f" (SSE {beats['sse']:g} %)"
    yield Row("heartbeats", f"heartbeats to {most} idle WebSockets, of a core", beats["websocket"], "%", note=note)
    for key in ("ping", "cancel"):
        reply = figures["replies"][key]
        note = f" (p50 {_with(reply['p50_ms'], 'ms')})"
        if key == "cancel":
            note += f", {_with(reply['p99_ms'] / figures['replies']['ping']['p99_ms'], TIMES)} that of `ping`"
        yield Row(key, f"reply to `{key}` beside {crowd} WebSockets, p99", reply["p99_ms"], "ms", note=note)
    join = figures["join"]
    extra = join["frames"] - join["empty_frames"]
    yield Row("frames", f"frames of {join['deltas']} deltas in one block, joined folded", extra, "")
    for key, what, ms in (
        ("first join", "time of the first to join it", "first_"),
        ("join", "the same, joined again", ""),
        ("later join", "the same, joined first after a restart", "later_"),
    ):
        took_ms, empty_ms = join[f"{ms}ms"], join[f"{ms}empty_ms"]
        note = f" ({_with(took_ms, 'ms')})"
        yield Row(key, f"{what}, of an empty run's", took_ms / empty_ms, TIMES, note=note)
    where, held = max(figures["held"].items(), key=lambda item: item[1]["computed_ms"])
    note = f" ({where})"
    yield Row("held", "longest step of the event loop, in all of this", held["computed_ms"], "ms", note=note)


def _row(key: str, what: str, servers: dict[str, float], unit: str) -> Row:
    peers = {_COLUMNS[server]: value for server, value in servers.items() if server != "Runcast"}
    return Row(key, what, servers["Runcast"], unit, peers)


def _level(server: Figures, viewers: int) -> dict[str, Any]:
    found: dict[str, Any] = next(level for level in server["levels"] if level["viewers"] == viewers)
    return found


def _with(value: float, unit: str) -> str:
    number = f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"
    return f"{number} {unit}".strip()


def not_whole(figures: Figures) -> list[str]:
    """Whoever lost, repeated or reordered messages, in words."""
    watched = [
        (f"{server}, {kind}", level)
        for kind, servers in figures["broadcast"].items()
        for server, each in servers.items()
        for level in each["levels"]
    ]
    watched += [(f"{server}, tokens", each) for server, each in figures["tokens"]["servers"].items()]
    watched.append(("Runcast, beside commands", figures["replies"]["broadcast"]))
    return [
        f"{who}, {each['viewers']} viewers: {each['delivered']} of {each['expected']} came, {each['wrong']} out of turn"
        for who, each in watched
        if each["delivered"] != each["expected"] or each["wrong"]
    ]


def table(figures: Figures) -> str:
    """For a terminal."""
    lines = [HEAD, *(row.cells() for row in rows(figures))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, "", *_words(figures)])


def markdown(figures: Figures) -> str:
    """For the README, between its two markers."""
    lines = [HEAD, ("---",) * len(HEAD), *(row.cells() for row in rows(figures))]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join(["", *text, "", "\\\n".join(_words(figures)), ""])


def _words(figures: Figures) -> list[str]:
    machine = figures["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in {**machine["libraries"], **figures["peers"]}.items())
    busy = f" Others were using the machine: its load was {machine['load']}." if machine["load"] >= 0.5 else ""
    cpu = f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}"
    told = [f"{cpu}, Python {machine['python']}, {libraries}.{busy}"]
    told += [f"Not measured: {who}: {why}." for who, why in figures["left_out"].items()]
    return told + [f"Not whole: {each}." for each in not_whole(figures)]


def write(figures: Figures) -> None:
    """The plot, and the README's table."""
    PLOT.write_text(plot.drawn(figures["broadcast"]))
    README.write_text(replaced(README.read_text(), markdown(figures)))


def replaced(text: str, table: str) -> str:
    before, begins, rest = text.partition(BEGINS)
    _, ends, after = rest.partition(ENDS)
    if not (begins and ends):
        raise ValueError(f"{Path(README).name} has no {BEGINS.strip()} … {ENDS.strip()}")
    return before + begins + table + ends + after
