"""How everything here is drawn: from a seed, so many times, and once more the same."""

from collections.abc import Callable

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded


def drawn(seed: int, count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """For a test of hypothesis's: `count` cases. Nothing is shrunk, as each case speaks to a gateway that lives on."""
    chosen = settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    return lambda test: seeded(seed)(chosen(test))
