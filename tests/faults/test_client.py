"""The Python client, whatever breaks on the way: each event once, in order."""

from tests.e2e.clients import served
from tests.faults.check import seed_of
from tests.faults.clients import clients_storm
from tests.faults.proxy import KINDS
from tests.faults.storm import SETTINGS

FAULTS = 120


async def test_every_event_comes_once_and_in_order_through_faults_of_every_kind(tmp_path):
    seed = seed_of(4711)
    with served(tmp_path, **SETTINGS) as gateway:
        struck, wrong = await clients_storm(gateway, seed=seed, faults=FAULTS)
    print(struck)
    assert wrong == []
    assert set(struck) == set(KINDS)
