"""What one round of stress comes to."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """`figures`: what was counted and measured, a line each. `wrong`: what must not be, in words."""

    figures: list[str]
    wrong: list[str]


def scaled(full: int, scale: float) -> int:
    return max(1, round(full * scale))
