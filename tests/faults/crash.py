"""A gateway that is killed again and again under load, while clients follow and publishers publish."""

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field

import httpx

from tests.e2e.clients import caller, started
from tests.e2e.process import GatewayProcess, bearer
from tests.faults.check import Tally, log_of, tally
from tests.faults.follower import Follower

SETTINGS = {
    "pipelines": "tests.faults.pipelines", "heartbeat_s": 0.5, "retry_ms": 50, "max_runs_per_subject": 1000,
}  # fmt: skip
EXTERNALS = 4
PIPELINES = 4
BATCH = 20


@dataclass
class Crashes:
    kills: int = 0
    orphaned: int = 0
    published: int = 0
    retried: int = 0
    took_s: float = 0
    tally: Tally = field(default_factory=Tally)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills in {self.took_s:.1f} s: {self.orphaned} runs orphaned once each,"
            f" {self.published} events published ({self.retried} requests retried); {self.tally};"
            f" {len(self.wrong)} other faults"
        )


class Publisher:
    """Publishes into an external run until told to stop, each request again and again until it is answered."""

    def __init__(self, gateway: GatewayProcess, run: str, rng: random.Random, found: Crashes) -> None:
        self.run = run
        self.sent: list[str] = []
        self.stop = asyncio.Event()
        self._gateway = gateway
        self._rng = rng
        self._found = found
        self._seq = 0

    async def publish(self) -> None:
        async with httpx.AsyncClient(base_url=self._gateway.url, headers=bearer(), timeout=5) as client:
            while not self.stop.is_set():
                texts = [f"{self._seq}.{n} " for n in range(self._rng.randint(1, BATCH))]
                events = [{"type": "delta", "block": "body", "delta": text} for text in texts]
                await self._until_answered(client, "events", {"events": events})
                self.sent += texts
                self._found.published += len(texts)
                await asyncio.sleep(self._rng.uniform(0, 0.01))
            await self._until_answered(client, "finish", {"status": "completed", "result": self._seq})

    async def _until_answered(self, client: httpx.AsyncClient, what: str, body: dict) -> None:
        self._seq += 1
        headers = {"Producer": f"{self.run}; epoch=1; seq={self._seq}"}
        while True:
            try:
                answer = await client.post(f"/runs/{self.run}/{what}", json=body, headers=headers)
            except httpx.TransportError:
                self._found.retried += 1
                await asyncio.sleep(0.02)
                continue
            if answer.status_code not in (200, 202):
                self._found.wrong.append(f"{what} {headers['Producer']}: {answer.status_code} {answer.text}")
                self.stop.set()
            return


async def crash_loop(gateway: GatewayProcess, *, seed: int, kills: int) -> Crashes:
    """Kill it so many times. The external runs live through all of it, the pipelines' runs only from kill to kill."""
    rng = random.Random(seed)
    found = Crashes()
    began = time.monotonic()
    async with caller(gateway) as client:
        externals = [await started(client, "external") for _ in range(EXTERNALS)]
        publishers = [Publisher(gateway, run, rng, found) for run in externals]
        followers = [_follower(gateway, run, rng) for run in externals]
        async with asyncio.timeout(60 + 10 * kills), asyncio.TaskGroup() as group:
            for each in publishers:
                group.create_task(each.publish())
            for each in followers:
                group.create_task(each.follow())
            while found.kills < kills:
                await _one_life(gateway, client, rng, found)
            for each in publishers:
                each.stop.set()
        await tally(client, followers, found.tally)
        for each in publishers:
            body = (await client.get(f"/runs/{each.run}")).json()["blocks"]["body"]
            if body != "".join(each.sent):
                found.wrong.append(f"{each.run}: what was published is not what is told")
    found.took_s = time.monotonic() - began
    return found


async def _one_life(gateway: GatewayProcess, client: httpx.AsyncClient, rng: random.Random, found: Crashes) -> None:
    """Runs and their followers, a kill at some moment, the same followers against the next process."""
    runs = [
        await started(client, "flood", seed=rng.randrange(1 << 30), steps=30_000, burst=rng.randint(1, 20), gap_s=0.005)
        for _ in range(PIPELINES)
    ]
    followers = [_follower(gateway, run, rng) for run in runs for _ in range(2)]
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for each in followers:
            group.create_task(each.follow())
        # Not before each of them has seen something, and then at any moment.
        while not all(follower.events for follower in followers):
            await asyncio.sleep(0.005)
        await asyncio.sleep(rng.uniform(0, 0.3))
        await asyncio.to_thread(gateway.stop, signal.SIGKILL)
        found.kills += 1
        await asyncio.to_thread(gateway.start)
    await tally(client, followers, found.tally)
    for run in runs:
        ends = [event for event in await log_of(client, run) if event["type"] == "run.failed"]
        if [end["error"]["code"] for end in ends] == ["run.orphaned"] and ends[0]["error"]["retryable"]:
            found.orphaned += 1
        else:
            found.wrong.append(f"{run}: ended by {ends}")


def _follower(gateway: GatewayProcess, run: str, rng: random.Random) -> Follower:
    return Follower(gateway.port, run, random.Random(rng.random()), replay=rng.choice(("full", "folded")))
