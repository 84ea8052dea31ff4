"""The price of looking more than once, and of comparing more than one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats.checks import finite

SCHEDULE = (4, 6, 8, 10, 13, 16, 20, 25, 31, 39, 49, 61, 76, 95, 119, 149)
"""Fresh launch pairs after which an answer is looked for: about a quarter more each time."""


@dataclass(frozen=True, slots=True)
class Looks:
    """A fixed list of looks and the share of ``error`` that each may spend.

    Look k spends in proportion to k ** -``decay``: the larger the decay, the cheaper are clear answers and the dearer late ones. The
    weights sum to 1: by Bonferroni's inequality the chance of a false answer at any look is at most ``error``, whatever the dependence
    between looks.
    """

    error: float
    schedule: tuple[int, ...] = SCHEDULE
    decay: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.error < 1:
            raise ValueError(f"not an error probability: {self.error}")

    def alpha(self, index: int) -> float:
        """What look ``index`` (0 is the first) may spend."""
        weights: list[float] = [(number + 1) ** -self.decay for number in range(len(self.schedule))]
        return self.error * weights[min(index, len(weights) - 1)] / sum(weights)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the family-wise error (Holm 1979), in the order given."""
    values = finite(p_values)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = running
    return [float(value) for value in adjusted]
