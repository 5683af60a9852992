"""Rates: never more than the bucket holds and the time gives, for any way of asking; little memory for any crowd."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import TooMany
from gateway.routes.rate import Buckets, Rate, Rates
from tests.wire.doubles import BOUNDED

GAPS_S = st.lists(st.sampled_from([0.0, 0.001, 0.04, 0.05, 0.3, 1.0, 5.0]), max_size=200)


@pytest.mark.parametrize(
    "text, rate", [("20/s", Rate(20, 1)), ("600/m", Rate(600, 60)), ("1/h", Rate(1, 3600)), ("off", None)]
)
def test_a_rate_is_a_count_and_a_unit(text, rate):
    assert Rate.parse(text) == rate


def test_after_a_silence_all_come_at_once_and_then_one_by_one():
    buckets = Buckets(Rate(5, 1))
    assert [buckets.take("a", 100.0) for _ in range(5)] == [0.0] * 5
    assert buckets.take("a", 100.0) == pytest.approx(0.2)
    assert buckets.take("b", 100.0) == 0.0
    assert buckets.take("a", 100.19) > 0
    assert buckets.take("a", 100.21) == 0.0
    assert buckets.take("a", 100.21) > 0
    assert [buckets.take("a", 200.0) for _ in range(6)][:5] == [0.0] * 5


def test_off_refuses_nothing_and_remembers_nothing():
    buckets = Buckets(None)
    assert not any(buckets.take("a", 0.0) for _ in range(1000))
    assert len(buckets) == 0


@given(GAPS_S)
@BOUNDED
def test_in_any_span_no_more_pass_than_a_full_bucket_and_what_the_span_adds(gaps_s):
    buckets, now, passed = Buckets(Rate(20, 1)), 0.0, []
    for gap_s in gaps_s:
        now += gap_s
        if not buckets.take("a", now):
            passed.append(now)
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= 20 + (passed[last] - start) * 20 + 1e-6


@given(GAPS_S)
@BOUNDED
def test_who_waits_as_long_as_told_passes_and_a_refusal_costs_nothing(gaps_s):
    buckets, now = Buckets(Rate(20, 1)), 0.0
    for gap_s in gaps_s:
        now += gap_s
        wait_s = buckets.take("a", now)
        if wait_s:
            assert buckets.take("a", now) == pytest.approx(wait_s)
            now += wait_s
            assert buckets.take("a", now + 1e-9) == 0.0


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 0.01, 0.2, 3.0])), max_size=200))
@BOUNDED
def test_nobody_is_refused_for_what_others_ask(asked):
    together, now = Buckets(Rate(3, 1)), 0.0
    alone = {name: Buckets(Rate(3, 1)) for name in "abcdefgh"}
    for name, gap_s in asked:
        now += gap_s
        assert together.take(name, now) == pytest.approx(alone[name].take(name, now))


def test_any_number_of_names_takes_bounded_memory():
    buckets = Buckets(Rate(1000, 1), max_names=100)
    for number in range(10_000):
        assert buckets.take(f"attacker-{number}", 0.0) == 0.0
        assert len(buckets) <= 100


def test_what_a_crowd_leaves_behind_goes_as_others_come():
    buckets = Buckets(Rate(10, 1))
    for number in range(1000):
        buckets.take(f"crowd-{number}", 0.0)
    assert len(buckets) == 1000
    for number in range(1000):
        buckets.take("regular", 10.0 + number)
    assert len(buckets) == 1


@pytest.mark.looptime
async def test_a_refusal_tells_when_to_come_back():
    rates = Rates(requests=Rate(1, 1), commands=Rate(1, 60))
    rates.address("a")
    rates.subject("a")
    rates.connection("a")
    with pytest.raises(TooMany) as caught:
        rates.address("a")
    assert caught.value.code == "rate.limited"
    assert 900 < caught.value.retry_after_ms <= 1001
    with pytest.raises(TooMany) as caught:
        rates.connection("a")
    assert 59_000 < caught.value.retry_after_ms <= 60_001
    assert rates.names == 3
    await asyncio.sleep(1)
    rates.address("a")
