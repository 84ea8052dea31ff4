"""What the same samples, scored in both arms, say of a metric: the difference, its interval at any level, and how sure a red would be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.estimate import ConfidenceInterval
from harness.stats import bootstrap, mcnemar
from harness.stats.checks import finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.engine.rules import Rule

EXACT = "exact: every sample scores the same"
SMALLEST_P = 1e-4


@dataclass(frozen=True, slots=True)
class SampleEvidence:
    """Both means, and what lies between them.

    ``interval`` gives the two-sided interval of candidate - baseline at a level. ``red_p`` is the one-sided p-value against "no worse
    than the tolerance": what all comparisons of a job are adjusted by. ``mid_p`` is that of McNemar's test against "not worse", where
    scores are right or wrong, and ``told`` what it rests on, in words. ``variance`` is that of one sample's difference.
    """

    baseline: float
    candidate: float
    samples: int
    interval: Callable[[float], ConfidenceInterval]
    red_p: float
    mid_p: float | None
    variance: float
    method: str
    told: str = ""

    @property
    def exact(self) -> bool:
        return self.method == EXACT

    @property
    def difference(self) -> float:
        return self.candidate - self.baseline


def weigh_samples(
    rule: Rule, baseline: NDArray[np.float64], candidate: NDArray[np.float64], generator: np.random.Generator
) -> SampleEvidence:
    """Paired proportions for right and wrong, else a paired bootstrap over samples.

    Where no sample's score changed there is nothing uncertain: the difference is exactly zero. Raises ValueError for NaN, infinity,
    nothing, and arms of other lengths.
    """
    import numpy as np

    baseline, candidate = finite(baseline), finite(candidate)
    means = (float(np.mean(baseline)), float(np.mean(candidate)), len(baseline))
    if np.array_equal(baseline, candidate):
        return SampleEvidence(*means, lambda level: ConfidenceInterval(0.0, 0.0, level), 1.0, None, 0.0, EXACT)
    if bool(np.isin(baseline, (0.0, 1.0)).all() and np.isin(candidate, (0.0, 1.0)).all()):
        lost, gained, samples = mcnemar.discordant(baseline, candidate)
        worse, better = (lost, gained) if rule.better == "higher" else (gained, lost)
        mid_p = mcnemar.mid_p(worse, better)
        return SampleEvidence(
            *means,
            lambda level: mcnemar.difference_interval(baseline, candidate, level),
            mcnemar.beyond_p(worse, better, samples, rule.tolerance),
            mid_p,
            (lost + gained) / samples - ((gained - lost) / samples) ** 2,
            "paired proportions (score interval, mid-p McNemar)",
            f"{worse:,} {'sample' if worse == 1 else 'samples'} lost, {better:,} gained, mid-p {_told_p(mid_p)}",
        )
    drawn = bootstrap.resample_difference(baseline, candidate, generator)
    red_p = drawn.below_p(-rule.tolerance) if rule.better == "higher" else drawn.above_p(rule.tolerance)
    variance = float(np.var(candidate - baseline))
    return SampleEvidence(*means, drawn.interval, red_p, None, variance, "paired bootstrap over samples (wider of BCa and t)")


def _told_p(p_value: float) -> str:
    return f"below {SMALLEST_P:.4f}" if p_value < SMALLEST_P else f"{p_value:.2g}"
