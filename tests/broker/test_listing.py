"""The contract of the brokers: listing runs to those who may see them."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker import Page, Visible
from gateway.wire.status import Status
from tests.broker.doubles import COMPLETED, EVERYTHING, begun, finished, new_run, queued
from tests.wire.doubles import BOUNDED


@pytest.fixture
async def runs(broker):
    """Six runs, oldest first: owners alternate, carol makes two for bob, each third has ended."""
    made = []
    for number in range(6):
        owner = ("alice", "bob")[number % 2]
        asked = new_run(owner, pipeline=f"p{number % 3}", creator="carol" if number in (3, 5) else owner)
        record, _ = await broker.create(asked, [queued()])
        if number % 3 == 0:
            await broker.append(record.id, [COMPLETED])
        made.append(record.id)
    assert made == sorted(made)
    return made


async def listed(broker, visible=EVERYTHING, **more) -> list[str]:
    return [run.id for run in await broker.page(Page(visible, **more))]


async def test_a_page_is_newest_first_and_has_at_most_its_limit(broker, runs):
    assert await listed(broker) == runs[::-1]
    assert await listed(broker, limit=2) == runs[:3:-1]


async def test_pages_follow_each_other_without_overlap(broker, runs):
    found, before = [], None
    while page := await listed(broker, before=before, limit=4):
        found += page
        before = page[-1]
    assert found == runs[::-1]


async def test_a_page_is_filtered_by_status_and_pipeline(broker, runs):
    assert await listed(broker, status=Status.COMPLETED) == [runs[3], runs[0]]
    assert await listed(broker, status=Status.QUEUED) == [runs[5], runs[4], runs[2], runs[1]]
    assert await listed(broker, status=Status.FAILED) == []
    assert await listed(broker, pipeline="p1") == [runs[4], runs[1]]
    assert await listed(broker, status=Status.COMPLETED, pipeline="p0", limit=1) == [runs[3]]
    assert await listed(broker, status=Status.COMPLETED, before=runs[3]) == [runs[0]]


async def test_a_caller_sees_its_own_runs_those_it_made_for_others_and_those_it_is_named_for(broker, runs):
    def sees(subject, *named, only=None):
        return Visible(everything=False, subject=subject, runs=frozenset(named), only=only)

    assert await listed(broker, sees("alice")) == [runs[4], runs[2], runs[0]]
    assert await listed(broker, sees("carol")) == [runs[5], runs[3]]
    assert await listed(broker, sees("carol", runs[0])) == [runs[5], runs[3], runs[0]]
    assert await listed(broker, sees("nobody")) == []
    assert await listed(broker, sees("nobody", "no-such-run")) == []
    assert await listed(broker, sees("alice", only=frozenset(runs[:2]))) == [runs[0]]
    assert await listed(broker, sees("alice", only=frozenset())) == []
    everyone = Visible(everything=True, subject="", only=frozenset({runs[1]}))
    assert await listed(broker, everyone) == [runs[1]]


async def test_a_page_and_a_look_agree_on_each_run(broker, runs):
    await broker.append(runs[1], [COMPLETED])
    for record in await broker.page(Page(EVERYTHING)):
        assert record == await broker.get(record.id)


async def test_a_page_shows_what_visible_says_it_shows(broker, runs):
    records = {run: await broker.get(run) for run in runs}

    async def check(visible):
        assert await listed(broker, visible, limit=100) == [run for run in runs[::-1] if visible.shows(records[run])]

    for everything in (True, False):
        for subject in ("alice", "bob", "carol", ""):
            for named in (frozenset(), frozenset(runs[:2])):
                for only in (None, frozenset(runs[1:3])):
                    await check(Visible(everything, subject, named, only))


@given(st.booleans(), st.sampled_from(["alice", "bob", ""]), st.booleans(), st.sampled_from([None, True, False]))
@BOUNDED
def test_a_narrowing_only_ever_takes_away(everything, subject, named, only):
    run = new_run("alice", id="r")
    wide = Visible(everything, subject, frozenset({"r"}) if named else frozenset())
    narrow = dataclasses.replace(wide, only=None if only is None else frozenset({"r"} if only else {"s"}))
    assert narrow.shows(run) <= wide.shows(run)
    assert wide.shows(run) == (everything or subject == "alice" or named)


async def test_text_that_means_something_to_a_database_means_nothing(broker):
    mad = new_run("'; DROP TABLE runs; --", pipeline='p" OR 1=1')
    id = await begun(broker, mad)
    mine = Visible(everything=False, subject=mad.owner, runs=frozenset({"'", '"', "%", "_"}))
    assert await listed(broker, mine) == [id]
    assert await listed(broker, mine, pipeline=mad.pipeline) == [id]
    assert await listed(broker, Visible(everything=False, subject="%")) == []


async def test_the_runs_that_ended_first_come_first(broker, clock):
    first, second, third = [await begun(broker) for _ in range(3)]
    for run in (second, first):
        clock.now += 1
        await broker.append(run, [COMPLETED])
    clock.now += 1
    last = await finished(broker)
    assert [run.id for run in await broker.oldest_finished(10)] == [second, first, last]
    assert [run.id for run in await broker.oldest_finished(1)] == [second]
    assert third not in [run.id for run in await broker.oldest_finished(10)]
