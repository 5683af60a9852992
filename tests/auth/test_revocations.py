"""Credentials taken back: by their name, or all of a subject's up to now."""

import pytest

from gateway.auth import Principal, Revocations
from gateway.broker import MemoryBroker
from gateway.errors import Unavailable
from tests.broker.doubles import Clock

LIFE_S = 1000


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def broker():
    return MemoryBroker()


@pytest.fixture
def revocations(broker, clock):
    return Revocations(broker, max_life_s=LIFE_S, now=clock)


def bearer(sub: str = "alice", **more) -> Principal:
    return Principal(subject=sub, scopes=frozenset(), expires_at=float("inf"), **more)


async def test_a_token_is_taken_back_by_its_name_whosever_it_is(revocations):
    await revocations.revoke(token_id="j")
    assert revocations.cover(bearer(token_id="j"))
    assert revocations.cover(bearer("bob", token_id="j", ticket=True))
    for other in (bearer(), bearer(token_id="k"), bearer("j"), bearer(token_id="J")):
        assert not revocations.cover(other)


async def test_a_subject_loses_what_was_issued_up_to_now(revocations, clock):
    await revocations.revoke(subject="alice")
    for issued_at in (None, 0, clock.now - 1, clock.now):
        assert revocations.cover(bearer(issued_at=issued_at))
        assert not revocations.cover(bearer("bob", issued_at=issued_at))
    assert not revocations.cover(bearer(issued_at=clock.now + 1))
    assert not revocations.cover(bearer("bob", token_id="alice"))
    clock.now += 5
    await revocations.revoke(subject="alice")
    assert revocations.cover(bearer(issued_at=clock.now - 4))


async def test_a_clock_that_was_put_back_gives_nothing_back(revocations, clock):
    await revocations.revoke(subject="alice")
    token = bearer(issued_at=clock.now)
    clock.now -= 100
    await revocations.revoke(subject="alice")
    assert revocations.cover(token)


async def test_the_next_gateway_on_the_same_log_knows_it(revocations, broker, clock):
    await revocations.revoke(token_id="j")
    await revocations.revoke(subject="bob")
    later = Revocations(broker, max_life_s=LIFE_S, now=clock)
    assert not later.cover(bearer(token_id="j"))
    await later.load()
    assert later.cover(bearer(token_id="j"))
    assert later.cover(bearer("bob"))


async def test_it_is_kept_for_as_long_as_a_token_may_live_and_then_forgotten(revocations, broker, clock):
    await revocations.revoke(token_id="j")
    clock.now += LIFE_S
    await revocations.revoke(token_id="k")
    assert revocations.cover(bearer(token_id="j"))
    assert len(await broker.revocations()) == 2
    clock.now += 61
    await revocations.revoke(token_id="l")
    assert not revocations.cover(bearer(token_id="j"))
    assert {each.name for each in await broker.revocations()} == {"k", "l"}


async def test_it_counts_also_when_it_cannot_be_kept(revocations, broker, monkeypatch):
    async def refuse(*_, **__):
        raise Unavailable("broker.unavailable")

    monkeypatch.setattr(broker, "revoke", refuse)
    with pytest.raises(Unavailable):
        await revocations.revoke(token_id="j")
    assert revocations.cover(bearer(token_id="j"))
