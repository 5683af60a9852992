"""The contract of the brokers: what was revoked stays revoked until it is told to be forgotten."""

import sqlite3
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker import MemoryBroker, Revocation, sqlite_batch, sqlite_queries
from tests.broker.doubles import begun, in_loop, unavailable


async def test_what_is_revoked_is_kept_once_with_its_latest_time(broker):
    assert await broker.revocations() == []
    for at in (5, 9, 7):
        await broker.revoke(Revocation("sub", "alice", at), forget_before=0)
    await broker.revoke(Revocation("jti", "alice", 6), forget_before=0)
    assert sorted(await broker.revocations()) == [("jti", "alice", 6), ("sub", "alice", 9)]


@pytest.mark.parametrize("name", ["", " ", "a'b--", "ä\u0000é", "💥" * 100, "x" * 8192])
async def test_any_name_is_kept_as_it_is(broker, name):
    await broker.revoke(Revocation("jti", name, 1), forget_before=0)
    assert await broker.revocations() == [("jti", name, 1)]


async def test_what_is_too_old_is_forgotten_with_the_next(broker):
    for at in (1, 2, 3):
        await broker.revoke(Revocation("jti", f"t{at}", at), forget_before=0)
    await broker.revoke(Revocation("jti", "t9", 9), forget_before=3)
    assert sorted(await broker.revocations()) == [("jti", "t3", 3), ("jti", "t9", 9)]


@given(
    st.lists(st.tuples(st.sampled_from(["jti", "sub"]), st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 9)))
)
def test_the_brokers_keep_the_same(tmp_path_factory, calls):
    async def case():
        memory = MemoryBroker()
        write = sqlite3.connect(":memory:", isolation_level=None)
        write.executescript(files("gateway.broker").joinpath("revocations.sql").read_text())
        for kind, name, at, before in calls:
            revocation = Revocation(kind, name, at)
            await memory.revoke(revocation, forget_before=before)
            sqlite_batch.revoke(write, revocation, before)
            assert sorted(await memory.revocations()) == sorted(sqlite_queries.revocations(write))
        write.close()

    in_loop(case())


async def test_it_is_there_after_a_restart_of_the_file(opened):
    first = await opened()
    await first.revoke(Revocation("sub", "alice", 5), forget_before=0)
    await first.close()
    again = await opened()
    assert await again.revocations() == [("sub", "alice", 5)]


async def test_a_file_of_an_earlier_version_gets_a_place_for_it_and_keeps_its_runs(opened, tmp_path):
    first = await opened()
    run = await begun(first)
    await first.close()
    with sqlite3.connect(tmp_path / "log.db") as old:
        old.executescript(
            "ALTER TABLE snapshots DROP COLUMN past; DROP TABLE revocations; DROP INDEX keys_by_run;"
            " PRAGMA user_version=2;"
        )
    old.close()
    again = await opened()
    assert [record.id for record in await again.unfinished()] == [run]
    await again.revoke(Revocation("sub", "alice", 5), forget_before=0)
    assert await again.revocations() == [("sub", "alice", 5)]


async def test_a_broker_that_is_closed_keeps_nothing(opened):
    broker = await opened()
    await broker.close()
    await unavailable(broker.revoke(Revocation("jti", "j", 1), forget_before=0))
    await unavailable(broker.revocations())
