"""Many callers in any order, drawn from seeds (`tests.model`); `python -m tests.model SEED` plays one again."""

import pytest

from tests.model.play import play

REPEATED = 12  # with retention, and a log that is late


@pytest.mark.parametrize("seed", range(48))
def test_whatever_order_callers_meet_in_over_a_log_in_memory(seed):
    world = play(seed)
    assert not world.faults, "\n".join([str(world), *world.faults])


@pytest.mark.parametrize("seed", range(4, 8))
def test_whatever_order_callers_meet_in_over_a_file(seed):
    world = play(seed, "sqlite")
    assert not world.faults, "\n".join([str(world), *world.faults])


def test_a_seed_repeats_its_world():
    one, other = play(REPEATED), play(REPEATED)
    assert one.figures() == other.figures()
    assert one.refusals == other.refusals
    assert all(one.figures().values())
