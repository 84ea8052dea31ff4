"""What a recipe costs in quality against its scenario's reference: the difference over the same samples, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.core.estimate import Absent
from harness.core.result import QualityChange
from harness.engine.evaluate import metric_of
from harness.engine.rules import Rule
from harness.engine.sample_evidence import weigh_samples

if TYPE_CHECKING:
    from harness.engine.case import Case

METRIC = "accuracy"
LEVEL = 0.95


def note_trade_offs(cases: Sequence[Case], seed: int) -> None:
    """Note on every case that its reference was scored beside how its accuracy differs; it decides nothing."""
    import numpy as np

    plugin = metric_of(METRIC)
    rule = Rule(METRIC, plugin, plugin.tolerance or 0.0, plugin.floor)
    for case in cases:
        reference = reference_of(case, cases)
        if reference is None:
            continue
        theirs, ours = reference.scores.get(METRIC), case.scores.get(METRIC)
        if theirs is None or ours is None or isinstance(theirs, Absent) or isinstance(ours, Absent) or len(theirs) != len(ours):
            continue
        evidence = weigh_samples(rule, theirs, ours, np.random.default_rng(seed))
        case.quality_change = QualityChange(METRIC, evidence.difference, evidence.interval(LEVEL), evidence.samples)


def reference_of(case: Case, cases: Sequence[Case]) -> Case | None:
    """The case of the reference recipe on the same hardware at the same batch size; None for the reference itself."""
    mine = (case.trial.scenario, case.trial.target.name, case.trial.batch_size)
    others = (other for other in cases if (other.trial.scenario, other.trial.target.name, other.trial.batch_size) == mine)
    return None if case.is_reference else next((other for other in others if other.is_reference), None)
