"""What is kept of a folded past: nobody can tell it from the log, it has its bounds, and it goes with its run.

Over 300 lines, because pages, bounds and joins are asked of the same few doubles.
"""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker import MemoryBroker
from gateway.hub.past import MAX_BYTES, RUN_SHARE, Page, Pasts
from gateway.hub.subscription import PAGE_EVENTS, State
from gateway.wire import events, json
from gateway.wire.events import Event
from gateway.wire.framing import SSE, WEBSOCKET
from tests.broker.doubles import COMPLETED, begun, everything, finished, keep, says
from tests.hub.doubles import LIMITS, WIDE, Reads, Recorder, connect, frames_of, hub_on, join, settled, told
from tests.wire.doubles import BOUNDED, MAX, RUN, assert_law, sealed, state_of, stream, streams


def chain(pasts: Pasts, run: str = RUN, floor: int = 0) -> list[Page]:
    """All that is kept of a run, page behind page."""
    pages: list[Page] = []
    while (page := pasts.page(run, pages[-1].upto if pages else floor, floor=floor)).events:
        pages.append(page)
    return pages


def fill(pasts: Pasts, pieces: list[list[Event]], run: str = RUN) -> None:
    """Let a run's pages take these in, as one reader after another would."""
    page = pasts.page(run, 0, floor=0)
    for piece in pieces:
        if pasts.full(page):
            page = pasts.page(run, page.upto, floor=0)
        pasts.add(run, page, piece, first=piece[0].offset, max_bytes=MAX)


@pytest.fixture
def reads(monkeypatch):
    return Reads(monkeypatch)


async def long_run(broker: MemoryBroker, count: int = 5000, *, ended: bool = True) -> str:
    run = await begun(broker)
    await broker.append(run, [says(f"word{number} ") for number in range(count)])
    if ended:
        await broker.append(run, [COMPLETED])
    return run


@given(streams, st.lists(st.integers(0, 45), max_size=6), st.sampled_from([200, 600, 2000, 100_000]))
@BOUNDED
def test_pages_grown_in_any_pieces_tell_the_law_and_lie_side_by_side(whole, cuts, page_bytes):
    pasts = Pasts(page_bytes=page_bytes)
    borders = [0, *sorted(cuts), len(whole)]
    fill(pasts, [piece for first, last in itertools.pairwise(borders) if (piece := whole[first:last])])
    pages = chain(pasts)
    folded = [event for page in pages for event in page.events]
    assert_law(whole, folded)
    assert state_of(folded) == state_of(whole)
    assert [page.after for page in pages] == [0, *(page.upto for page in pages[:-1])]
    for page in pages:
        assert page.bytes == sum(len(event.json) for event in page.events)
        assert all(page.after < event.offset <= page.upto for event in page.events)
    assert all(map(pasts.full, pages[:-1]))


@given(streams, st.integers(1, 45))
@BOUNDED
def test_a_page_comes_back_as_it_was_dumped_and_grows_on(whole, cut):
    pasts, again = Pasts(), Pasts()
    fill(pasts, [whole[:cut]])
    page, loaded = pasts.page(RUN, 0, floor=0), again.page(RUN, 0, floor=0)
    again.load(RUN, loaded, page.dump(), epoch=whole[0].id.split("-")[0])
    assert (loaded.events, loaded.bytes, loaded.upto, loaded.first) == (page.events, page.bytes, page.upto, page.first)
    assert again.weight == pasts.weight
    for kept in (pasts, again):
        if whole[cut:]:
            kept.add(RUN, kept.page(RUN, 0, floor=0), whole[cut:], first=cut + 1, max_bytes=MAX)
    assert loaded.events == page.events


def test_a_page_that_begins_elsewhere_or_is_too_large_is_not_loaded_and_what_folds_to_nothing_less_is_not_dumped():
    pasts, whole = Pasts(), stream([("delta", {"block": "b", "delta": "x"})] * 50)
    assert pasts.dump(RUN) == b""
    fill(pasts, [whole])
    dumped = pasts.dump(RUN)
    assert dumped.startswith(b"0 52 1\n")
    small = Pasts(page_bytes=len(dumped) - 1)
    small.load(RUN, (page := small.page(RUN, 0, floor=0)), dumped, epoch="e")
    assert not page.events
    cut = pasts.page(RUN, 20, floor=20)
    assert pasts.dump(RUN) == b""
    pasts.load(RUN, cut, dumped, epoch="e")
    assert (cut.events, cut.upto, pasts.weight) == ([], 20, cut.weight)
    fill(pasts, [stream([("x.own", {"n": n}) for n in range(50)])], "long")
    fill(pasts, [stream([("delta", {"block": "b", "delta": "x"})] * 5)], "short")
    assert (pasts.dump("long"), pasts.dump("short")) == (b"", b"")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60)), max_size=60))
@BOUNDED
def test_whatever_is_joined_the_kept_pages_weigh_no_more_than_they_may(steps):
    pasts, most = Pasts(page_bytes=4000, max_bytes=50_000), 0
    whole = stream([("delta", {"block": "ab"[n % 2], "delta": "x" * 50}) for n in range(58)])
    for number, length in steps:
        fill(pasts, [whole[:length]] if not chain(pasts, str(number)) else [], str(number))
        assert pasts.weight <= 50_000
        most = max(most, pasts.weight)
        kept = [page for run in list(pasts._pasts) for page in pasts._pasts[run].pages.values()]
        assert pasts.weight == sum(page.weight for page in kept)
    for number in range(10):
        pasts.forget(str(number))
    assert pasts.weight == 0


def test_the_run_that_nobody_has_joined_for_the_longest_time_goes_first():
    whole = stream([("x.own", {"pad": "x" * 5000})] * 3)
    weight = Pasts()
    fill(weight, [whole], "any")
    pasts = Pasts(max_bytes=3 * weight.weight)
    for run in "abc":
        fill(pasts, [whole], run)
    pasts.page("a", 0, floor=0)
    fill(pasts, [whole], "d")
    assert [run for run in "abcd" if run in pasts] == ["a", "c", "d"]


def test_a_run_as_long_as_you_like_has_its_share_and_the_rest_of_it_is_not_kept():
    pasts, at = Pasts(), 0
    fill(pasts, [stream([])], "other")
    for first in range(1, 20_000, 500):
        page = pasts.page(RUN, at, floor=0)
        said = [sealed(offset, "x.own", {"pad": "x" * 900}) for offset in range(first, first + 500)]
        pasts.add(RUN, page, said, first=first, max_bytes=MAX)
        at = page.upto
    kept = sum(page.weight for page in chain(pasts))
    assert MAX_BYTES // RUN_SHARE <= kept < MAX_BYTES // RUN_SHARE + 1_000_000
    assert "other" in pasts


def test_a_page_is_for_those_alone_who_stand_where_it_begins():
    pasts = Pasts(page_bytes=600)
    whole = stream([("delta", {"block": "b", "delta": "x" * 20})] * 8)
    first = pasts.page(RUN, 0, floor=0)
    pasts.add(RUN, first, whole[:8], first=1, max_bytes=MAX)
    assert pasts.full(first)
    assert pasts.page(RUN, 9, floor=0) is not pasts.page(RUN, 9, floor=0)
    second = pasts.page(RUN, 8, floor=0)
    pasts.add(RUN, second, whole[8:], first=9, max_bytes=MAX)
    assert not pasts.full(second)
    for offset in range(1, 20):
        page = pasts.page(RUN, offset, floor=0)
        assert page is second if offset == 8 else (page.events, page.upto) == ([], offset)
    assert (chain(pasts), pasts.weight) == ([first, second], first.weight + second.weight)


def test_a_run_whose_beginning_is_gone_is_begun_anew():
    pasts = Pasts()
    whole = stream([("delta", {"block": "b", "delta": "x"})] * 8)
    fill(pasts, [whole])
    page = pasts.page(RUN, 4, floor=4)
    assert (page.events, page.upto, pasts.weight) == ([], 4, page.weight)
    pasts.add(RUN, page, whole[4:], first=5, max_bytes=MAX)
    assert chain(pasts, floor=4) == [page]


@pytest.mark.looptime
@pytest.mark.parametrize("ended", [True, False], ids=["finished", "active"])
@pytest.mark.parametrize("framing", [SSE, WEBSOCKET], ids=["sse", "websocket"])
async def test_the_second_to_join_gets_the_same_bytes_and_nothing_is_read(reads, framing, ended):
    run = await long_run(reads.broker, ended=ended)
    hub = hub_on(reads.broker, limits=WIDE)
    first = await told(hub, run, framing=framing)
    assert reads.since() == 5002 + ended
    assert (await told(hub, run, framing=framing), reads.since()) == (first, 0)
    hub._pasts.forget(run)
    assert await told(hub, run, framing=framing) == first
    assert first.count(b'"id":') <= 20
    assert len(hub._topics) == 0


@pytest.mark.looptime
async def test_what_was_said_between_two_joins_is_all_that_the_second_one_reads(reads):
    run = await long_run(reads.broker, ended=False)
    hub = hub_on(reads.broker, limits=WIDE)
    await told(hub, run)
    for number in range(50):
        reads.since()
        await reads.broker.append(run, [says(f"more{number}.{part} ") for part in range(200)])
        frames = frames_of(await told(hub, run))
        assert reads.since() == 200
    assert len(frames) <= 20
    whole = [json.loads(event.json) for event in await everything(reads.broker, run)]
    text = "".join(said["delta"] for said in whole if said["type"] == "delta")
    assert "".join(said["delta"] for said in frames if said["type"] == "delta") == text


@pytest.mark.looptime
async def test_many_who_join_at_once_wait_for_one_reader(reads):
    run = await long_run(reads.broker)
    hub = hub_on(reads.broker, limits=WIDE)
    connections = [connect(hub, Recorder(limit=WIDE.max_buffer_bytes)) for _ in range(50)]
    for connection in connections:
        await join(hub, connection, run)
    await settled(hub)
    assert reads.since() == 5003
    assert len({connection.transport.data for connection in connections}) == 1
    assert connections[0].transport.types()[-1] == "run.completed"


@pytest.mark.looptime
@pytest.mark.parametrize("page_bytes", [1000, 262_144])
async def test_a_cursor_anywhere_gets_all_that_comes_after_it_and_nothing_else(page_bytes):
    hub = hub_on(limits=LIMITS._replace(max_buffer_bytes=262_144))
    hub._pasts.page_bytes = page_bytes
    run = await long_run(hub._broker, 60)
    epoch = (await hub._broker.get(run)).epoch
    await told(hub, run)
    assert run in hub._pasts
    whole = await everything(hub._broker, run)
    for offset in range(1, len(whole)):
        frames = frames_of(await told(hub, run, after=f"{epoch}-{offset}"))
        assert all(int(frame["id"].split("-")[1]) > offset for frame in frames)
        text = "".join(frame["delta"] for frame in frames if frame["type"] == "delta")
        assert text == "".join(f"word{number} " for number in range(max(0, offset - 2), 60))
        assert frames[-1]["type"] == "run.completed"


@pytest.mark.looptime
@pytest.mark.parametrize("types", [("delta",), ("progress",), ("delta", "progress"), ("x.other",)], ids="-".join)
async def test_a_filter_holds_for_what_is_kept_and_folds_what_it_brings_together(reads, types):
    run = await begun(reads.broker)
    progress = events.work("progress", {"stage": "s", "message": "m", "progress": 1}, max_bytes=MAX)
    await reads.broker.append(run, [says("1"), progress] * 40)
    await reads.broker.append(run, [COMPLETED])
    hub = hub_on(reads.broker, limits=WIDE)
    first = await told(hub, run, types=frozenset(types))
    assert reads.since() == 83
    assert (await told(hub, run, types=frozenset(types)), reads.since()) == (first, 0)
    work = [frame["type"] for frame in frames_of(first)][2:-1]
    wanted = {("delta", "progress"): [*types] * 40, ("x.other",): []}
    assert work == wanted.get(types, [*types])


@pytest.mark.looptime
async def test_what_retention_forgets_is_not_told_from_memory():
    hub = hub_on(limits=WIDE)
    run = await long_run(hub._broker, 300, ended=False)
    epoch = (await hub._broker.get(run)).epoch
    await told(hub, run)
    assert await keep(hub._broker, run, max_events=100) == 202
    for _ in range(2):
        gap, *frames = frames_of(await told(hub, run))
        assert gap == {"type": "gap", "run": run, "after": "0", "from": f"{epoch}-203"}
        assert "".join(frame["delta"] for frame in frames) == "".join(f"word{number} " for number in range(200, 300))


@pytest.mark.looptime
async def test_retention_that_overtakes_a_join_is_told_as_a_gap_at_its_place(monkeypatch):
    hub = hub_on(limits=WIDE)
    run = await long_run(hub._broker, 3000, ended=False)
    epoch = (await hub._broker.get(run)).epoch
    read = hub._broker.read

    async def forgetful(*args, **kwargs):
        found = await read(*args, **kwargs)
        await keep(hub._broker, run, max_events=500)
        return found

    monkeypatch.setattr(hub._broker, "read", forgetful)
    frames = frames_of(await told(hub, run))
    gap = next(number for number, frame in enumerate(frames) if frame["type"] == "gap")
    assert frames[gap] == {"type": "gap", "run": run, "after": f"{epoch}-1000", "from": f"{epoch}-2503"}
    assert frames[gap - 1]["delta"].endswith("word997 ")
    assert frames[gap + 1]["delta"].startswith("word2500 ")
    assert frames[-1]["id"] == f"{epoch}-3002"


@pytest.mark.looptime
async def test_nothing_is_kept_of_a_run_that_was_erased(reads):
    hub = hub_on(reads.broker)
    run = await finished(reads.broker)
    await told(hub, run)
    assert run in hub._pasts
    await reads.broker.erase(run)
    hub._pasts.forget(run)
    assert (run in hub._pasts, hub._pasts.weight) == (False, 0)


@pytest.mark.looptime
@pytest.mark.parametrize("sole", [True, False])
@pytest.mark.parametrize("replay", ["full", "folded"])
async def test_one_whose_run_is_erased_before_it_has_taken_all_comes_to_an_end(sole, replay):
    """The connection too, whatever else it carries: who comes back is told that there is no such run."""
    hub = hub_on()
    run = await begun(hub._broker)
    await hub._broker.append(run, [events.work("x.own", {"pad": "x" * 900}, max_bytes=MAX)] * 60)
    await hub._broker.append(run, [COMPLETED])
    connection = connect(hub, sole=sole)
    connection.transport.stalled = True
    subscription = await join(hub, connection, run, replay=replay)
    await asyncio.sleep(1)
    await hub._broker.erase(run)
    hub._pasts.forget(run)
    connection.transport.drain()
    await settled(hub)
    assert subscription.state is State.ENDED
    assert connection.transport.finished.is_set()
    assert 0 < len(connection.transport.frames()) < 63


@pytest.mark.looptime
async def test_a_page_that_is_let_go_of_while_it_grows_is_told_all_the_same(reads):
    run = await long_run(reads.broker)
    hub = hub_on(reads.broker, limits=WIDE)
    connection = connect(hub, Recorder(limit=WIDE.max_buffer_bytes))
    await join(hub, connection, run)
    while not reads.count:
        await asyncio.sleep(0)
    hub._pasts.forget(run)
    await settled(hub)
    assert "".join(frame.get("delta", "") for frame in connection.transport.frames()).endswith("word4999 ")
    assert connection.transport.types()[-1] == "run.completed"
    assert (run in hub._pasts, hub._pasts.weight) == (False, 0)


@pytest.mark.looptime
async def test_one_that_stalls_is_given_a_page_at_a_time_of_what_is_kept():
    hub = hub_on()  # 1000 bytes for each client, so pages of 16 KiB
    run = await begun(hub._broker)
    for count in (6, 60):
        await told(hub, run)
        await hub._broker.append(run, [events.work("x.own", {"pad": "x" * 900}, max_bytes=MAX)] * count)
    await hub._broker.append(run, [COMPLETED])
    whole = await told(hub, run)
    connection = connect(hub)
    transport = connection.transport
    transport.stalled = True
    subscription = await join(hub, connection, run)
    taken = 0
    while subscription.state is State.BEHIND:
        await asyncio.sleep(1)
        assert transport.unsent() <= hub._pasts.page_bytes + 1500
        taken += transport.unsent() > 0
        transport.take()
    assert taken >= 4
    assert transport.data == whole


@pytest.mark.looptime
async def test_the_loop_has_turns_while_a_page_grows():
    hub = hub_on(limits=WIDE)
    run = await long_run(hub._broker)
    telling = asyncio.ensure_future(told(hub, run))
    turns = 0
    while not telling.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 5002 // PAGE_EVENTS


@pytest.mark.looptime
async def test_who_wants_every_event_gets_every_event_beside_what_is_kept():
    hub = hub_on(limits=WIDE)
    run = await long_run(hub._broker, 50)
    await told(hub, run)
    frames = frames_of(await told(hub, run, replay="full"))
    assert frames == [json.loads(event.json) for event in await everything(hub._broker, run)]
