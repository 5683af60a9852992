"""The contract of the brokers: an Idempotency-Key makes one run of many requests."""

import pytest

from gateway.broker import Key
from gateway.errors import Conflict
from tests.broker.doubles import COMPLETED, new_run, outcomes, queued

DAY_S = 24 * 3600


async def make(broker, owner="alice", *, key=b"d", text="k"):
    return await broker.create(new_run(owner), [queued()], key=Key(text, key))


async def test_the_same_key_and_digest_give_the_same_run(broker):
    first, created = await make(broker)
    again, created_again = await make(broker)
    assert (created, created_again) == (True, False)
    assert again.id == first.id
    await broker.append(first.id, [COMPLETED])
    ended, created = await make(broker)
    assert (ended.id, ended.status, created) == (first.id, "completed", False)


async def test_the_same_key_with_another_digest_is_a_conflict_and_makes_nothing(broker):
    await make(broker)
    with pytest.raises(Conflict) as caught:
        await make(broker, key=b"other")
    assert caught.value.code == "key.conflict"
    assert len(await broker.unfinished()) == 1


async def test_keys_belong_to_their_owner(broker):
    first, _ = await make(broker, "alice")
    second, created = await make(broker, "bob", key=b"other")
    assert created
    assert first.id != second.id


async def test_a_key_is_good_for_a_day(broker, clock):
    first, _ = await make(broker)
    clock.now += DAY_S - 1
    assert (await make(broker))[0].id == first.id
    clock.now += 2
    second, created = await make(broker, key=b"other")
    assert created
    assert second.id != first.id
    assert (await make(broker, key=b"other"))[0].id == second.id


async def test_many_at_once_with_one_key_make_one_run(broker):
    given = await outcomes(*(make(broker) for _ in range(20)))
    assert len({record.id for record, _ in given}) == 1
    assert [created for _, created in given].count(True) == 1
    assert len(await broker.unfinished()) == 1


async def test_many_at_once_with_one_key_and_two_digests_make_one_run_and_conflicts(broker):
    given = await outcomes(*(make(broker, key=bytes([n % 2])) for n in range(10)))
    made = {outcome[0].id for outcome in given if not isinstance(outcome, Exception)}
    refusals = [outcome.code for outcome in given if isinstance(outcome, Exception)]
    assert (len(made), refusals) == (1, ["key.conflict"] * 5)


async def test_a_key_goes_with_its_run(broker):
    first, _ = await make(broker)
    await broker.append(first.id, [COMPLETED])
    await broker.erase(first.id)
    second, created = await make(broker, key=b"other")
    assert created
    assert second.id != first.id


async def test_without_a_key_every_request_makes_a_run(broker):
    ids = {(await broker.create(new_run(), [queued()]))[0].id for _ in range(3)}
    assert len(ids) == 3
