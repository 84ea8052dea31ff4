"""How a clause's figures are computed, in words that a reader can follow with a calculator."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.audit import Basis
    from harness.core.scenario import SlaClause


def bound_of(clause: SlaClause, basis: Basis) -> str:
    """What the bound of a finding is of."""
    if basis == "nothing":
        return "nothing"
    if basis == "queries":
        return "share of queries over the limit"
    return {"absolute": "value", "share": "ratio", "below": "difference", "above": "difference"}[clause.relation]


def confidence_of(clause: SlaClause, basis: Basis, confidence: float, level: float) -> float | None:
    """The one-sided confidence of the bound; None where the number is exact, or there is none."""
    if basis == "queries" or (basis == "launches" and clause.relation == "share"):
        return confidence
    return (1 + level) / 2 if basis == "launches" else None


def method_of(clause: SlaClause, basis: Basis, confidence: float, level: float) -> str:
    """One or two sentences."""
    sure = f"{confidence * 100:.4g} %"
    if basis == "queries":
        allowed = _allowed(clause)
        return (
            f"Of all queries of all launches, those that took longer than the limit are counted. The one-sided {sure} bound of their share "
            f"(Clopper and Pearson), on the number of queries divided by their design effect over launches, is held against {allowed}."
        )
    if basis == "launches" and clause.relation == "share":
        return (
            f"Each launch gives one figure. The ratio of both recipes has a one-sided {sure} bound by Welch's t on the logarithms of the "
            "figures; the bound is held against the limit."
        )
    if basis == "launches":
        ends = "the ends of both recipes' intervals that are worst together are" if clause.relation in ("below", "above") else "its end is"
        return (
            f"Each launch gives one figure; their mean has a t interval over launches ({level * 100:.4g} % two-sided, each end a "
            f"one-sided {(1 + level) / 2 * 100:.4g} % bound); {ends} held against the limit."
        )
    if basis == "samples":
        return "The mean of the scores of all evaluation samples: exact for this set of samples. It is held against the limit as it is."
    if basis == "artifact":
        return "The bytes of the model's files together: exact. They are held against the limit as they are."
    return "There is no number here, so nothing is shown."


def _allowed(clause: SlaClause) -> str:
    digits = clause.metric.removeprefix("latency_p")
    return f"{(1 - float(f'0.{digits}')) * 100:.3g} %"
