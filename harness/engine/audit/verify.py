"""Whether a bundle is what it says: digests, statement, signature, and every figure once more from the raw data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import __version__
from harness.core.audit import Audit, AuditedClause, LoadLine
from harness.core.errors import BadInput, CannotMeasure
from harness.core.units import Unit, format_value
from harness.engine.audit import raw
from harness.engine.audit.conclude import concluded, launches_of
from harness.engine.audit.make import AUDIT, PAGE, PRINTED, read_audit
from harness.engine.audit.sign import Signed, check_signature
from harness.engine.audit.statement import check_statement
from harness.store.bundles import SIGNATURE, STATEMENT, differences, digest_of, files_of, read_sums
from harness.store.runs import RunFolder

WORDS = ("reason", "method")
"""Sentences that another version of this program may put otherwise."""
CLOSE = 1e-9
"""What other versions of the mathematics libraries may differ by, relative."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of it: all that does not hold, one sentence each; ``audit`` is what the raw data give.

    It is None where they could not be read."""

    problems: tuple[str, ...]
    signed: Signed
    audit: Audit | None
    notes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.problems


def verify(
    bundle: Path, render: Callable[[Audit], bytes], allowed: Path | None = None, signer: str | None = None, today: str = ""
) -> Verification:
    """Check everything that the bundle itself can tell. ``today`` (ISO date) says which waivers have expired since: what they stood for
    is then not kept, so the bundle no longer shows what it says."""
    problems = differences(bundle, read_sums(bundle))
    signed = check_signature(bundle, allowed, signer)
    if signed.holds is False:
        problems.append(signed.told)
    try:
        told = read_audit(bundle)
        found, doubts = concluded(told, bundle)
    except (BadInput, CannotMeasure) as error:
        return Verification((*problems, _one_line(error)), signed, None, ())
    same_program = told.program_version == __version__
    problems += _clause_differences(told, found, same_program)
    problems += _other_differences(told, found)
    problems += _model_differences(found, bundle)
    problems += _record_differences(found, bundle)
    problems += doubts
    problems += _expired(found, today)
    problems += check_statement(
        bundle, found, {name: digest_of(bundle / name) for name in files_of(bundle) if name not in (STATEMENT, SIGNATURE)}
    )
    if same_program and (bundle / PAGE).is_file() and (bundle / PAGE).read_bytes() != render(found):
        problems.append(f"{PAGE}: does not say what the raw data say")
    return Verification(tuple(problems), signed, found, _notes(told, found, bundle, same_program))


def _clause_differences(told: Audit, found: Audit, same_program: bool) -> list[str]:
    """What audit.json tells of the promises otherwise than the raw data."""
    theirs = {(clause.clause, clause.trial): clause for clause in told.clauses}
    ours = {(clause.clause, clause.trial): clause for clause in found.clauses}
    wrong = [
        f"'{clause}' on {trial}: promised by the scenario and missing from {AUDIT}"
        for clause, trial in ours
        if (clause, trial) not in theirs
    ]
    wrong += [
        f"'{clause}' on {trial}: in {AUDIT}, and not promised by the scenario" for clause, trial in theirs if (clause, trial) not in ours
    ]
    if len(theirs) != len(told.clauses):
        wrong.append(f"{AUDIT}: tells a promise twice")
    for key in ours.keys() & theirs.keys():
        wrong += _figure_differences(theirs[key], ours[key], same_program)
    return sorted(wrong)


def _figure_differences(theirs: AuditedClause, ours: AuditedClause, same_program: bool) -> list[str]:
    names = [field.name for field in dataclasses.fields(AuditedClause) if same_program or field.name not in WORDS]
    unlike = [name for name in names if not _same(getattr(theirs, name), getattr(ours, name))]
    figures = [name for name in unlike if name not in WORDS] or unlike
    return [
        f"'{ours.clause}' on {ours.trial}: {name} is {_shown(getattr(theirs, name), name, ours)} in {AUDIT}, "
        f"and {_shown(getattr(ours, name), name, ours)} by the raw data"
        for name in figures
    ]


def _other_differences(told: Audit, found: Audit) -> list[str]:
    theirs, ours = {trial.id: trial for trial in told.trials}, {trial.id: trial for trial in found.trials}
    expected = {clause.trial for clause in found.clauses}
    wrong = [
        f"{trial}: the scenario promises something of it, and {AUDIT} does not tell of it" for trial in sorted(expected - theirs.keys())
    ]
    wrong += [f"{trial}: in {AUDIT}, and not of the scenario" for trial in sorted(theirs.keys() - ours.keys())]
    for name in ours.keys() & theirs.keys():
        for field in ("launches", "queries"):
            if getattr(theirs[name], field) != getattr(ours[name], field):
                wrong.append(f"{name}: {getattr(theirs[name], field)} {field} in {AUDIT}, {getattr(ours[name], field)} in the journal")
        wrong += _load_differences(name, theirs[name].loads, ours[name].loads)
    for field in ("verdict", "waived", "exit_code", "headline", "waivers"):
        if getattr(told, field) != getattr(found, field):
            wrong.append(f"{AUDIT}: {field} is {_plain(getattr(told, field))}, and {_plain(getattr(found, field))} by the raw data")
    return wrong


def _load_differences(trial: str, theirs: tuple[LoadLine, ...], ours: tuple[LoadLine, ...]) -> list[str]:
    """What audit.json tells of the loads over the network otherwise than the records of their requests."""
    if [line.launch for line in theirs] != [line.launch for line in ours]:
        return [f"{trial}: tells of {len(theirs)} loads over the network in {AUDIT}, of {len(ours)} in the journal"]
    return [
        f"{trial}, load of launch {line.launch}: {field.name} is {getattr(told, field.name)} in {AUDIT}, "
        f"and {getattr(line, field.name)} by {line.records}"
        for told, line in zip(theirs, ours, strict=True)
        for field in dataclasses.fields(line)
        if not _same(getattr(told, field.name), getattr(line, field.name))
    ]


def _model_differences(found: Audit, bundle: Path) -> list[str]:
    """Models by their lists of files, and by the files themselves where they are in the bundle."""
    wrong = []
    for trial in found.trials:
        listed = bundle / raw.artifacts_path(trial.id)
        if trial.artifact_sha256 is None or not listed.is_file():
            continue
        if raw.read_artifact(listed).sha256 != trial.artifact_sha256:
            wrong.append(f"{trial.id}: the model's digest does not follow from {raw.artifacts_path(trial.id)}")
        folder = bundle / raw.MODELS / trial.id
        for file in raw.read_model_files(listed) if folder.is_dir() else ():
            path = folder / file.name
            if not path.is_file() or path.stat().st_size != file.size_bytes or digest_of(path) != file.sha256:
                wrong.append(f"{raw.MODELS}/{trial.id}/{file.name}: is not the file that {raw.artifacts_path(trial.id)} lists")
    return wrong


def _record_differences(found: Audit, bundle: Path) -> list[str]:
    """The records of requests that launches under a load over the network name, by their digests."""
    wrong = []
    for trial in found.trials:
        for run in launches_of(RunFolder(bundle / raw.RUN), trial) if trial.launches else ():
            if run.served is not None:
                path = bundle / raw.RUN / run.served.records
                if not path.is_file() or digest_of(path) != run.served.records_sha256:
                    wrong.append(f"{raw.RUN}/{run.served.records}: is not the record that launch {run.pair} of {trial.id} names")
    return wrong


def _notes(told: Audit, found: Audit, bundle: Path, same_program: bool) -> tuple[str, ...]:
    notes = []
    if not same_program:
        notes.append(f"made by harness {told.program_version}, checked by {__version__}: sentences and the page were not compared")
    if (bundle / PRINTED).is_file():
        notes.append(f"{PRINTED} is checked by its digest alone: {PAGE} is the page that was compared")
    if found.dirty is not False:
        notes.append("the source was not a clean commit" if found.commit else "the source was under no version control")
    return tuple(notes)


def _expired(found: Audit, today: str) -> list[str]:
    """Promises that are not kept, and that no waiver stands for any more."""
    return [
        f"'{clause.clause}' on {clause.trial} is {clause.state}, and the waiver of {waiver.who} that stood for it expired on {waiver.until}"
        for clause in found.clauses
        if today and (waiver := clause.waived_by(found.day)) is not None and clause.waived_by(today) is None
    ]


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=0.0)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if dataclasses.is_dataclass(one) and type(one) is type(other):
        return all(_same(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one))
    return one == other


def _shown(value: object, name: str, clause: AuditedClause) -> str:
    if isinstance(value, float) and name in ("value", "bound", "limit"):
        unit = clause.limit_unit if name == "limit" else clause.unit if name == "value" or clause.bound_of == "value" else Unit.FRACTION
        return f"{format_value(value, unit or Unit.NUMBER)} ({value!r})"
    return _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} of them, not the same"
    return f"'{value}'" if isinstance(value, str) and " " in value else str(value)


def _one_line(error: BadInput | CannotMeasure) -> str:
    return " ".join(str(error).split())
