"""Cursors: what is one, and what a join with one is worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.cursor import Cursor, Resume, join_composite, parse, resolve, split_composite
from tests.wire.doubles import BOUNDED

BAD = [
    "k3f",
    "k3f-",
    "-3",
    "k3f-0",
    "k3f-03",
    "k3f--3",
    "k3f-3-3",
    "k3f-+3",
    "k3f-3.0",
    "k3f-3e0",
    "k3f-1_0",
    " k3f-3",
    "k3f-3 ",
    "k3f-3\n",
    "\nk3f-3",
    "K3F-3",
    "k3f-٣",
    "ⅸ-3",
    "k3f_3",
    "k3f-3~k3f-3",
    "kkkkkkkkkkkkkk-3",
    "k3f-" + "9" * 16,
    "00",
    "null",
    "\x00",
    "1" * 100_000,
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_malformed_is_no_cursor_and_gives_a_gap(text):
    assert parse(text) is None
    assert resolve(text, epoch="k3f", floor=2, tail=9) == (Resume.GAP, 2)


@pytest.mark.parametrize("text", [None, "", "0"])
def test_no_cursor_starts_at_the_first_event_that_is_held(text):
    assert resolve(text, epoch="k3f", floor=4, tail=9) == (Resume.START, 4)


@given(
    st.from_regex(r"[a-z0-9]{1,13}", fullmatch=True, alphabet=st.characters(codec="ascii")), st.integers(1, 10**15 - 1)
)
@BOUNDED
def test_a_cursor_survives_its_text(epoch, offset):
    cursor = Cursor(epoch, offset)
    assert parse(str(cursor)) == cursor


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 200), st.sampled_from(["k3f", "old"]))
@BOUNDED
def test_a_cursor_resumes_exactly_where_it_points_or_is_a_gap_and_is_never_clamped(floor, held, offset, epoch):
    tail = floor + held
    verdict, after = resolve(f"{epoch}-{offset}", epoch="k3f", floor=floor, tail=tail)
    if epoch == "k3f" and floor <= offset <= tail:
        assert (verdict, after) == (Resume.RESUMED, offset)
    else:
        assert (verdict, after) == (Resume.GAP, floor)


@given(st.text(max_size=20))
@BOUNDED
def test_any_text_gives_a_verdict(text):
    verdict, after = resolve(text, epoch="k3f", floor=1, tail=5)
    assert 1 <= after <= 5
    assert (verdict is Resume.RESUMED) == (parse(text) is not None and text in [f"k3f-{n}" for n in range(1, 6)])


def test_a_composite_cursor_has_one_part_for_each_run():
    parts = ["k3f-1", "0", "zz-12"]
    assert split_composite(join_composite(parts), 3) == parts
    assert split_composite("k3f-1~0", 3) is None
    assert split_composite("k3f-1~0~zz-12~", 3) is None
    assert split_composite("", 1) == [""]
