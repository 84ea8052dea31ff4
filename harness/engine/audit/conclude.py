"""From a bundle's raw data to every clause and the verdict: the one way in which an audit is made and in which it is verified.

Nothing is taken from ``audit.json`` that raw data tell: latencies come from the journal, under a load over the network from the record
of its requests, scores from the samples, sizes from the list of model files, promises from the scenario, waivers from their file. What is
taken is which launches are of which trial.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.audit import Audit, AuditedClause, AuditedTrial, Basis, LaunchLine, LoadLine, Waiver, verdict_of
from harness.core.comparison import SlaState
from harness.core.errors import CannotMeasure
from harness.core.measurement import Measurement, Run
from harness.core.plan import Trial
from harness.core.result import TrialRecord, TrialState
from harness.engine.audit import raw, requests
from harness.engine.audit.methods import bound_of, confidence_of, method_of
from harness.engine.audit.waivers import read_waivers
from harness.engine.case import figures_of
from harness.engine.evaluate import LEVEL, artifact_estimates, launch_estimates, sample_estimates, split
from harness.engine.read_scenario import read_form
from harness.engine.record import record_with
from harness.engine.sla import LaunchFigures, check_sla, counts_queries, speaks_of
from harness.store.runs import LAUNCHES, RunFolder

if TYPE_CHECKING:
    from harness.core.comparison import SlaFinding
    from harness.core.estimate import Absent, Estimate
    from harness.core.scenario import ScenarioFile, SlaClause

MEASURED = (TrialState.MEASURED, TrialState.NEW)
UNMEASURED = SlaState.UNMEASURED
UNTOLD = "the bundle tells nothing of this trial"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The raw data of one trial, read: ``trial`` from the scenario, ``told`` from audit.json. ``doubts`` are figures of the journal that do
    not follow from the records of requests."""

    trial: Trial
    told: AuditedTrial | None
    record: TrialRecord
    runs: tuple[Run, ...]
    figures: LaunchFigures | None
    files: Mapping[str, str]
    loads: tuple[LoadLine, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def queries(self) -> int:
        return sum(piece.queries for run in self.runs for piece in run.slices)


def conclude(audit: Audit, bundle: Path) -> Audit:
    """The audit with everything that follows from the bundle's raw data.

    Raises BadInput or CannotMeasure, with the file, when raw data cannot be read.
    """
    return concluded(audit, bundle)[0]


def concluded(audit: Audit, bundle: Path) -> tuple[Audit, tuple[str, ...]]:
    """The same, and every figure of the journal that does not follow from the records of requests, a sentence each."""
    told = {trial.id: trial for trial in audit.trials}
    clauses: list[AuditedClause] = []
    waivers: list[Waiver] = []
    trials: list[AuditedTrial] = []
    doubts: list[str] = []
    for scenario in audit.scenarios:
        file = read_form(bundle / raw.SOURCE / scenario.path, bundle / raw.SOURCE)
        signed = _waivers(audit, file.scenario.name, bundle)
        evidence = [_evidence(trial, told.get(trial.id), bundle, audit.confidence) for trial in cells(file)]
        doubts += [doubt for found in evidence for doubt in found.doubts]
        clauses += _clauses(file, evidence, signed, audit.confidence)
        waivers += [waiver for waiver in signed if waiver not in waivers]
        trials += [_counted(found) for found in evidence if found.told is not None]
    verdict, waived, code, headline = verdict_of(clauses, audit.day)
    found = dataclasses.replace(
        audit,
        trials=tuple(trials),
        clauses=tuple(clauses),
        waivers=tuple(waivers),
        verdict=verdict,
        waived=waived,
        exit_code=int(code),
        headline=headline,
    )
    return found, tuple(doubts)


def cells(file: ScenarioFile) -> Iterator[Trial]:
    """Every trial of a scenario, whatever the machine."""
    for recipe in file.scenario.recipes.values():
        for target in file.targets:
            for size in file.scenario.measure.batch_sizes:
                yield Trial(file, recipe, target, size)


def promises_of(file: ScenarioFile) -> list[tuple[SlaClause, Trial]]:
    """Every promise on every trial that it speaks of, in the scenario's order."""
    return [(clause, trial) for clause in file.scenario.clauses() for trial in cells(file) if speaks_of(clause, trial.recipe.name)]


def level_of(confidence: float) -> float:
    """The level of two-sided intervals whose ends are one-sided bounds of at least ``confidence``."""
    return max(LEVEL, 2 * confidence - 1)


def _waivers(audit: Audit, scenario: str, bundle: Path) -> tuple[Waiver, ...]:
    path = audit.waiver_files.get(scenario)
    if path is None:
        return ()
    if not (bundle / path).resolve().is_relative_to(bundle.resolve()):
        raise CannotMeasure(f"the waivers '{path}' lie outside the bundle")
    return read_waivers(bundle / path, path)


def _counted(found: Evidence) -> AuditedTrial:
    assert found.told is not None
    return dataclasses.replace(found.told, launches=len(found.runs), queries=found.queries, loads=found.loads)


def launches_of(folder: RunFolder, trial: AuditedTrial) -> tuple[Run, ...]:
    """The candidate's launches of a trial in the journal, in order."""
    if not (folder.path / LAUNCHES).is_file():
        raise CannotMeasure(f"{raw.RUN}/{LAUNCHES} is missing")
    last = {run.pair: run for run in folder.launches(trial.id, trial.key) if run.arm == "candidate"}
    return tuple(run for _, run in sorted(last.items()))


def _evidence(trial: Trial, told: AuditedTrial | None, bundle: Path, confidence: float) -> Evidence:
    state = TrialState.SKIPPED if told is None else told.state
    load = trial.source.scenario.measure.load.name
    if told is None or state not in MEASURED:
        reason = UNTOLD if told is None else told.reason
        return Evidence(trial, told, record_with(trial, state, None, reason), (), None, {})
    found: list[Estimate | Absent] = []
    files = {}
    samples, artifact = raw.samples_path(trial.id), raw.artifacts_path(trial.id)
    if (bundle / artifact).is_file():
        found += artifact_estimates(raw.read_artifact(bundle / artifact))
        files["artifact"] = artifact
    if (bundle / samples).is_file():
        found += sample_estimates(dict(raw.read_samples(bundle / samples)), trial.source.scenario.seed)
        files["samples"] = samples
    found += told.absent
    runs, loads, doubts = _loads(trial, launches_of(RunFolder(bundle / raw.RUN), told), bundle)
    figures = None
    if runs:
        measurement = Measurement(trial.id, trial.batch_size, load, runs)
        found += launch_estimates(measurement, level_of(confidence))
        figures = figures_of(measurement)
        files["launches"] = f"{raw.RUN}/{LAUNCHES}"
    estimates, absent = split(found)
    record = record_with(trial, TrialState.MEASURED, None, told.reason, estimates=estimates, absent=absent)
    return Evidence(trial, told, record, runs, figures, files, loads, doubts)


def _loads(trial: Trial, runs: tuple[Run, ...], bundle: Path) -> tuple[tuple[Run, ...], tuple[LoadLine, ...], tuple[str, ...]]:
    """Launches counted again from the records of their requests, what is told of their loads, and what the journal told otherwise."""
    terms = requests.terms_of(trial)
    if terms is None and all(run.served is None for run in runs):
        return runs, (), ()
    found, lines, doubts = [], [], []
    for run in runs:
        if run.served is None:
            raise CannotMeasure(f"launch {run.pair} of {trial.id} tells of no load over the network, and the scenario's is one")
        records = f"{raw.RUN}/{run.served.records}"
        if terms is None:
            found.append(run)
            lines.append(requests.load_line(run, None, records))
            continue
        if not (bundle / records).resolve().is_relative_to(bundle.resolve()):
            raise CannotMeasure(f"the record '{records}' lies outside the bundle")
        read = requests.read_requests(bundle / records, records)
        again = requests.recounted(run, read, terms)
        found.append(again)
        lines.append(requests.load_line(again, read, records))
        where = f"{raw.RUN}/{LAUNCHES}: launch {run.pair} of {trial.id}"
        doubts += [f"{where}: {doubt}" for doubt in requests.differences(run, again, terms, records)]
    return tuple(found), tuple(lines), tuple(doubts)


def _clauses(file: ScenarioFile, evidence: Sequence[Evidence], signed: Sequence[Waiver], confidence: float) -> list[AuditedClause]:
    """Every promise on every trial, also on those that were not measured: silence is no proof."""
    by_id = {found.trial.id: found for found in evidence}
    ran = [found.record for found in evidence if found.runs or found.files]
    figures = {found.trial.id: found.figures for found in evidence if found.figures is not None}
    findings = {(found.clause, found.trial): found for found in check_sla(file, ran, figures, confidence=confidence)}
    clauses = []
    for clause, trial in promises_of(file):
        finding = findings.get((clause.text, trial.id))
        audited = _audited(file, clause, by_id, trial, finding, confidence)
        clauses.append(dataclasses.replace(audited, waivers=tuple(one for one in signed if one.is_for(clause.text, trial.id))))
    return clauses


def _audited(
    file: ScenarioFile,
    clause: SlaClause,
    by_id: Mapping[str, Evidence],
    trial: Trial,
    finding: SlaFinding | None,
    confidence: float,
) -> AuditedClause:
    found = by_id[trial.id]
    basis = _basis(clause, found, finding)
    other = None if clause.of is None else _counterpart(clause, trial, by_id)
    kind = {"queries": "launches", "launches": "launches", "samples": "samples", "artifact": "artifact", "nothing": ""}[basis]
    both = [one for one in (found, other) if one is not None and kind in one.files]
    paths = [one.files[kind] for one in both]
    if kind == "launches":
        paths += [line.records for one in both for line in one.loads]
    return AuditedClause(
        scenario=trial.scenario,
        trial=trial.id,
        metric=clause.metric,
        clause=clause.text,
        line=file.lines.get(f"sla.{clause.text.partition(': ')[0]}"),
        limit=clause.limit,
        limit_unit=clause.unit,
        unit=None if finding is None else finding.unit,
        state=UNMEASURED if finding is None else finding.state,
        value=None if finding is None else finding.value,
        bound=None if finding is None else finding.bound,
        bound_of=bound_of(clause, basis),
        confidence=confidence_of(clause, basis, confidence, level_of(confidence)),
        basis=basis,
        count=_count(clause, found, basis),
        over=_over(clause, found) if basis == "queries" else None,
        load=found.record.load,
        batch_size=trial.batch_size,
        reason=found.record.reason if finding is None else finding.reason,
        method=method_of(clause, basis, confidence, level_of(confidence)),
        raw=tuple(dict.fromkeys((*paths, f"{raw.SOURCE}/{_place(file)}"))),
        launches=tuple(_launch_line(clause, number, run, found, basis) for number, run in enumerate(found.runs))
        if kind == "launches"
        else (),
    )


def _place(file: ScenarioFile) -> str:
    return file.path.relative_to(file.root).as_posix()


def _counterpart(clause: SlaClause, trial: Trial, by_id: Mapping[str, Evidence]) -> Evidence | None:
    return by_id.get(f"{trial.scenario}/{clause.of}-{trial.target.name}-b{trial.batch_size}")


def _basis(clause: SlaClause, found: Evidence, finding: SlaFinding | None) -> Basis:
    if finding is None or (finding.state is UNMEASURED):
        return "nothing"
    if counts_queries(clause, found.figures):
        return "queries"
    estimate = found.record.estimate(clause.metric)
    if estimate is None:
        return "nothing"
    return "launches" if estimate.n_of == "launches" else "samples" if estimate.n_of == "samples" else "artifact"


def _count(clause: SlaClause, found: Evidence, basis: Basis) -> int:
    if basis in ("queries", "launches"):
        return found.queries
    estimate = found.record.estimate(clause.metric)
    return estimate.n if basis == "samples" and estimate is not None else 0


def _over(clause: SlaClause, found: Evidence) -> int:
    assert found.figures is not None
    return sum(latency > clause.limit for launch in found.figures.latencies_ns for latency in launch)


def _launch_line(clause: SlaClause, number: int, run: Run, found: Evidence, basis: Basis) -> LaunchLine:
    latencies = [latency for piece in run.slices for latency in piece.latencies_ns]
    figures = found.figures.figures.get(clause.metric) if found.figures is not None else None
    return LaunchLine(
        launch=run.pair,
        queries=sum(piece.queries for piece in run.slices),
        over=sum(latency > clause.limit for latency in latencies) if basis == "queries" else None,
        longest_ns=max(latencies, default=None),
        figure=None if figures is None else figures[number],
    )
