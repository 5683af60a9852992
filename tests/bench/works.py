"""What is measured: each work gives plain figures for the report.

Rule 1: the servers do the same work one after the other in the same round, on a processor that is theirs.
Rule 2: a figure says of itself when it is not whole: `delivered` beside `expected`, and `wrong`.
Rule 3: the probe in the gateway rests while deliveries are counted, as they would pay for it.
"""

import json
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from tests.bench.asking import asking
from tests.bench.servers import Floor, Nchan, Runcast, Server, Starlette, serving
from tests.bench.viewers import PATIENCE_S, Source, Viewers, delays, until

KINDS = ("sse", "websocket")
PEERS: tuple[type[Server], ...] = (Floor, Nchan, Starlette)
RATE = 20
TOKENS_A_S = 30

Figures = dict[str, Any]


@dataclass(frozen=True)
class Counts:
    """How much of everything. `levels`: viewers of one run, a growing crowd; `crowd`: the level of the table."""

    levels: Sequence[int] = (100, 300, 1000, 3000, 10_000)
    crowd: int = 1000
    measure_s: float = 2.5
    heartbeats_s: float = 31  # two of the gateway's own periods: 15 s, and the tick of its clock
    runs: int = 300
    tokens_s: float = 4
    commands: int = 200
    deltas: int = 5000
    joins: int = 30
    firsts: int = 9
    peers: bool = True


QUICK = Counts((20, 60), 60, 0.5, 0.5, 10, 1, 20, 500, 3, 2, peers=False)


@dataclass
class Round:
    """One round of all works. `held`: what the probe saw in each; `left_out`: who is missing, and why."""

    folder: Path
    counts: Counts
    say: Callable[[str], None]
    left_out: dict[str, str] = field(default_factory=dict)
    held: dict[str, Figures] = field(default_factory=dict)

    def run(self) -> Figures:
        broadcast: dict[str, dict[str, Figures]] = {kind: {} for kind in KINDS}
        for kind in KINDS:
            for server in self._servers(kind):
                try:
                    broadcast[kind][server.names[kind]] = self._broadcast(server, kind)
                except (OSError, RuntimeError) as error:
                    if isinstance(server, Runcast):
                        raise
                    self.left_out[f"{server.names[kind]}, {kind}"] = str(error)[:200]
        return {
            "broadcast": broadcast,
            "tokens": self._tokens(),
            "replies": self._replies(),
            "join": self._joins(),
            "held": self.held,
            "left_out": self.left_out,
        }

    def _servers(self, kind: str) -> Sequence[Server]:
        """Those that are here and speak this."""
        servers: list[type[Server]] = [Runcast]
        for each in PEERS:
            if not self.counts.peers or kind not in each.names:
                continue
            if why := each.missing():
                self.left_out[each.names[kind]] = why
            else:
                servers.append(each)
        return [each() for each in servers]

    def _broadcast(self, server: Server, kind: str) -> Figures:
        """One run and a crowd that grows; from level to level what a delivery costs, then what the last ones cost."""
        levels, idle = [], None
        with serving(server, self.folder):
            self.say(f"{server.names[kind]}, {kind}")
            viewers = Viewers(server.pid, server.port, lambda _: server.steps(kind))
            before = 0
            for level in self.counts.levels:
                last = isinstance(server, Runcast) and level == self.counts.levels[-1]
                if last:
                    server.look()
                joined, many = viewers.grow(level), level - before
                if last:
                    self.held[f"connecting {many} by {kind}"] = server.look(rest=True)
                before = level
                rate = min(RATE, RATE * self.counts.crowd / level)
                watched = viewers.watch(self.counts.measure_s, Source(server.port, server.post, rate))
                levels.append(watched.figures)
            if isinstance(server, Runcast):
                idle = viewers.idle(self.counts.heartbeats_s).cpu_s / self.counts.heartbeats_s
                server.look()
                viewers.watch(self.counts.measure_s, Source(server.port, server.post, rate))
                self.held[f"broadcast to {before} by {kind}"] = server.look()
            viewers.close()
        return {
            "levels": levels,
            "connect_us": round(joined.cpu_s * 1e6 / many, 1),
            "kib_each": round(joined.rss_bytes / 1024 / many, 1),
            **({} if idle is None else {"heartbeats_percent": round(idle * 100, 2)}),
        }

    def _tokens(self) -> Figures:
        """Many runs that say a token at a time, with one viewer each, and before that with none."""
        runs, seconds = self.counts.runs, self.counts.tokens_s
        server = Runcast()
        with serving(server, self.folder):
            self.say(f"Runcast, {runs} runs")
            started = [server.started("tokens", rate=TOKENS_A_S) for _ in range(runs)]
            crowd = Viewers(server.pid, server.port, lambda number: server.steps("sse", started[number]))
            crowd.idle(1)
            said = _events(server)
            alone = crowd.idle(seconds)
            said = _events(server) - said
            crowd.grow(runs)
            found = {"Runcast": crowd.watch(seconds).figures}
            server.look()
            crowd.idle(seconds / 2)
            self.held[f"{runs} runs of {TOKENS_A_S} events a second"] = server.look()
            crowd.close()
        peer = Starlette()
        if self.counts.peers and not peer.missing():
            with serving(peer, self.folder):
                self.say(f"sse-starlette, {runs} streams")
                crowd = Viewers(peer.pid, peer.port, lambda _: peer.tokens(TOKENS_A_S))
                crowd.grow(runs)
                crowd.idle(0.5)
                found["sse-starlette"] = crowd.watch(seconds).figures
                crowd.close()
        return {"servers": found, "unwatched": {"events": said, "cpu_us": round(alone.cpu_s * 1e6 / max(1, said), 2)}}

    def _replies(self) -> Figures:
        """How long a reply takes while the crowd is served."""
        server, many = Runcast(), self.counts.commands
        with serving(server, self.folder):
            self.say("Runcast, commands beside the crowd")
            commands: list[dict[str, str]] = []
            for _ in range(many):
                commands += [{"type": "ping"}, {"type": "cancel", "run": server.started("waiting")}]
            crowd = Viewers(server.pid, server.port, lambda _: server.steps("websocket"))
            crowd.grow(self.counts.crowd)
            server.look()
            source = Source(server.port, server.post, RATE)
            with asking(server, commands) as asker:
                watched = crowd.watch(1, source, until=lambda: asker.poll() is not None).figures
                assert asker.stdout is not None
                took_ns = json.load(asker.stdout)
            self.held[f"commands beside {self.counts.crowd} viewers"] = server.look()
            crowd.close()
        return {"ping": delays(took_ns[::2]), "cancel": delays(took_ns[1::2]), "each": many, "broadcast": watched}

    def _joins(self) -> Figures:
        """Finished runs of many deltas, joined folded beside empty ones: by the first, again, and after a restart."""
        server, deltas = Runcast(), self.counts.deltas
        with serving(server, self.folder):
            self.say("Runcast, joins")
            pairs = [
                [server.started("deltas", count=count) for count in (deltas, 0)] for _ in range(self.counts.firsts)
            ]
            for run in chain(*pairs):
                _joined(server, run, replay="none")  # waits for the run's end and asks for nothing of its past
            server.look()
            firsts = _in_turn(server, pairs)
            again = _in_turn(server, pairs[:1] * self.counts.joins)
            self.held[f"joins of {deltas} deltas"] = server.look()
            server.restart()
            server.look()
            later = _in_turn(server, pairs)
            self.held[f"joins of {deltas} deltas after a restart"] = server.look()
        frames, empty_frames = ([heard.count(b"\ndata: ") for _, heard in joins] for joins in zip(*firsts, strict=True))
        return {
            "deltas": deltas,
            "frames": max(frames),
            "empty_frames": max(empty_frames),
            **dict(zip(("first_ms", "first_empty_ms"), _medians_ms(firsts), strict=True)),
            **dict(zip(("ms", "empty_ms"), _medians_ms(again), strict=True)),
            **dict(zip(("later_ms", "later_empty_ms"), _medians_ms(later), strict=True)),
        }


def _events(server: Runcast) -> int:
    """How many events the gateway has made durable."""
    lines = server.client.get("/metrics").text.splitlines()
    return round(float(next(line for line in lines if line.startswith("runcast_events_in_total")).split()[1]))


Joined = tuple[float, bytes]


def _in_turn(server: Runcast, pairs: Sequence[Sequence[str]]) -> list[list[Joined]]:
    """A full run and an empty one after the other, so that whatever else the machine does meets both."""
    return [[_joined(server, run, replay="folded") for run in pair] for pair in pairs]


def _medians_ms(pairs: Sequence[Sequence[Joined]]) -> list[float]:
    return [round(statistics.median(seconds for seconds, _ in joins) * 1000, 2) for joins in zip(*pairs, strict=True)]


def _joined(server: Runcast, run: str, *, replay: str) -> Joined:
    """One join from the connection to the terminal event: the seconds it took, and what came."""
    (step,) = server.steps("sse", run, replay=replay)
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connected:
        connected.sendall(step.says)
        heard = until(connected, b'"run.completed"')
    return time.perf_counter() - began, heard
