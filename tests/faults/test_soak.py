"""Runs and connections that come and go leave nothing behind. The long form is a round of stress."""

import pytest

from tests.e2e.clients import served
from tests.faults.check import seed_of
from tests.faults.soak import SETTINGS, WAYS, Look, Soak, soaked

LOOK = Look(rss_bytes=80_000_000, files=20, tasks=13, log_bytes=1, held_ms=1, computed_ms=1, left={})


async def test_nothing_grows_while_runs_and_connections_come_and_go(tmp_path):
    seed = seed_of(600)
    with served(tmp_path, **SETTINGS) as gateway:
        found = await soaked(gateway, seed=seed, seconds=10, looks=6, churners=6)
    print(found)
    assert found.grown(memory=0.1) == []
    assert len(found.looks) == 6
    assert all(found.did[each] for each in (*WAYS, "runs", "retried", "erased", "cancel 202"))


@pytest.mark.parametrize(
    "grown", [{"rss_bytes": 100_000_000}, {"files": 21}, {"tasks": 14}, {"left": {"subscriptions": 1}}]
)
def test_whatever_grows_is_told(grown):
    assert Soak(looks=[LOOK] * 6).grown(memory=0.1) == []
    assert len(Soak(looks=[LOOK] * 4 + [LOOK._replace(**grown)] * 2).grown(memory=0.1)) > 0
