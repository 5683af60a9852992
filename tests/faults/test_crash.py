"""kill -9 under load: what a client has seen is still there, and nothing comes twice."""

from tests.e2e.process import GatewayProcess
from tests.faults.check import seed_of
from tests.faults.crash import PIPELINES, SETTINGS, crash_loop

KILLS = 5


async def test_nothing_is_lost_repeated_or_reordered_when_the_gateway_is_killed(tmp_path):
    seed = seed_of(51)
    with GatewayProcess(tmp_path, **SETTINGS) as gateway:
        found = await crash_loop(gateway, seed=seed, kills=KILLS)
        assert gateway.stop() == 0
    print(found)
    assert found.tally.wrong == []
    assert found.tally.gaps == 0
    assert found.wrong == []
    assert (found.kills, found.orphaned) == (KILLS, KILLS * PIPELINES)
    assert not gateway.faults(), gateway.output
