"""Which trials of which runs did the same work, and what differs in those that did not."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.core.purchase import LeftOut, Work
from harness.core.result import RunResult, TrialRecord, TrialState
from harness.engine.compare_machines.read_runs import Named

MOST_LINES = 12
"""Of a scenario's text that differ, told one by one."""
_WHOLE = "digest of everything"


@dataclass(frozen=True, slots=True)
class Measured:
    """A trial that was measured in a run. ``machine`` is the name of its machine, empty until machines are told apart."""

    given: Named
    trial: TrialRecord
    machine: str = ""

    @property
    def result(self) -> RunResult:
        return self.given.result

    @property
    def work(self) -> Work:
        trial = self.trial
        return Work(trial.scenario, trial.recipe, trial.batch_size, trial.load)

    @property
    def parts(self) -> Mapping[str, str]:
        """What it was made of, without the machine. A run from before parts were kept has one: the digest of all, the target in it."""
        if self.trial.parts:
            return self.trial.parts
        return {_WHOLE: self.trial.content.source if self.trial.content else "unknown"}


def measured_in(given: Sequence[Named]) -> list[Measured]:
    """Trials with timings of their own run: an UNCHANGED one was not measured in it."""
    states = (TrialState.MEASURED, TrialState.NEW)
    return [Measured(one, trial) for one in given for trial in one.result.trials if trial.state in states and trial.estimates]


def unmeasured_in(given: Sequence[Named]) -> Iterable[str]:
    """Every trial that has no timings in its run, and why."""
    for one in given:
        for trial in one.result.trials:
            if trial.state in (TrialState.UNCHANGED, TrialState.FAILED):
                yield f"{trial.id} has no timings in run {one.result.id}: {trial.state}, {trial.reason}"


def same_work(records: Sequence[Measured]) -> tuple[list[Measured], list[LeftOut]]:
    """Those that are compared, and the others with what differs.

    Of every work the version that most machines measured is compared, of equally many the newest.
    """
    kept: list[Measured] = []
    left_out: list[LeftOut] = []
    by_work: dict[Work, list[Measured]] = defaultdict(list)
    for record in records:
        by_work[record.work].append(record)
    for members in by_work.values():
        versions: dict[tuple[tuple[str, str], ...], list[Measured]] = defaultdict(list)
        for record in members:
            versions[tuple(sorted(record.parts.items()))].append(record)
        chosen = max(versions.values(), key=lambda version: (len({one.machine for one in version}), _newest(version)))
        kept += chosen
        others = [record for version in versions.values() if version is not chosen for record in version]
        left_out += [_left_out(record, chosen[-1], len({one.machine for one in chosen})) for record in others]
    return kept, left_out


def _newest(version: Sequence[Measured]) -> str:
    return max(record.result.started_at for record in version)


def _left_out(record: Measured, other: Measured, machines: int) -> LeftOut:
    when = "later" if record.result.started_at > other.result.started_at else "earlier"
    others = f"{machines} {'machine' if machines == 1 else 'machines'}, such as run {other.result.id}"
    return LeftOut(
        run=record.result.id,
        machine=record.machine,
        work=record.work,
        started_at=record.result.started_at,
        reason=f"another state of the scenario, measured {when}: not the work of {others}",
        differences=tuple(differences(record, other)),
    )


def differences(record: Measured, other: Measured) -> Iterable[str]:
    """What went into a trial and not into the other: parts, lines of the scenario, versions, ``--set``; the trial's own side first."""
    mine, theirs = record.parts, other.parts
    if (_WHOLE in mine) != (_WHOLE in theirs):
        old = record if _WHOLE in mine else other
        yield f"run {old.result.id} is from before runs kept what a trial is made of, part by part: measure it again to compare it"
    else:
        for name in dict.fromkeys([*mine, *theirs]):
            before, after = mine.get(name, "not there"), theirs.get(name, "not there")
            if before != after:
                yield f"{name}: {before} here, {after} there"
    yield from scenario_lines(record, other)
    yield from versions_of(record, other)
    overridden = [note for note in record.result.notes if note.startswith("measured with --set")]
    yield from overridden


def scenario_lines(record: Measured, other: Measured) -> Iterable[str]:
    """Lines that only one of the two scenario texts has."""
    first, second = (_text(one).splitlines() for one in (record, other))
    changed = [
        f"scenario: '{line[2:].strip()}' only {'here' if line[0] == '-' else 'there'}"
        for line in difflib.ndiff(first, second)
        if line[0] in "-+" and line[2:].strip()
    ]
    yield from changed[:MOST_LINES]
    if len(changed) > MOST_LINES:
        yield f"scenario: {len(changed) - MOST_LINES} more lines"


def versions_of(record: Measured, other: Measured) -> Iterable[str]:
    """Versions of packages, Python and this program's plugins that are not the same."""
    mine, theirs = all_versions(record), all_versions(other)
    for name in sorted(mine.keys() & theirs.keys()):
        if mine[name] != theirs[name]:
            yield f"version of {name}: {mine[name]} here, {theirs[name]} there"


def all_versions(record: Measured) -> dict[str, str]:
    environment = record.result.environment_of(record.trial)
    inside = record.trial.content.toolchain if record.trial.content else {}
    return {**environment.packages, **inside, "harness": record.result.program_version, "python": environment.python}


def _text(record: Measured) -> str:
    return next((text.text for text in record.result.scenarios if text.name == record.trial.scenario), "")
