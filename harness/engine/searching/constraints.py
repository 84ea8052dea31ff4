"""What the winner has to keep, decided as the SLA of a scenario is: what a search calls kept, ``harness run`` calls kept.

Metrics of the evaluation set and of the artifact are exact for that set and that file: their value decides. Beside it stands the interval
that other samples like these would give. Metrics of launches are decided by a bound.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.comparison import SlaState
from harness.core.errors import BadInput, Problem
from harness.core.estimate import Absent, ConfidenceInterval
from harness.core.search import Checked
from harness.engine.check_promises import check_clauses
from harness.engine.evaluate import metric_of
from harness.engine.record import record_of
from harness.engine.rules import Rule
from harness.engine.sample_evidence import weigh_samples
from harness.engine.sla import check_sla

if TYPE_CHECKING:
    from harness.core.comparison import SlaFinding
    from harness.core.scenario import ScenarioFile, SlaClause
    from harness.engine.case import Case

LEVEL = 0.95
OPTION = "--subject-to"
_DROP = re.compile(r"\s*(?P<metric>\w+)\s+drop\s+(?P<limit>at most\s+.+?)\s*")


@dataclass(frozen=True, slots=True)
class Constraints:
    """``file`` is the scenario with the constraints in the place of its promises."""

    file: ScenarioFile
    clauses: tuple[SlaClause, ...]

    @property
    def of_launches(self) -> bool:
        """Whether a constraint can only be decided by launches."""
        return any(metric_of(clause.metric).kind == "launch" for clause in self.clauses)

    def check(self, case: Case, reference: Case) -> tuple[Checked, ...]:
        """Every constraint on a candidate, from what is known of it so far."""
        if not self.clauses:
            return ()
        records = [record_of(one, gated=False, accepting=False) for one in (case, reference)]
        figures = {one.id: found for one in (case, reference) if (found := one.launch_figures()) is not None}
        findings = [finding for finding in check_sla(self.file, records, figures) if finding.trial == case.id]
        return tuple(_checked(finding, case, reference) for finding in findings)


def broken(checks: Sequence[Checked], *, measured: bool, last: bool = False) -> str | None:
    """Why a candidate is dropped: a constraint is broken, or has no number that more work would give.

    ``measured``: it has been launched. ``last``: there will be no more launches, so a value on the wrong side is enough.
    """
    for check in checks:
        of_launches = metric_of(check.metric).kind == "launch"
        if check.state is SlaState.BROKEN:
            return f"breaks '{check.clause}': {check.reason}"
        if check.state is SlaState.UNMEASURED and (measured or not of_launches):
            return f"'{check.clause}' cannot be told: {check.reason}"
        if last and check.state is SlaState.UNPROVEN and not _looks_kept(check):
            return f"is not shown to keep '{check.clause}', and seems to break it: {check.reason}"
    return None


def read_constraints(file: ScenarioFile, written: Sequence[str], reference: str) -> Constraints:
    """``accuracy: at most 0.5 points below fp32``, or ``accuracy drop at most 0.5 points``; ``file`` has the candidates as its recipes.

    Raises BadInput with all that is wrong.
    """
    problems: list[Problem] = []
    sla: dict[str, str] = {}
    for text in written:
        if drop := _DROP.fullmatch(text):
            key, clause = drop["metric"], f"{drop['limit']} below {reference}"
        else:
            key, colon, clause = (part.strip() for part in text.partition(":"))
            if not colon:
                hint = f"write it as a promise of the SLA: {OPTION} 'accuracy: at most 0.5 points below {reference}'"
                problems.append(Problem(f"'{text}' names no metric", _place(text), hint=hint))
                continue
        if "." in key:
            problems.append(Problem("a constraint is for every candidate: name the metric alone", _place(text)))
        elif key in sla:
            problems.append(Problem(f"{key} has a constraint already", _place(text), hint="keep the narrower"))
        else:
            sla[key] = clause
    scenario = file.scenario.model_copy(update={"sla": sla})
    for problem in check_clauses(scenario):
        key = (problem.key or "").removeprefix("sla.")
        problems.append(replace(problem, path=_place(f"{key}: {sla[key]}"), key=None, line=None))
    if problems:
        raise BadInput(*problems)
    clauses = scenario.clauses()
    for read in clauses:
        if read.of not in (None, reference):
            hint = f"compare with '{reference}', or search against '{read.of}' (search.against)"
            problems.append(Problem(f"'{read.of}' is not measured by this search", _place(read.text), hint=hint))
    if problems:
        raise BadInput(*problems)
    lines = {key: line for key, line in file.lines.items() if not key.startswith("sla.")}  # those are of promises that are not looked at
    return Constraints(replace(file, scenario=scenario, lines=lines), clauses)


def _place(text: str) -> Path:
    return Path(f"{OPTION} '{text}'")


def _checked(finding: SlaFinding, case: Case, reference: Case) -> Checked:
    difference, interval = _difference(finding.metric, case, reference)
    return Checked(
        clause=finding.clause,
        metric=finding.metric,
        unit=finding.unit,
        value=finding.value,
        state=finding.state,
        reason=finding.reason,
        difference=difference,
        interval=interval,
    )


def _difference(metric: str, case: Case, reference: Case) -> tuple[float | None, ConfidenceInterval | None]:
    import numpy as np

    plugin = metric_of(metric)
    ours, theirs = case.scores.get(metric), reference.scores.get(metric)
    if plugin.kind != "sample" or ours is None or theirs is None or isinstance(ours, Absent) or isinstance(theirs, Absent):
        return None, None
    if len(ours) != len(theirs):
        return None, None
    rule = Rule(metric, plugin, plugin.tolerance or 0.0, plugin.floor)
    evidence = weigh_samples(rule, theirs, ours, np.random.default_rng(case.trial.source.scenario.seed))
    return evidence.difference, evidence.interval(LEVEL)


def _looks_kept(check: Checked) -> bool:
    """Whether an unproven constraint's own number lies on the right side, where it is a plain limit on it."""
    from harness.core.scenario import parse_clause

    key, _, text = check.clause.partition(": ")
    clause = parse_clause(key, text)
    if clause.relation != "absolute" or check.value is None:
        return True
    return check.value <= clause.limit if clause.bound == "at most" else check.value >= clause.limit
