import pytest

from gateway.broker import MemoryBroker, SqliteBroker, sqlite_journal
from tests.broker.doubles import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "sqlite", "sqlite that moves all the time"])
async def broker(request, tmp_path, clock, monkeypatch):
    """Each implementation in turn, open."""
    if "moves" in request.param:
        monkeypatch.setattr(sqlite_journal, "MOVE_EVENTS", 3)
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
