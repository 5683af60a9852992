"""The picture: what a delivery costs, by the number of viewers, one line for each server.

Rule 1: plain SVG with its own ground, in the colours of the reader's light or dark; nothing is loaded.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

WIDTH, HEIGHT = 860, 400
TOP, BOTTOM = 64, 52
PANELS = {"sse": (56, 288), "websocket": (476, 288)}  # left edge and width of each
TITLES = {"sse": "SSE", "websocket": "WebSocket"}
LINE = 15  # between two labels
_STYLE = """
  .ground { fill: #ffffff } .grid { stroke: #d8dee4; stroke-width: 1 }
  text { font: 12px system-ui, sans-serif; fill: #4a5560 } .title { font-weight: 600; fill: #1c2329 }
  path { fill: none; stroke-width: 2 } .mine path { stroke-width: 3 } .mine text { font-weight: 600 }
  .c0 { --c: #0b62c4 } .c1 { --c: #b3261e } .c2 { --c: #1a7f37 } .c3 { --c: #6e7781 }
  .line path { stroke: var(--c) } .line circle, .line text { fill: var(--c) }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #14181d } .grid { stroke: #333b44 } text { fill: #a9b4bf } .title { fill: #eef2f6 }
    .c0 { --c: #6cb2ff } .c1 { --c: #ff8f85 } .c2 { --c: #56d277 } .c3 { --c: #9aa5b0 }
  }
"""
_COLOURS = {"Runcast": "c0", "sse-starlette": "c1", "Starlette": "c1", "Nchan": "c2", "C floor": "c3"}


def drawn(broadcast: Mapping[str, Mapping[str, Any]]) -> str:
    """`broadcast`: by transport and server, its `levels` with `viewers` and `cpu_us`."""
    levels = [level for servers in broadcast.values() for each in servers.values() for level in each["levels"]]
    ends = [level["viewers"] for level in levels]
    scale = _Scale(min(ends), max(ends), _round_up(max(level["cpu_us"] for level in levels)))
    words = "CPU time of the server for each delivery, by the number of viewers of one run"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="16" y="24">{words}, µs</text>',
    ]
    for kind, servers in broadcast.items():
        parts += _panel(kind, servers, scale)
    return "\n".join([*parts, "</svg>", ""])


class _Scale:
    """Viewers by their logarithm, microseconds as they are."""

    def __init__(self, least: int, most: int, highest: float) -> None:
        self.least, self.most, self.highest = least, most, highest

    def x(self, kind: str, viewers: float) -> float:
        left, width = PANELS[kind]
        return left + width * math.log(viewers / self.least) / max(math.log(self.most / self.least), 1e-9)

    def y(self, cpu_us: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * cpu_us / self.highest


def _panel(kind: str, servers: Mapping[str, Any], scale: _Scale) -> list[str]:
    left, width = PANELS[kind]
    parts = [f'<text class="title" x="{left}" y="{TOP - 14}">{TITLES[kind]}</text>']
    for step in range(5):
        value = scale.highest * step / 4
        y = scale.y(value)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}h{width}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    viewers = [level["viewers"] for level in next(iter(servers.values()))["levels"]]
    parts += [
        f'<text x="{scale.x(kind, each):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{each:,}</text>'
        for each in viewers
    ]
    parts.append(f'<text x="{left + width / 2}" y="{HEIGHT - 12}" text-anchor="middle">viewers</text>')
    places = _apart([scale.y(each["levels"][-1]["cpu_us"]) for each in servers.values()])
    for (name, each), label_y in zip(servers.items(), places, strict=True):
        points = [(scale.x(kind, level["viewers"]), scale.y(level["cpu_us"])) for level in each["levels"]]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        mine = " mine" if name == "Runcast" else ""
        parts += [
            f'<g class="line {_COLOURS[name]}{mine}"><path d="M{drawn.replace(" ", "L")}"/>',
            *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points),
            f'<text x="{points[-1][0] + 10:.1f}" y="{label_y + 4:.1f}">{escape(name)}</text></g>',
        ]
    return parts


def _apart(wanted: Sequence[float]) -> list[float]:
    """Places near the wanted ones that no two labels share; the lowest of them stays where it is."""
    places = list(wanted)
    upwards = sorted(range(len(places)), key=lambda index: -wanted[index])
    for below, index in pairwise(upwards):
        places[index] = min(places[index], places[below] - LINE)
    return places


def _round_up(value: float) -> float:
    """To a number that four steps divide well."""
    unit = 10 ** math.floor(math.log10(value))
    return next(unit * each for each in (1, 1.2, 1.6, 2, 4, 6, 8, 10) if unit * each >= value)
