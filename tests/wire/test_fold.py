"""Folded replay, held to its law: every prefix of the output gives the state that all events up to there give."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.fold import fold, select
from gateway.wire.status import AFTER
from tests.wire.doubles import BOUNDED, MAX, assert_law, filters, sealed, state_of, stream, streams

limits = st.sampled_from([MAX, 400, 250, 1])


@given(streams, filters, limits)
@BOUNDED
def test_every_prefix_of_the_folded_past_gives_the_state_of_all_events_up_to_its_cursor(whole, types, limit):
    chosen = select(whole, types)
    assert_law(chosen, fold(chosen, max_bytes=limit))


@given(streams, limits)
@BOUNDED
def test_ids_rise_and_the_last_one_is_kept(whole, limit):
    folded = fold(whole, max_bytes=limit)
    offsets = [event.offset for event in folded]
    assert offsets == sorted(set(offsets))
    assert folded[-1].offset == whole[-1].offset
    assert [json.loads(event.json)["id"] for event in folded] == [event.id for event in folded]


@given(streams, limits)
@BOUNDED
def test_only_progress_draft_and_delta_are_ever_left_out(whole, limit):
    kept = {event.offset for event in fold(whole, max_bytes=limit)}
    assert all(event.type in ("progress", "draft", "delta") for event in whole if event.offset not in kept)


@given(streams, limits)
@BOUNDED
def test_an_event_that_is_not_a_joined_delta_keeps_its_bytes(whole, limit):
    original = {event.offset: event for event in whole}
    for event in fold(whole, max_bytes=limit):
        if event.type != "delta":
            assert event == original[event.offset]


@given(streams, limits)
@BOUNDED
def test_no_joined_event_is_larger_than_allowed(whole, limit):
    alone = {event.json for event in whole}
    for event in fold(whole, max_bytes=limit):
        assert event.json in alone or len(event.json) <= limit


@given(streams)
@BOUNDED
def test_nothing_a_client_would_show_of_a_block_is_lost(whole):
    """Text, citations and further fields of the deltas of a block, in order, and its last `done`."""

    def shown(events) -> list:
        found: dict[str, list] = {}
        for event in events:
            if event.type == "delta":
                said = json.loads(event.json)
                block = found.setdefault(said["block"], ["", [], None, []])
                block[0] += said["delta"]
                block[1] += said.get("cites") or []
                block[2] = said["done"] if said.get("done") is not None else block[2]
                block[3] += [(name, said[name]) for name in ("own", "more") if name in said]
        return sorted(found.items())

    assert shown(fold(whole, max_bytes=MAX)) == shown(whole)


@given(streams, filters, limits)
@BOUNDED
def test_folding_what_is_folded_keeps_the_law(whole, types, limit):
    chosen = select(whole, types)
    assert_law(chosen, fold(fold(chosen, max_bytes=limit), max_bytes=limit))


@given(streams, st.lists(st.integers(0, 45), max_size=5), filters)
@BOUNDED
def test_any_paging_gives_the_law_too(whole, cuts, types):
    borders = [0, *sorted(cuts), len(whole)]
    pages = [whole[first:last] for first, last in itertools.pairwise(borders)]
    folded = [event for page in pages for event in fold(select(page, types), max_bytes=MAX)]
    assert_law(select(whole, types), folded)
    assert state_of(folded) == state_of(select(whole, types))


@given(streams, st.frozensets(st.sampled_from(["delta", "progress", "x.own"])))
@BOUNDED
def test_a_filter_lets_the_lifecycle_and_its_own_types_pass_and_nothing_else(whole, types):
    assert select(whole, types) == [event for event in whole if event.type in types or event.type in AFTER]
    assert select(whole, None) == whole


def test_five_thousand_deltas_of_one_block_are_a_handful_of_events():
    whole = stream([("delta", {"block": "body", "delta": f"word{n} "}) for n in range(5000)])
    folded = fold(whole, max_bytes=MAX)
    assert len(folded) <= 20
    assert state_of(folded) == state_of(whole)


def test_progress_without_end_is_one_event_for_each_stage_in_a_row():
    said = [("progress", {"stage": stage, "message": "m", "progress": n / 10}) for stage in "ab" for n in range(1000)]
    assert len(fold(stream(said), max_bytes=MAX)) == 4


@pytest.mark.parametrize("between", ["progress", "x.own", "stage.started"])
def test_nothing_is_folded_across_a_kept_event(between):
    kept = {"progress": {"stage": "s", "message": "m", "progress": 1}, "x.own": {}}.get(
        between, {"stage": "s", "index": 1, "of": 1}
    )
    whole = stream([("delta", {"block": "b", "delta": "1"}), (between, kept), ("delta", {"block": "b", "delta": "2"})])
    assert fold(whole, max_bytes=MAX) == whole


@pytest.mark.parametrize(
    "said",
    [
        # Each later one is silent on something that the earlier one said.
        [("draft", {"stage": "s", "draft": "1", "progress": 5}), ("draft", {"stage": "s", "draft": "2"})],
        [
            ("draft", {"stage": "s", "draft": "1", "progress": 5}),
            ("draft", {"stage": "s", "draft": "2", "progress": None}),
        ],
        [
            ("draft", {"stage": "s", "draft": "1", "message": "m"}),
            ("draft", {"stage": "s", "draft": "2", "message": None}),
        ],
    ],
)
def test_an_event_is_superseded_only_by_one_that_says_all_it_said(said):
    whole = stream(said)
    assert_law(whole, fold(whole, max_bytes=MAX))
    assert state_of(whole)["progress"] is not None


def test_an_empty_page_folds_to_nothing():
    assert fold([], max_bytes=MAX) == []


def test_a_joined_delta_has_the_id_of_its_last_part_and_its_fields_in_order():
    parts = [sealed(4, "delta", {"block": "b", "delta": "1", "cites": [{"key": "1", "source": "s"}], "done": False})]
    parts += [sealed(5, "delta", {"block": "b", "delta": "2", "done": True})]
    (joined,) = fold(parts, max_bytes=MAX)
    said = json.loads(joined.json)
    assert (joined.id, said["id"], joined.offset, said["ts"]) == ("k3f-5", "k3f-5", 5, 1763580000005)
    assert (said["delta"], said["cites"], said["done"]) == ("12", [{"key": "1", "source": "s"}], True)
    assert list(said)[:4] == ["type", "run", "id", "ts"]
