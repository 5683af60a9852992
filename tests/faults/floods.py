"""Floods at the gateway's doors while a well-behaved client's run is streamed: it gets all of it, and hardly later."""

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass, field

from tests.e2e.clients import by_sse, caller, own, started
from tests.e2e.process import ROOT, GatewayProcess
from tests.faults import crowd
from tests.faults.attackers import Attack

GAP_S = 0.02
PLACES = 50
SETTINGS = {
    "pipelines": "tests.faults.pipelines",
    "log_level": "warning",
    "trusted_proxies": "127.0.0.1",
    "max_connections_per_subject": PLACES,
    "rate_limit": "200/s",
    "command_rate": "50/s",
    "request_timeout_s": 2,
}


@dataclass
class Flooded:
    """`p99_*` in seconds; what became of each kind of attacker; `wrong`: what must not be, in words."""

    p99_alone: float = 0
    p99_flooded: float = 0
    ticks: int = 0
    grown_bytes: int = 0
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return self.p99_flooded / self.p99_alone

    def __str__(self) -> str:
        told = "; ".join(f"{kind}: {each}" for kind, each in self.outcomes.items())
        return (
            f"delay p99 {self.p99_alone * 1000:.1f} ms alone, {self.p99_flooded * 1000:.1f} ms flooded"
            f" (ratio {self.ratio:.1f}) over {self.ticks} ticks; memory +{self.grown_bytes / 1e6:.0f} MB; {told}"
        )


async def flooded(gateway: GatewayProcess, attack: Attack, *, measure_s: float) -> Flooded:
    """Measure two readers of a run without and with the attack, and check what everybody got."""
    found = Flooded()
    async with caller(gateway) as client:
        run = await started(client, "ticking", ticks=1_000_000, gap_s=GAP_S)
        whole = asyncio.ensure_future(_whole(gateway, run))
        reading = await crowd.readers(gateway, run, 2)
        found.p99_alone = await crowd.measured(reading, measure_s)
        before = crowd.rss_bytes(gateway)
        crowd.measure(reading)
        try:
            found.outcomes = await _attacked(gateway, attack._replace(run=run))
        finally:
            found.p99_flooded = crowd.p99(reading)
            found.ticks = sum(len(reader.delays) for reader in reading)
        found.grown_bytes = max(0, crowd.rss_bytes(gateway) - before)
        await client.post(f"/runs/{run}/cancel")
        events = await whole
        found.wrong += [f"a reader was cut off: {reader.ended}" for reader in reading if not _ended_well(reader)]
        for reader in reading:
            reader.transport.abort()
        offsets = [int(event["id"].partition("-")[2]) for event in events]
        if offsets != list(range(1, len(offsets) + 1)) or events[-1]["type"] != "run.cancelled":
            found.wrong.append("the well-behaved client did not get its run whole")
        if (await client.get(f"/runs/{run}/events?limit=1")).status_code != 200:
            found.wrong.append("the gateway does not answer any more")
    found.wrong += _wrong(found.outcomes, attack)
    return found


def _ended_well(reader: crowd.Reader) -> bool:
    return not reader.ended.done() or reader.ended.result() is None


def _wrong(outcomes: dict[str, dict[str, int]], attack: Attack) -> list[str]:
    """What the attackers got that they should not have."""
    asked, junk, drips = outcomes["connections"], outcomes["junk"], outcomes["drips"]
    wrong = []
    if sum(asked.values()) != attack.connections or not asked.keys() <= {"open", "reconnect", "4103", "429"}:
        wrong.append(f"connections were answered {asked}")
    if asked.get("open", 0) > PLACES:
        wrong.append(f"{asked['open']} connections of one subject are open")
    if junk.get("frames") != attack.frames or not junk.keys() <= {"4000", "cut", "frames"}:
        wrong.append(f"junk was answered {junk}")
    if drips != {"cut": attack.drips}:
        wrong.append(f"of {attack.drips} drips {drips} ended")
    return wrong


async def _whole(gateway: GatewayProcess, run: str) -> list[dict]:
    async with caller(gateway) as client:
        return own(await by_sse(client, run, patience_s=600, replay="full"))


async def _attacked(gateway: GatewayProcess, attack: Attack) -> dict[str, dict[str, int]]:
    """In a process of their own: what it costs them is not to be measured."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.attackers", str(gateway.port), json.dumps(attack._asdict()),
        stdout=asyncio.subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        told, _ = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0
    outcomes: dict[str, dict[str, int]] = json.loads(told)
    return outcomes
