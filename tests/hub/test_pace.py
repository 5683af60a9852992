"""When clients are told to come back."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.hub import Pace
from gateway.hub.pacing import COMFORTABLE_OPENS_PER_S, MAX_RETRY_MS
from tests.wire.doubles import BOUNDED


def test_a_quiet_gateway_gives_exactly_what_is_configured():
    pace = Pace(retry_ms=1234)
    assert pace.retry_ms == 1234
    for _ in range(5):
        pace.opened()
        pace.tick(elapsed_s=1, lag_s=0.01)
    assert pace.retry_ms == 1234


def test_a_crowd_is_spread_and_the_spread_goes_back_when_it_is_gone():
    pace = Pace(retry_ms=1000)
    for _ in range(COMFORTABLE_OPENS_PER_S * 4):
        pace.opened()
    pace.tick(elapsed_s=1, lag_s=0)
    assert pace.retry_ms == 4000
    pace.tick(elapsed_s=1, lag_s=0)
    assert pace.retry_ms == 2000
    for _ in range(20):
        pace.tick(elapsed_s=1, lag_s=0)
    assert pace.retry_ms == 1000


def test_a_loop_that_lags_asks_for_more_time():
    pace = Pace(retry_ms=1000)
    pace.tick(elapsed_s=1, lag_s=3)
    assert pace.retry_ms > 3000


@given(st.integers(1, 600_000), st.lists(st.tuples(st.integers(0, 5000), st.floats(0.001, 5), st.floats(0, 100))))
@BOUNDED
def test_the_base_is_never_below_the_setting_nor_without_bound(base, ticks):
    pace = Pace(retry_ms=base)
    for opened, elapsed_s, lag_s in ticks:
        for _ in range(opened % 50):
            pace.opened()
        pace.tick(elapsed_s=elapsed_s, lag_s=lag_s)
        assert base <= pace.retry_ms <= max(base, MAX_RETRY_MS)


@given(st.floats(0, 0.999999), st.integers(0, 100_000))
@BOUNDED
def test_each_client_is_told_its_own_time_in_the_span_after_what_it_must_wait(random, at_least_ms):
    pace = Pace(retry_ms=1000, rng=lambda: random)
    after_ms = pace.after_ms(at_least_ms)
    assert isinstance(after_ms, int)
    assert at_least_ms + 500 <= after_ms < at_least_ms + 1500


def test_no_two_clients_are_told_the_same():
    pace = Pace(retry_ms=30_000)
    assert len({pace.after_ms() for _ in range(50)}) > 40
