"""Makes a bundle: raw data, what follows from them, the page, the list of digests, the statement."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from harness import __version__
from harness.core.audit import SCHEMA, Audit, AuditedScenario
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.engine.audit.conclude import concluded, promises_of
from harness.engine.audit.statement import write_statement
from harness.engine.audit.waivers import check_waivers
from harness.engine.keep_history import project_of
from harness.engine.read_environment import read_commit
from harness.engine.read_scenario import WAIVERS_FILE
from harness.store.bundles import write_sums
from harness.store.files import pretty_json, write_atomically

if TYPE_CHECKING:
    from harness.core.scenario import ScenarioFile
    from harness.engine.audit.gather import Gathering

AUDIT, PAGE, PRINTED, READ_ME = "audit.json", "report.html", "report.pdf", "README.txt"
WAIVERS = "waivers"
RAISED = "measured with --set measure.launches="
"""A note about what the audit itself asked for: its looks tell it better."""
AUDITS: TypeAdapter[Audit] = TypeAdapter(Audit)
HOW_TO_CHECK = """\
Evidence for the service level of one release, made by 'harness audit'.

report.html         the verdict, every promise, the evidence, and how each number is computed; report.pdf is the same, printed
audit.json          the same facts for programs
run/                every launch that was measured, with every latency in ns (launches.jsonl)
samples/            every evaluation sample: label, answer, scores
artifacts/          the model's files: bytes and SHA-256; the files themselves are under models/ where they were asked for
source/             the scenario as it was, with what it builds on; compare it with the commit that audit.json names
waivers/            who puts up with what, where anybody does
SHA256SUMS          sha256sum --check SHA256SUMS
statement.json      an in-toto statement over all of these
statement.json.sig  its SSH signature, where it was signed:
                    ssh-keygen -Y verify -f allowed_signers -I WHO -n harness-audit -s statement.json.sig < statement.json

harness audit verify FOLDER computes every figure again from the raw data. docs/audit.md of harness says how to do it by hand.
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """What an audit is of. ``waivers`` is the file that was named, None for the ``waivers.yaml`` beside each scenario."""

    release: str
    audited_at: str
    command: str
    waivers: Path | None = None


def check_claim(claim: Claim, files: Sequence[ScenarioFile], *, allow_dirty: bool) -> None:
    """What can be refused before anything is measured: no promises, a waiver of nothing, source that no commit stands for.

    Raises BadInput with all that is wrong.
    """
    problems = [
        Problem("promises nothing: there is no 'sla' to audit", file.path, hint="write one, such as 'latency_p99: at most 50 ms'")
        for file in files
        if not file.scenario.sla
    ]
    for files_of_it, path in _waiver_files(claim, files).items():
        told = [(clause.text, trial.id) for file in files if file.scenario.name in files_of_it for clause, trial in promises_of(file)]
        try:
            check_waivers(path, told)
        except BadInput as error:
            problems += error.problems
    if problems:
        raise BadInput(*problems)
    if not allow_dirty:
        check_source(*read_commit(files[0].root))


def check_source(commit: str | None, dirty: bool | None) -> None:
    """Raises BadInput where no commit stands for the source."""
    if commit is None:
        what, hint = "this source is under no version control: no commit stands for it", "commit it to git"
    elif dirty is not False:
        what, hint = f"the source differs from commit {commit[:12]}: what was measured could not be found again", "commit the changes"
    else:
        return
    raise BadInput(Problem(what, hint=f"{hint}, or audit it as it is with --allow-dirty: the report says so"))


def make_audit(claim: Claim, gathering: Gathering, looks: tuple[int, ...], confidence: float, bundle: Path) -> Audit:
    """Fill an empty folder with raw data, and conclude from them.

    Raises CannotMeasure where the records of requests do not give what the journal tells: such a run is no evidence.
    """
    files, result = gathering.files, gathering.result
    trials = gathering.into(bundle)
    waiver_files: dict[str, str] = {}
    for names, path in _waiver_files(claim, files).items():
        place = f"{WAIVERS}/{'-'.join(names) if claim.waivers is None else 'all'}.yaml"
        write_atomically(bundle / place, path.read_bytes())
        waiver_files |= dict.fromkeys(names, place)
    audit = Audit(
        schema=SCHEMA,
        program_version=__version__,
        release=claim.release,
        audited_at=claim.audited_at,
        project=project_of(files[0].root),
        commit=result.environment.commit,
        dirty=result.environment.dirty,
        run=result.id,
        command=claim.command,
        measured_from=result.started_at,
        measured_until=result.finished_at,
        environment=result.environment,
        looks=looks,
        confidence=confidence,
        scenarios=tuple(
            AuditedScenario(file.scenario.name, file.path.resolve().relative_to(file.root.resolve()).as_posix()) for file in files
        ),
        waiver_files=waiver_files,
        trials=trials,
        notes=tuple(note for note in result.notes if not note.startswith(RAISED)),
    )
    audit, doubts = concluded(audit, bundle)
    if doubts:
        more = f" (and {len(doubts) - 1:,} more)" if len(doubts) > 1 else ""
        raise CannotMeasure(f"{doubts[0]}{more}", hint="measure anew, as the scenario says: leave --run and --set out")
    return audit


def _waiver_files(claim: Claim, files: Sequence[ScenarioFile]) -> Mapping[tuple[str, ...], Path]:
    """The files of waivers, by the names of the scenarios that each is for."""
    if claim.waivers is not None:
        return {tuple(file.scenario.name for file in files): claim.waivers}
    found: dict[Path, tuple[str, ...]] = {}
    for file in files:
        path = file.folder / WAIVERS_FILE
        if path.is_file():
            found[path] = (*found.get(path, ()), file.scenario.name)
    return {names: path for path, names in found.items()}


def write_bundle(audit: Audit, bundle: Path, page: bytes, printed: Callable[[Path, Path], bool]) -> bool:
    """Write what is told beside the raw data, then the digests and the statement; whether the page was printed as PDF."""
    write_atomically(bundle / AUDIT, pretty_json(AUDITS.dump_python(audit, mode="json")))
    write_atomically(bundle / PAGE, page)
    write_atomically(bundle / READ_ME, HOW_TO_CHECK.encode())
    as_pdf = printed(bundle / PAGE, bundle / PRINTED)
    write_statement(bundle, audit, write_sums(bundle))
    return as_pdf


def read_audit(bundle: Path) -> Audit:
    """What a bundle tells. Raises CannotMeasure where it tells nothing that this program reads."""
    try:
        data = (bundle / AUDIT).read_bytes()
    except OSError as error:
        raise CannotMeasure(f"{AUDIT} is missing", hint="is this a bundle that 'harness audit' wrote?") from error
    try:
        schema = json.loads(data).get("schema")
        if schema != SCHEMA:
            raise CannotMeasure(f"{AUDIT} has schema {schema!r}, this program reads {SCHEMA}")
        return AUDITS.validate_json(data)
    except (ValidationError, ValueError, AttributeError) as error:
        raise CannotMeasure(f"{AUDIT} is damaged: {str(error).splitlines()[0]}") from error
