"""Whoever keeps something of a run beside the log hears that it was erased."""

import asyncio

import pytest

from gateway.app import Gateway
from gateway.broker import MemoryBroker
from gateway.errors import Conflict, Unavailable
from gateway.hub import Pasts
from gateway.runs import Policy
from gateway.settings import Settings
from pipeline import Registry
from tests.broker.doubles import Clock, begun, finished
from tests.e2e.process import SECRET
from tests.hub.doubles import Recorder, connect, join
from tests.runs.doubles import LOTS

pytestmark = pytest.mark.looptime


class Told(Pasts):
    """Remembers what it was told to forget."""

    def __init__(self) -> None:
        super().__init__()
        self.forgotten: list[str] = []

    def forget(self, run: str) -> None:
        self.forgotten.append(run)
        super().forget(run)


@pytest.mark.parametrize("policy", [Policy(max_age_s=0, max_bytes=LOTS), Policy(LOTS, 1)], ids=["age", "bytes"])
async def test_every_run_that_retention_erases_is_told(made, policy):
    told = Told()
    broker = MemoryBroker(now=Clock())
    runs = made(broker, retention=policy, pasts=told)
    old = [await finished(broker) for _ in range(3)]
    await begun(broker)
    await runs._retention.sweep()
    assert told.forgotten == old


async def test_a_read_that_fails_is_not_the_end_of_forgetting(made):
    class Unread(MemoryBroker):
        failing = True

        async def total_bytes(self) -> int:
            if self.failing:
                raise Unavailable("broker.unavailable")
            return await super().total_bytes()

    broker = Unread(now=Clock())
    await made(broker, retention=Policy(LOTS, 1)).recover()
    run = await finished(broker)
    await asyncio.sleep(5)
    broker.failing = False
    await asyncio.sleep(5)
    assert await broker.get(run) is None


async def test_a_run_that_is_erased_on_request_is_told_and_one_that_is_not_erased_is_not(made):
    told = Told()
    broker = MemoryBroker()
    runs = made(broker, pasts=told)
    done, active = await finished(broker), await begun(broker)
    await runs.erase(await broker.get(done))
    with pytest.raises(Conflict):
        await runs.erase(await broker.get(active))
    assert told.forgotten == [done]


async def test_the_hub_of_a_gateway_keeps_nothing_of_an_erased_run():
    gateway = Gateway(Settings(broker="memory:", jwt_secret=SECRET), Registry())
    run = await finished(gateway.broker)
    connection = connect(gateway.hub, Recorder())
    await join(gateway.hub, connection, run)
    await connection.transport.finished.wait()
    gateway.hub.forget(connection)
    assert run in gateway.hub._pasts
    await gateway.runs.erase(await gateway.broker.get(run))
    assert run not in gateway.hub._pasts
