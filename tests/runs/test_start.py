"""Starting runs: who may, how many, and once for each key."""

import asyncio

import pytest

from gateway.broker import MemoryBroker, Page, Producer
from gateway.errors import Conflict, Forbidden, Invalid, NotFound, TooMany, Unavailable
from gateway.wire import json
from pipeline import Context
from tests.runs.doubles import ALICE, LIMITS, SlowBroker, caller, ending, log_of, start, types, wants

pytestmark = pytest.mark.looptime


async def test_a_run_goes_from_queued_to_completed_and_its_record_says_who_and_what(made):
    runs = made()
    run, created = await runs.start(ALICE, wants("quick", {"b": 1}, timeout_s=9))
    assert created
    assert (run.pipeline, run.owner, run.creator, json.loads(run.input)) == ("quick", "alice", "alice", {"b": 1})
    assert json.loads(run.options)["timeout_s"] == 9
    last = await ending(runs, run)
    assert types(await log_of(runs, run)) == ["run.queued", "run.started", "progress", "run.completed"]
    assert last["result"] == {"b": 1}
    described = await runs.views.describe(await runs.views.find(ALICE, run.id))
    assert (described["status"], described["progress"], described["result"]) == ("completed", 50, {"b": 1})
    assert described["tail"].endswith("-4")


async def test_an_unknown_pipeline_is_refused(made):
    with pytest.raises(NotFound) as caught:
        await start(made(), "nope")
    assert caught.value.code == "pipeline.unknown"


async def test_an_input_that_does_not_fit_is_refused_with_its_path_and_takes_no_place(made):
    async def strict(ctx: Context, input: dict[str, int]) -> None: ...

    runs = made(strict=strict, limits=LIMITS._replace(max_runs=1))
    for wrong in ([], "text", {"a": "swordfish"}):
        with pytest.raises(Invalid) as caught:
            await start(runs, "strict", wrong)
        assert caught.value.errors[0]["path"][0] == "input"
        assert "swordfish" not in json.pretty(caught.value.document())
    await start(runs, "strict", {"a": 1})


async def test_starting_for_someone_else_needs_the_right_to(made):
    runs = made()
    with pytest.raises(Forbidden):
        await runs.start(ALICE, wants("quick", owner="bob"))
    run, _ = await runs.start(caller(delegate=True), wants("quick", owner="bob"))
    assert (run.owner, run.creator) == ("bob", "alice")
    assert (await runs.views.find(ALICE, run.id)).id == run.id
    assert (await runs.views.find(caller("bob"), run.id)).id == run.id
    with pytest.raises(NotFound):
        await runs.views.find(caller("carol"), run.id)


async def test_the_limits_count_unfinished_runs_of_the_owner_and_in_all(made):
    runs = made(limits=LIMITS._replace(max_runs=3, max_runs_per_subject=2))
    first, _ = [await start(runs, "forever") for _ in range(2)]
    with pytest.raises(TooMany) as caught:
        await start(runs, "forever")
    assert (caught.value.code, caught.value.retryable) == ("limit.runs", True)
    assert caught.value.retry_after_ms > 0
    await runs.start(caller("bob"), wants("forever"))
    with pytest.raises(TooMany):
        await runs.start(caller("carol"), wants("forever"))
    await runs.cancel(ALICE, first, None)
    await ending(runs, first)
    await asyncio.sleep(0.01)
    await runs.start(caller("carol"), wants("forever"))
    with pytest.raises(TooMany):
        await start(runs, "forever")


async def test_many_starts_at_once_do_not_pass_the_limit(made):
    runs = made(limits=LIMITS._replace(max_runs=5))
    given = await asyncio.gather(*(start(runs, "forever") for _ in range(20)), return_exceptions=True)
    assert [isinstance(outcome, TooMany) for outcome in given].count(False) == 5
    assert len(await runs._broker.unfinished()) == 5


async def test_every_place_is_given_back(made):
    runs = made(limits=LIMITS._replace(max_runs=1))
    for _ in range(5):
        run = await start(runs, "quick")
        await ending(runs, run)
        await asyncio.sleep(0.01)
    with pytest.raises(NotFound):
        await start(runs, "nope")
    assert runs._roster._owners.total() == 0
    assert list(runs._roster) == []


async def test_a_key_makes_one_run_of_many_requests(made):
    runs = made()
    given = await asyncio.gather(*(runs.start(ALICE, wants("quick", {"a": 1, "b": 2}), key="k") for _ in range(5)))
    assert len({run.id for run, _ in given}) == 1
    assert [created for _, created in given].count(True) == 1
    await ending(runs, given[0][0])
    await asyncio.sleep(0.01)
    again, created = await runs.start(ALICE, wants("quick", {"b": 2, "a": 1}), key="k")
    assert (again.id, created) == (given[0][0].id, False)
    assert runs._roster._owners.total() == 0
    with pytest.raises(Conflict) as caught:
        await runs.start(ALICE, wants("quick", {"a": 1}), key="k")
    assert caught.value.code == "key.conflict"


async def test_a_request_that_goes_away_leaves_no_half_made_run(made):
    """A change that was begun is carried through, also when the caller goes away meanwhile."""
    runs = made(SlowBroker())
    starting = asyncio.ensure_future(start(runs, "quick"))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.sleep(10)
    (record,) = [kept.run for kept in runs._broker._runs.values()]
    assert record.status == "completed"
    assert runs._roster._owners.total() == 0


async def test_a_retry_is_a_new_run_of_the_same(made):
    runs = made()
    run = await start(runs, "quick", {"a": 1}, timeout_s=7)
    await ending(runs, run)
    again = await runs.retry(caller("alice"), await runs.views.find(ALICE, run.id))
    assert (again.retry_of, again.pipeline, again.input, again.options) == (run.id, "quick", run.input, run.options)
    assert (await log_of(runs, again))[0]["retry_of"] == run.id
    assert (await ending(runs, again))["result"] == {"a": 1}
    running = await start(runs, "forever")
    with pytest.raises(Conflict) as caught:
        await runs.retry(ALICE, await runs.views.find(ALICE, running.id))
    assert caught.value.code == "run.active"


async def test_nothing_starts_once_the_service_refuses(made):
    runs = made()
    runs.refuse()
    with pytest.raises(Unavailable) as caught:
        await start(runs, "quick")
    assert caught.value.code == "server.draining"


class SlowReads(MemoryBroker):
    """Whoever asks the log has to wait, as behind others' long questions."""

    async def snapshot(self, run):
        await asyncio.sleep(1)
        return await super().snapshot(run)


async def test_whoever_finds_a_new_run_finds_it_in_charge(made):
    """However soon: in a list, by its key, as the newest of its pipeline."""
    runs = made(SlowReads())
    starting = asyncio.create_task(start(runs, "external"))
    while not (found := await runs._broker.page(Page(ALICE.visible))):
        await asyncio.sleep(0)
    runs.watching(found[0].id, 1)
    await runs.external.publish(found[0], [("x.a", {})], producer=Producer("w", 1, 1))
    run = await starting
    assert types(await log_of(runs, run)) == ["run.queued", "run.started", "x.a"]
    assert runs._roster.get(run.id).viewers._count == 1
