"""One gateway and all that was asked of it, drawn from one seed.

Law: every call is answered, and a refusal is one that can be meant: each code that a call may be refused with stands
here, and nobody is told that a run is not there unless somebody asked for its erasure.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from gateway.broker import Broker, Page, Run
from gateway.errors import Problem
from gateway.hub import Pasts
from gateway.wire.status import Status
from tests.hub.doubles import LIMITS as HUB_LIMITS
from tests.hub.doubles import hub_on
from tests.model import pipelines
from tests.runs.doubles import ALICE, LIMITS, service

T = TypeVar("T")
PATIENCE_S = 30  # more than all that happens in a world takes
KEPT_EVENTS = 20
REFUSALS = {
    "start": {"limit.runs"},
    "retry": {"limit.runs", "run.active"},
    "publish": {"run.finished"},
    "finish": {"run.finished", "run.not_external"},
    "pause": {"run.finished"},
    "resume": {"run.finished"},
    "answer": {"run.finished", "input.closed"},
    "erase": {"run.active"},
    "outcome": {"run.failed", "run.cancelled"},
}


class Unanswered(Exception):
    """Somebody was refused (`code`), or did not wait for the answer (no code)."""

    def __init__(self, code: str = "") -> None:
        super().__init__(code)
        self.code = code


class Conditions(NamedTuple):
    """What is drawn for a world as a whole.

    `early`: runs are spoken to as soon as they can be found, before their start was answered. `erase`: finished runs
    are erased. `trim`: of a run only the newest events are kept. `late`: a log in memory is durable only after a while.
    """

    early: bool
    erase: bool
    trim: bool
    late: bool

    @classmethod
    def of(cls, seed: int) -> "Conditions":
        """Sixteen seeds in a row have every combination once."""
        return cls(*(bool(seed >> bit & 1) for bit in range(4)))

    def __str__(self) -> str:
        return " ".join(name for name, holds in self._asdict().items() if holds) or "plain"


class Batch(NamedTuple):
    """Numbered events that one publisher said together, and the cursor it was answered."""

    publisher: str
    numbers: list[int]
    cursor: str


@dataclass
class Told:
    """What callers asked of one run and what they were told, to be held against its log.

    `said`: the numbers of events that were ever sent. `refused`: those that were answered by a refusal for good.
    `ends`: cursors that answered a `finish`. `finals`: what a cancel was told it came too late for.
    """

    said: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    published: list[Batch] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    cancelling: bool = False
    finals: set[Status] = field(default_factory=set)
    answered: list[str] = field(default_factory=list)
    erasing: bool = False
    erased: bool = False


class World:
    """`started`: runs whose start was answered, in that order. `keys`: who was answered what for a key."""

    def __init__(self, seed: int, broker: Broker, rng: random.Random) -> None:
        self.seed = seed
        self.rng = rng
        self.conditions = Conditions.of(seed)
        self.broker = broker
        self.faults: list[str] = []
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.calls = 0
        self.heard = 0
        self.gaps = 0
        self.started: list[str] = []
        self.keys: defaultdict[str, list[tuple[str, bool]]] = defaultdict(list)
        self.told: defaultdict[str, Told] = defaultdict(Told)
        self.closing = asyncio.Event()
        self._numbers = 0
        pasts = Pasts.fitting(HUB_LIMITS.max_buffer_bytes)
        limits = LIMITS._replace(cancel_grace_s=0.25, max_runs_per_subject=rng.choice((8, 100)))
        if self.conditions.trim:
            limits = limits._replace(max_events_per_run=KEPT_EVENTS)
        self.runs = service(broker, limits=limits, pasts=pasts, **pipelines.ALL)
        self.hub = hub_on(broker, limits=HUB_LIMITS, pasts=pasts, watching=self.runs.watching)

    def __str__(self) -> str:
        return f"seed {self.seed} ({self.conditions})"

    def figures(self) -> Counter[str]:
        """What happened in it, to be added up."""
        acknowledged = sum(len(batch.numbers) for told in self.told.values() for batch in told.published)
        return Counter(
            {
                "calls": self.calls,
                "refusals": self.refusals.total(),
                "runs": len(self.told),
                "events acknowledged": acknowledged,
                "events seen": self.heard,
                "gaps told": self.gaps,
            }
        )

    def fault(self, what: str) -> None:
        self.faults.append(what[:500])

    def fresh(self, count: int) -> list[int]:
        """Numbers that no event of this world had before."""
        first, self._numbers = self._numbers + 1, self._numbers + count
        return list(range(first, self._numbers + 1))

    async def nap(self, most_s: float = 0.02) -> None:
        """Let others have their turn, or some time."""
        drawn = self.rng.random()
        if drawn < 0.4:
            await asyncio.sleep(0)
        elif drawn < 0.8:
            await asyncio.sleep(self.rng.random() * most_s)

    async def call(self, name: str, work: Awaitable[T], *, run: str = "", stays: float = 1) -> T:
        """What a caller is answered, who stays for it with this probability. Raises Unanswered."""
        self.calls += 1
        leaves = self.rng.random() >= stays
        patience = asyncio.timeout(self.rng.random() * 0.01 if leaves else PATIENCE_S)
        try:
            async with patience:
                return await work
        except Problem as refusal:
            self._refused(name, run, refusal.code)
            raise Unanswered(refusal.code) from None
        except TimeoutError:
            if not (leaves and patience.expired()):
                self.fault(f"{name} of {run}: no answer")
            raise Unanswered from None
        except Exception as error:
            self.fault(f"{name} of {run}: {error!r}")
            raise Unanswered from None

    def _refused(self, name: str, run: str, code: str) -> None:
        self.refusals[name, code] += 1
        meant = self.told[run].erasing if code == "run.not_found" else code in REFUSALS.get(name, ())
        if not meant:
            self.fault(f"{name} of {run}: refused with {code}")

    async def find(self, run: str) -> Run:
        return await self.call("find", self.runs.views.find(ALICE, run), run=run)

    async def some_run(self, pipeline: str | None = None) -> Run:
        """The record of some run, rather of this pipeline and under way. Raises Unanswered when there is none."""
        for _ in range(4):
            run = await self._found()
            if pipeline in (None, run.pipeline) and (not run.status.terminal or self.rng.random() < 0.3):
                break
        return run

    async def _found(self) -> Run:
        if self.conditions.early and self.rng.random() < 0.5:
            visible = await self.call("list", self.broker.page(Page(ALICE.visible, limit=3)))
            if visible:
                return self.rng.choice(visible)
        if not self.started:
            raise Unanswered
        return await self.find(self.rng.choice(self.started[-5:]))
