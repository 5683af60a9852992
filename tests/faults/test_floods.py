"""Floods of connections, junk and drips: refused, bounded, nobody else's loss. The long form is a round of stress."""

from tests.e2e.clients import served
from tests.faults.attackers import Attack
from tests.faults.floods import SETTINGS, flooded


async def test_whoever_behaves_gets_everything_while_the_doors_are_flooded(tmp_path):
    with served(tmp_path, **SETTINGS) as gateway:
        found = await flooded(gateway, Attack("", connections=300, frames=5000, drips=100, seed=17), measure_s=1)
    print(found)
    assert not found.wrong
    assert found.outcomes["connections"]["reconnect"] > 0
    assert found.outcomes["connections"]["4103"] > 0
    assert found.ticks > 50
