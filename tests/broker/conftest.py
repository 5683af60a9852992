import pytest

from gateway.broker import MemoryBroker, SqliteBroker
from tests.broker.doubles import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def broker(request, tmp_path, clock):
    """Each implementation in turn, open."""
    made = MemoryBroker(now=clock) if request.param == "memory" else SqliteBroker(tmp_path / "log.db", now=clock)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def opened(tmp_path):
    """Opens brokers on files of this test; all are closed at its end."""
    brokers = []

    async def open_(name: str = "log.db", **more) -> SqliteBroker:
        brokers.append(SqliteBroker(tmp_path / name, **more))
        await brokers[-1].open()
        return brokers[-1]

    yield open_
    for broker in brokers:
        await broker.close()
