"""What an audit tells: every promise of a release with its evidence, and who put up with what is not kept.

Schema history of ``audit.json`` (``SCHEMA``):
  1  first version
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.core.artifact import AppliedStep
from harness.core.comparison import SlaState
from harness.core.environment import Environment
from harness.core.errors import ExitCode
from harness.core.estimate import Absent
from harness.core.measurement import SessionFacts
from harness.core.result import Content, TrialState
from harness.core.units import Unit, format_value

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
class LoadLine:
    """The load over the network that one launch was measured under, and what came of it.

    ``kind`` is ``open`` (a schedule, whatever the server does) or ``closed`` (``users`` who wait); ``arrivals``, ``rate_per_s`` and
    ``users`` are what was asked for. ``duration_ns`` is from the first intended send to the last answer. ``due`` requests were intended in
    it, ``answered`` of them with success, ``failed`` by what came instead; ``in_time`` were answered within ``limit_ns``, the latency
    that is promised. ``p50_ns`` and ``p99_ns`` are of all requests that were due, a failed one counted as the whole timeout.
    ``sent_late_...`` is how late requests were sent, waiting for a free connection included; ``turned_late_p99_ns`` how late the
    generator itself turned to them. ``generator_hosts`` are the other machines that sent; empty where this one did. ``records`` is the
    file with every request, in the bundle. ``counted_again``: all of this but what the generators tell of themselves follows from that
    file; False where its form is not known.
    """

    launch: int
    kind: Literal["open", "closed"]
    arrivals: str
    rate_per_s: float | None
    users: int | None
    duration_ns: int
    due: int
    answered: int
    failed: Mapping[str, int]
    limit_ns: int | None
    in_time: int | None
    p50_ns: float
    p99_ns: float
    sent_late_p99_ns: int
    sent_late_most_ns: int
    dropped: int
    turned_late_p99_ns: int | None
    generator_cpu: float
    generator_processes: int
    generator_hosts: tuple[str, ...]
    records: str
    counted_again: bool

    @property
    def answered_per_s(self) -> float:
        """Answers a second."""
        return self.answered / (self.duration_ns / 1e9)

    @property
    def in_time_per_s(self) -> float | None:
        """Answers a second within the promised latency; None where none is promised."""
        return None if self.in_time is None else self.in_time / (self.duration_ns / 1e9)

    @property
    def asked(self) -> str:
        """``open loop, poisson arrivals at 200 /s`` or ``closed loop, 16 users``."""
        if self.kind == "closed":
            return f"closed loop, {self.arrivals if self.users is None else f'{self.users:,} user' + 's' * (self.users != 1)}"
        rate = "" if self.rate_per_s is None else f" at {format_value(self.rate_per_s, Unit.PER_SECOND)}"
        return f"open loop, {self.arrivals} arrivals{rate}"


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
    ``absent`` are metrics of samples that have no score, and why. ``launches``, ``queries`` and ``loads`` do follow from raw data: they are
    counted anew in every conclusion; ``loads`` is empty under a load inside the worker."""

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
    loads: tuple[LoadLine, ...] = ()


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


def loads_told(loads: Sequence[LoadLine]) -> str:
    """The loads of a trial's launches in one line: what was asked for, how much came of it, and whether the generator was late."""
    due = sum(line.due for line in loads)
    broken = due - sum(line.answered for line in loads)
    late = max((line.turned_late_p99_ns for line in loads if line.turned_late_p99_ns is not None), default=None)
    counted = "" if late is None else f", the generator late by at most {format_value(late, Unit.NANOSECONDS)} (p99 of a launch)"
    launches = f"{len(loads):,} {'launch' if len(loads) == 1 else 'launches'}"
    each = format_value(sum(line.duration_ns for line in loads) / len(loads), Unit.NANOSECONDS)
    return f"{loads[0].asked}, {launches} of {each} each: {due:,} requests due, {broken:,} broken{counted}"


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
