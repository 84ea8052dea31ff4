"""What an audit tells: every promise of a release with its evidence, and who put up with what is not kept.

Schema history of ``audit.json`` (``SCHEMA``):
  1  first version
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from harness.core.artifact import AppliedStep
from harness.core.comparison import SlaState
from harness.core.environment import Environment
from harness.core.errors import ExitCode
from harness.core.estimate import Absent
from harness.core.measurement import SessionFacts
from harness.core.result import Content, TrialState
from harness.core.units import Unit

SCHEMA = 1
GRAVITY = (SlaState.KEPT, SlaState.UNMEASURED, SlaState.UNPROVEN, SlaState.BROKEN)
"""From harmless to grave, for the verdict over all clauses."""

Basis = Literal["queries", "launches", "samples", "artifact", "nothing"]
"""What decides a clause: a count of queries over the limit, figures of launches, evaluation samples, the model's files, or no number."""


@dataclass(frozen=True, slots=True)
class Waiver:
    """Somebody's word that a promise need not be kept for a while: ``until`` is the last day that it counts (ISO date, UTC).

    ``trials`` is a pattern on trial ids, None for all trials of the clause; ``file`` and ``line`` are where it is written, in the bundle.
    """

    clause: str
    trials: str | None
    who: str
    why: str
    until: str
    file: str
    line: int

    def is_for(self, clause: str, trial: str) -> bool:
        return self.clause == clause and (self.trials is None or fnmatch.fnmatchcase(trial, self.trials))

    def counts_on(self, day: str) -> bool:
        """Whether it has not expired on an ISO date."""
        return day <= self.until


@dataclass(frozen=True, slots=True)
class LaunchLine:
    """One launch as evidence: its queries, how many were over the limit, its longest query in ns, and its own figure of the metric.

    None where the clause is not about it.
    """

    launch: int
    queries: int
    over: int | None
    longest_ns: int | None
    figure: float | None


@dataclass(frozen=True, slots=True)
class AuditedClause:
    """One promise on one trial. ``value`` and ``bound`` are those of the SLA finding; ``bound_of`` says what the bound is of, and
    ``confidence`` is its one-sided confidence (None where the number is exact or there is none). ``count`` is how many queries or samples
    it rests on; ``raw`` are the files of the bundle that it follows from; ``method`` says how, in words."""

    scenario: str
    trial: str
    metric: str
    clause: str
    line: int | None
    limit: float
    limit_unit: Unit
    unit: Unit | None
    state: SlaState
    value: float | None
    bound: float | None
    bound_of: str
    confidence: float | None
    basis: Basis
    count: int
    over: int | None
    load: str
    batch_size: int
    reason: str
    method: str
    raw: tuple[str, ...]
    launches: tuple[LaunchLine, ...] = ()
    waivers: tuple[Waiver, ...] = ()

    def waived_by(self, day: str) -> Waiver | None:
        """The waiver that stands for this promise on a day: only what is not kept needs one."""
        if self.state is SlaState.KEPT:
            return None
        return next((waiver for waiver in self.waivers if waiver.counts_on(day)), None)


@dataclass(frozen=True, slots=True)
class AuditedTrial:
    """What is known of a trial and does not follow from raw data. ``key`` is what its launches in the journal are marked with;
    ``reference`` is the trial that fidelity is told against; ``absent`` are metrics of samples that have no score, and why."""

    id: str
    state: TrialState
    reason: str
    content: Content | None = None
    environment_key: str | None = None
    key: str = ""
    runtime: str = ""
    passes: tuple[str, ...] = ()
    facts: SessionFacts | None = None
    steps: tuple[AppliedStep, ...] = ()
    artifact_sha256: str | None = None
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    absent: tuple[Absent, ...] = ()
    launches: int = 0
    queries: int = 0


@dataclass(frozen=True, slots=True)
class AuditedScenario:
    """A scenario by its name and its path in the project; the bundle holds it under ``source/``, with what it extends."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Audit:
    """The whole audit. ``looks`` are how many launches a trial had each time that the bounds were looked at; ``confidence`` is what is left
    for the last look so that all together are wrong in 5 % at most. ``waiver_files`` are paths in the bundle, by scenario.

    ``clauses``, ``verdict``, ``waived``, ``exit_code`` and ``headline`` follow from the other files of the bundle: see ``engine/audit``.
    """

    schema: int
    program_version: str
    release: str
    audited_at: str
    project: str
    commit: str | None
    dirty: bool | None
    run: str
    command: str
    measured_from: str
    measured_until: str
    environment: Environment
    looks: tuple[int, ...]
    confidence: float
    scenarios: tuple[AuditedScenario, ...]
    waiver_files: Mapping[str, str]
    trials: tuple[AuditedTrial, ...]
    notes: tuple[str, ...] = ()
    clauses: tuple[AuditedClause, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    verdict: SlaState = SlaState.UNMEASURED
    waived: int = 0
    exit_code: int = int(ExitCode.NOT_DECIDED)
    headline: str = ""

    @property
    def day(self) -> str:
        """The day of the audit (UTC), on which waivers count or do not."""
        return self.audited_at[:10]


def verdict_of(clauses: Iterable[AuditedClause], day: str) -> tuple[SlaState, int, ExitCode, str]:
    """The verdict over what no waiver stands for, how many are waived, the exit code, and the headline.

    Unproven is not kept: BROKEN is exit 1, UNPROVEN and UNMEASURED exit 3, all kept or waived exit 0.
    """
    clauses = tuple(clauses)
    waived = sum(clause.waived_by(day) is not None for clause in clauses)
    counting = [clause for clause in clauses if clause.waived_by(day) is None]
    verdict = max((clause.state for clause in counting), key=GRAVITY.index, default=SlaState.KEPT)
    counts = {state: sum(clause.state is state for clause in counting) for state in SlaState}
    if verdict is SlaState.KEPT:
        told = (
            f"kept, except {waived:,} waived"
            if waived
            else f"all {len(clauses):,} kept"
            if len(clauses) != 1
            else "the one promise is kept"
        )
        return verdict, waived, ExitCode.PASS, told
    parts = [f"{counts[state]:,} {state.lower()}" for state in reversed(GRAVITY) if counts[state]]
    if waived:
        parts.append(f"{waived:,} waived")
    code = ExitCode.REGRESSION if verdict is SlaState.BROKEN else ExitCode.NOT_DECIDED
    return (
        verdict,
        waived,
        code,
        f"not kept: {', '.join(parts)}" if verdict is SlaState.BROKEN else f"not shown to be kept: {', '.join(parts)}",
    )
