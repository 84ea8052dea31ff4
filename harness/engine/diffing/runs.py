"""``harness diff`` of saved runs: the same trials by id.

Sizes and scores are compared wherever they were measured: the artifact and every sample's score are kept. Timings of one run each are two
sessions side by side, which decide nothing: how sessions differ is not in them. Where an arm is several runs, each is one figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.core.comparison import Verdict
from harness.core.errors import BadInput, Problem
from harness.core.result import RunResult, TrialRecord, TrialState
from harness.engine.compare import FAMILY_ALPHA
from harness.engine.diffing.launches import LEAST_LAUNCHES, Question, compare_unpaired, order_of, told_only
from harness.engine.diffing.places import MACHINE, differences_of, machine_of_trial
from harness.engine.diffing.report import Arm, DiffReport, Row, Unmatched
from harness.engine.diffing.trials import LAUNCHES, RUNS, Record, Weighed, launches_of, portable, rules_for, started, timing

TWO_SESSIONS = "two sessions, not measured side by side: how one hour differs from the next is not in the interval"
Records = Sequence[Record]
"""One trial in every run of an arm that has it."""


def diff_runs(baseline: Sequence[RunResult], candidate: Sequence[RunResult], tolerances: Mapping[str, float] | None = None) -> DiffReport:
    """Every trial that both arms measured. Raises BadInput for one run given twice, and for runs of one arm whose content differs."""
    _refuse_repeated([*baseline, *candidate])
    found = {arm: _by_trial(results) for arm, results in (("baseline", baseline), ("candidate", candidate))}
    common = [trial for trial in found["baseline"] if trial in found["candidate"]]
    order = order_of([started(result) for result in baseline], [started(result) for result in candidate])
    several = max(len(baseline), len(candidate)) > 1
    differences = tuple(differences_of(baseline, candidate, [(found["baseline"][t][-1][1], found["candidate"][t][-1][1]) for t in common]))
    environment = [one.what for one in differences if one.machine and one.what in MACHINE]
    cap = (
        TWO_SESSIONS
        if not several
        else None
        if order == "interleaved"
        else f"the runs are {_ordered(order)}: a slow hour looks like a slow arm"
    )
    questions: list[Question] = []
    rows: list[Row | Weighed | None] = []
    for trial in common:
        before, after = found["baseline"][trial], found["candidate"][trial]
        elsewhere = [*environment, *machine_of_trial(before[-1][1], after[-1][1], explained=bool(environment))]
        for rule in rules_for(before[-1], after[-1], tolerances or {}):
            if rule.plugin.kind != "launch":
                rows.append(portable(trial, rule, before[-1], after[-1]))
            elif (question := timing(trial, rule, before, after, several, cap)) is not None:
                if elsewhere:
                    rows.append(told_only(question, f"not compared: another machine ({', '.join(elsewhere)})"))
                else:
                    questions.append(question)
    scored = [row for row in rows if isinstance(row, Weighed)]
    decided = [row.decided(FAMILY_ALPHA / len(scored)) if isinstance(row, Weighed) else row for row in rows if row is not None]
    decided += compare_unpaired(questions)
    decided.sort(key=lambda row: common.index(row.name))
    return DiffReport(
        baseline=_arm(baseline, found["baseline"], several),
        candidate=_arm(candidate, found["candidate"], several),
        order=order if several else "in blocks",
        differences=differences,
        rows=tuple(decided),
        unmatched=tuple(_unmatched(baseline, candidate, found)),
        notes=tuple(_notes(baseline, candidate, found, common)),
        next_steps=tuple(_next_steps(decided, baseline[-1])),
    )


def _refuse_repeated(results: Sequence[RunResult]) -> None:
    ids = [result.id for result in results]
    for identity in ids:
        if ids.count(identity) > 1:
            raise BadInput(Problem(f"run {identity} is given twice: it counts once", hint="name each run once, in one arm"))


def _by_trial(results: Sequence[RunResult]) -> dict[str, list[Record]]:
    """Trials that have numbers, in the order of the runs. Raises BadInput where their content is not the same in all runs of the arm."""
    found: dict[str, list[Record]] = {}
    for result in results:
        for trial in result.trials:
            if trial.estimates and trial.state not in (TrialState.FAILED, TrialState.SKIPPED):
                found.setdefault(trial.id, []).append((result, trial))
    for trial_id, records in found.items():
        digests = {record.content.digest: result.id for result, record in records if record.content is not None}
        if len(digests) > 1:
            one, other = list(digests.values())[:2]
            hint = "give an arm runs of one content: they are sessions of the same thing"
            raise BadInput(Problem(f"{trial_id} is not the same in runs {one} and {other} of one arm: their content differs", hint=hint))
    return found


def _arm(results: Sequence[RunResult], found: Mapping[str, Records], several: bool) -> Arm:
    versions = sorted({result.program_version for result in results})
    launches = max((len(launches_of(records[-1][1])) for records in found.values()), default=0)
    sources = dict.fromkeys(_source(result) for result in results)
    units, units_of = (len(results), RUNS) if several else (launches, LAUNCHES)
    return Arm(tuple(result.id for result in results), f"harness {', '.join(versions)}", units, units_of, tuple(sources))


def _source(result: RunResult) -> str:
    environment = result.environment
    if environment.commit is None:
        return "no commit"
    return f"commit {environment.commit[:12]}{' with uncommitted changes' if environment.dirty else ''}"


def _ordered(order: str) -> str:
    return "in blocks, not in turn" if order == "in blocks" else "of the same second"


def _unmatched(
    baseline: Sequence[RunResult], candidate: Sequence[RunResult], found: Mapping[str, Mapping[str, Records]]
) -> Iterable[Unmatched]:
    arms = {"baseline": baseline, "candidate": candidate}
    for name in dict.fromkeys(trial.id for results in arms.values() for result in results for trial in result.trials):
        missing = []
        for arm, results in arms.items():
            if name not in found[arm]:
                seen = [trial for result in results for trial in result.trials if trial.id == name]
                missing.append(f"in the {arm}: {f'{seen[-1].state}, {seen[-1].reason}' if seen else 'not there'}")
        if missing:
            yield Unmatched(name, "; ".join(missing))


def _notes(
    baseline: Sequence[RunResult], candidate: Sequence[RunResult], found: Mapping[str, Mapping[str, Records]], common: Sequence[str]
) -> Iterable[str]:
    same = [trial for trial in common if len({_digest(found[arm][trial][-1][1]) for arm in found}) == 1]
    if same:
        yield f"same content in both arms, so only the session differs: {', '.join(same)}"
    for arm, results in (("baseline", baseline), ("candidate", candidate)):
        sources = dict.fromkeys(_source(result) for result in results)
        if len(sources) > 1:
            yield f"the runs of the {arm} are of several commits: {', '.join(sources)}"
        for trial, records in found[arm].items():
            unmeasured = [result.id for result, record in records if record.state is TrialState.UNCHANGED]
            if unmeasured:
                yield f"{trial} was UNCHANGED in run {', '.join(unmeasured)}: it was not measured there, and has no timings of it"


def _digest(record: TrialRecord) -> str:
    return record.content.digest if record.content is not None else record.id


def _next_steps(rows: Sequence[Row], base: RunResult) -> Iterable[str]:
    timed = [row for row in rows if row.n_of in (LAUNCHES, RUNS)]
    if not rows:
        yield "No trial was measured in both arms: run the same scenarios in both."
    elif any(row.verdict in (Verdict.INCONCLUSIVE, Verdict.INVALID) for row in timed):
        paths = " ".join(dict.fromkeys(text.path for text in base.scenarios)) or "SCENARIOS"
        commit = base.environment.commit
        if commit is not None and not base.environment.dirty:
            yield f"To decide, measure both side by side: harness gate {paths} --against {commit[:12]}"
        else:
            yield f"To decide, measure both side by side: harness baseline accept {base.id}, then harness gate {paths}"
        yield f"Unpaired launches see less than a gate does; {LEAST_LAUNCHES} or more runs an arm, made in turn, would tell too."
