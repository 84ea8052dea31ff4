"""What needs no clock: size and evaluation samples, against the other arm or the stored baseline.

All comparisons of samples share one family-wise error by Holm's method: each is weighed first, then told what it may spend. And stored
timings, where the other arm cannot run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.core.comparison import Comparison
from harness.core.estimate import Absent
from harness.engine.compare import FAMILY_ALPHA, compare_exact, compare_samples
from harness.engine.compare_stored import compare_stored
from harness.engine.evaluate import launch_figures
from harness.engine.packing import pack, unpack
from harness.engine.routes import Route
from harness.engine.rules import Rule, rules_of
from harness.engine.sample_evidence import SampleEvidence, weigh_samples
from harness.stats.sequential import holm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.plugin import ExactMetric
    from harness.engine.case import Case


def compare_cases(cases: Sequence[Case], seed: int) -> None:
    """Add these comparisons to every case that has a baseline and something to compare with it."""
    import numpy as np

    wanted = [case for case in cases if _is_compared(case)]
    rules = {id(case.trial.source): rules_of(case.trial.source.scenario) for case in wanted}
    pairs = [(case, rule) for case in wanted for rule in rules[id(case.trial.source)]]
    weighed = [_weighed(case, rule, np.random.default_rng(seed)) if rule.plugin.kind == "sample" else None for case, rule in pairs]
    levels = iter(shared_levels([evidence.red_p for evidence in weighed if isinstance(evidence, SampleEvidence)]))
    for (case, rule), evidence in zip(pairs, weighed, strict=True):
        if isinstance(evidence, SampleEvidence):
            found: Comparison | str | None = compare_samples(case.id, rule, evidence, next(levels))
        else:
            found = evidence or _compared(case, rule)
        if isinstance(found, Comparison):
            case.comparisons.append(found)
        elif found is not None:
            case.notes.append(f"{rule.metric} was not compared: {found}")
    for case in wanted:
        if case.undecided is not None and any(found.n_of == "sessions" and not found.advisory for found in case.comparisons):
            case.notes.append(f"decided by stored sessions, as the scenario says ('stored: decide'): {case.undecided}")
            case.undecided = None


def shared_levels(p_values: Sequence[float]) -> list[float]:
    """What each comparison may spend on a red, so that all together spend ``FAMILY_ALPHA`` (Holm 1979), in the order given.

    A red spends what its rank was tested at; what is left standing shares the error among itself. A p-value is within its level just
    where the adjusted one is within the family's.

    Measured with six comparisons of right and wrong answers in a job and a tolerance of 0.5 points: how many of 20,000 jobs have a
    false red where every true drop lies just on the tolerance (at most 1 % is meant), and how many of 2,000 times six real drops are
    shown, with Bonferroni's bound in brackets.

    =========  =============  ==========  ==========================================================
     samples   gained, share  false red   reds of six real drops
    =========  =============  ==========  ==========================================================
     400       0.2 %          0.05 %      of 2 points 16 % (14), of 5 points 99 % (95)
     400       5 %            0.96 %      of 5 points 30 % (27), of 8 points 87 % (75)
     5,000     0 %            1.21 %      of 1 point 96 % (91)
     5,000     0.2 %          1.35 %      of 1 point 73 % (62), of 1.5 points 100 % (100)
     5,000     5 %            1.04 %      of 1.5 points 22 % (20), of 2 points 66 % (56)
    =========  =============  ==========  ==========================================================
    """
    if not p_values:
        return []
    adjusted = holm(p_values)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    standing = len(p_values) - sum(value <= FAMILY_ALPHA for value in adjusted)
    levels = [0.0] * len(p_values)
    for rank, index in enumerate(order):
        levels[index] = FAMILY_ALPHA / (len(p_values) - rank if adjusted[index] <= FAMILY_ALPHA else standing)
    return levels


def _compared(case: Case, rule: Rule) -> Comparison | str | None:
    """The comparison, or why there is none; None where nobody waits for one."""
    if rule.plugin.kind == "exact":
        return _exact(case, rule)
    return None if rule.plugin.kind == "sample" else _stored_timing(case, rule)


def _is_compared(case: Case) -> bool:
    """Every trial that was built and has a baseline, unless nothing but the machine differs from it."""
    if case.baseline is None or case.subject is None or case.failure is not None or case.route is Route.UNCHANGED:
        return False
    return case.route is not Route.ALONE or case.baseline.portable.content.digest != case.derivation.content.digest


def _exact(case: Case, rule: Rule) -> Comparison | str:
    assert case.subject is not None and case.baseline is not None
    plugin: ExactMetric = rule.plugin  # type: ignore[assignment]  # told by its kind
    if case.base is not None:
        before: float | None = plugin.of_artifact(case.base.subject.artifact)
    else:
        kept = (estimate.value for estimate in case.baseline.portable.estimates if estimate.metric == rule.metric)
        before = next(kept, None)
    if before is None:
        return "its baseline does not have it"
    return compare_exact(case.id, rule, before, plugin.of_artifact(case.subject.artifact))


def _weighed(case: Case, rule: Rule, generator: np.random.Generator) -> SampleEvidence | str | None:
    """What its samples say, or why they say nothing; None where nobody waits for it."""
    now = case.scores.get(rule.metric)
    before = _scores_before(case, rule.metric)
    if now is None or before is None or (isinstance(now, Absent) and isinstance(before, Absent)):
        return None  # the metric is not of this task
    if isinstance(now, Absent) or isinstance(before, Absent):
        return (now if isinstance(now, Absent) else before).reason  # type: ignore[union-attr]  # one of both is
    if len(now) != len(before):
        return f"the evaluation set had {len(before)} samples and has {len(now)}"
    if not case.base_scores:
        now = _as_stored(now)
    return weigh_samples(rule, before, now, generator)


def _scores_before(case: Case, metric: str) -> NDArray[np.float64] | Absent | None:
    """The other arm's scores on the candidate's samples; where there is no other arm, the stored ones of the very same samples."""
    import numpy as np

    if case.base_scores:
        return case.base_scores.get(metric)
    assert case.baseline is not None
    portable = case.baseline.portable
    packed = portable.scores.get(metric)
    if packed is None:
        return Absent(metric, "its baseline does not have it")
    if portable.evaluation_key != case.derivation.data["evaluation"]:
        return Absent(metric, "the evaluation data do not come from what the baseline's came from")
    return np.asarray(unpack(packed), dtype=np.float64)


def _as_stored(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores as a baseline's file would give them back: what it rounds is no change."""
    import numpy as np

    packed = pack(scores)
    return scores if packed is None else np.asarray(unpack(packed), dtype=np.float64)


def _stored_timing(case: Case, rule: Rule) -> Comparison | None:
    assert case.baseline is not None
    kept = case.baseline.measured.get(case.environment_key)
    if case.undecided is None or kept is None or case.measurement is None:
        return None
    figures = launch_figures(rule.metric, case.measurement)
    if isinstance(figures, Absent):
        return None
    return compare_stored(case.id, rule, kept, figures, decides=case.trial.source.scenario.stored == "decide")
