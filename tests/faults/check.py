"""What was seen, held against the log that is read afterwards."""

import asyncio
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx

from tests.faults.follower import Folded, Follower


def seed_of(default: int) -> int:
    """The seed of a test: `FAULTS_SEED` repeats one, `FAULTS_SEED=random` looks for new cases."""
    chosen = os.environ.get("FAULTS_SEED", "")
    seed = random.SystemRandom().randrange(1 << 32) if chosen == "random" else int(chosen or default)
    print(f"FAULTS_SEED={seed}")
    return seed


@dataclass
class Tally:
    """What a round of faults came to. `wrong`: events lost, repeated, reordered or changed, in words."""

    followers: int = 0
    events: int = 0
    connects: int = 0
    gaps: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.followers} followers, {self.connects} connections, {self.events} events seen,"
            f" {self.gaps} gaps, {len(self.wrong)} lost, repeated or reordered"
        )

    def add(self, follower: Follower, log: list[dict], described: dict) -> None:
        self.followers += 1
        self.events += len(follower.events)
        self.connects += follower.connects
        self.gaps += len(follower.gaps)
        self.wrong += follower.wrong
        if follower.refused is not None:
            self.wrong.append(f"{follower.run}: refused: {follower.refused}")
        if follower.replay == "full" and follower.events != log:
            self.wrong.append(f"{follower.run}: {_first_difference(follower.events, log)}")
        offsets = [int(event["id"].partition("-")[2]) for event in follower.events]
        if offsets != sorted(set(offsets)) or not {e["id"] for e in follower.events} <= {e["id"] for e in log}:
            self.wrong.append(f"{follower.run}: offsets that do not rise, or are not in the log")
        if (told := {name: described[name] for name in follower.state.fields}) != follower.state.fields:
            self.wrong.append(f"{follower.run} {follower.replay}: final state {follower.state.fields} is not {told}")
        self.wrong += _law(follower, log)


def _first_difference(seen: list[dict], log: list[dict]) -> str:
    for place, (one, other) in enumerate(zip(seen, log, strict=False)):
        if one != other:
            return f"event {place}: saw {one}, the log has {other}"
    return f"saw {len(seen)} events, the log has {len(log)}"


def _law(follower: Follower, log: Iterable[dict]) -> list[str]:
    """Wherever the client stopped, it had the state that all events up to there give (PROTOCOL section 3)."""
    state = Folded()
    broken = []
    for event in log:
        state.apply(event)
        offset = int(event["id"].partition("-")[2])
        if offset in follower.marks and follower.marks[offset] != state.digest():
            broken.append(f"{follower.run} {follower.replay}: another state at {event['id']}")
    return broken


async def log_of(client: httpx.AsyncClient, run: str) -> list[dict]:
    """Every event that is held, by long-polls."""
    events: list[dict] = []
    cursor = ""
    while True:
        answer = await client.get(f"/runs/{run}/events", params={"replay": "full", "after": cursor})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        events += [event for event in told["events"] if "id" in event]
        if told["done"] or not told["events"]:
            return events
        cursor = told["cursor"]


async def tally(client: httpx.AsyncClient, followers: Iterable[Follower], into: Tally) -> None:
    """Hold all of them against the log."""
    logs: dict[str, tuple[list[dict], dict]] = {}
    for follower in followers:
        if follower.run not in logs:
            described = (await client.get(f"/runs/{follower.run}")).json()
            logs[follower.run] = await log_of(client, follower.run), described
        into.add(follower, *logs[follower.run])
        await asyncio.sleep(0)
