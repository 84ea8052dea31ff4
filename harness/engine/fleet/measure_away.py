"""The trials of a run that are measured on a fleet, as parts of that run."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.comparison import Verdict
from harness.core.measurement import Measurement
from harness.core.program import program
from harness.core.result import TrialRecord, TrialState
from harness.engine.case import figures_of
from harness.engine.content import derive, files_read
from harness.engine.fleet.order import Order, order_line
from harness.engine.fleet.pack_project import pack_project
from harness.engine.fleet.read_fleet import read_fleet
from harness.engine.fleet.send_shares import Fate, send_shares
from harness.engine.fleet.shares import shares_of
from harness.engine.record import unmeasured_record
from harness.store.run_archives import import_run
from harness.store.runs import LAUNCHES, PARTS, RESULT, RunFolder, Runs

if TYPE_CHECKING:
    from harness.core.fleet import Node
    from harness.core.plan import Plan
    from harness.core.result import RunResult
    from harness.engine.fleet.shares import Share
    from harness.engine.job import Job
    from harness.engine.sla import LaunchFigures


@dataclass(frozen=True, slots=True)
class Away:
    """What came back: a record of every trial that went away, the figures that an SLA is checked on, and what is told of the whole."""

    records: tuple[TrialRecord, ...] = ()
    figures: Mapping[str, LaunchFigures] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


NOWHERE = Away()


def measure_away(job: Job, plan: Plan, on: str, *, overrides: Sequence[str], remote_code: bool, retries: int) -> tuple[Away, Plan]:
    """Measure the trials whose targets have labels on the fleet that ``on`` names, and the plan of what is left.

    What came back of an interrupted run is kept: a share that was finished is not measured again, and one that was not goes on where the
    same node is given it again.
    """
    shares = shares_of(plan.skipped)
    if not shares:
        return dataclasses.replace(NOWHERE, notes=(f"no target names labels, so no trial went to {on}",)), plan
    gone = {trial.id for share in shares for trial in share.trials}
    rest = dataclasses.replace(plan, skipped=tuple(item for item in plan.skipped if item.trial.id not in gone))
    root = shares[0].trials[0].source.root
    needed = [path for share in shares for path in files_read(share.trials[0], job.toolchain)]
    parts = _Parts(job, pack_project(root, needed), tuple(overrides), remote_code, root)
    source = read_fleet(on)
    finished = {share.name: found for share in shares if (found := parts.finished(share, failed=False)) is not None}
    waiting = [share for share in shares if share.name not in finished]
    fates: list[Fate] = []
    if waiting:
        job.progress.phase(f"Measuring on {on}", sum(len(share.trials) for share in waiting))
        with source.open() as fleet:
            fates = send_shares(fleet, waiting, parts, job.progress, retries=retries)
    finished |= {fate.share.name: found for fate in fates if fate.node and (found := parts.finished(fate.share)) is not None}
    losses = {fate.share.name: fate for fate in fates}
    records: list[TrialRecord] = []
    figures: dict[str, LaunchFigures] = {}
    for share in shares:
        if share.name in finished:
            name, folder = finished[share.name]
            records += parts.take_over(share, name, folder, losses.get(share.name))
            figures |= _figures(share, folder)
        else:
            reason = losses[share.name].reason or "its node sent no result"
            records += [unmeasured_record(trial, reason) for trial in share.trials]
    where = sorted({name for name, _ in finished.values()})
    told = f"{len(gone)} {'trial' if len(gone) == 1 else 'trials'} went to {on}" + (f", measured on {', '.join(where)}" if where else "")
    return Away(tuple(records), figures, (told,)), rest


class _Parts:
    """What nodes send, under ``parts/SHARE/DIGEST/NODE`` of the run's folder; the digest is over the content of the share's trials and how
    they are measured."""

    def __init__(self, job: Job, project: bytes, overrides: tuple[str, ...], remote_code: bool, root: Path) -> None:
        self.job, self.project, self.overrides, self.remote_code, self.root = job, project, overrides, remote_code, root
        self.digests: dict[str, str] = {}

    def order(self, share: Share, node: Node) -> tuple[bytes, bytes]:
        journal = self._of(share, node) / LAUNCHES
        order = Order(
            program=program(),
            project_bytes=len(self.project),
            scenario=share.trials[0].source.path.resolve().relative_to(self.root).as_posix(),
            trials=tuple(trial.id for trial in share.trials),
            overrides=self.overrides,
            labels=node.labels,
            remote_code=self.remote_code,
            earlier=journal.read_text(encoding="utf-8") if journal.is_file() else "",
        )
        journal.unlink(missing_ok=True)  # the node sends all of it again
        return order_line(order), self.project

    def lines(self, share: Share, node: Node, text: str) -> int:
        folder = self._of(share, node)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LAUNCHES).open("a", encoding="utf-8") as file:
            file.write(text)
        return text.count('"kind":"launch"')

    def done(self, share: Share, node: Node, archive: bytes) -> None:
        folder = self._of(share, node)
        folder.mkdir(parents=True, exist_ok=True)
        for older in folder.glob(f"*/{RESULT}"):
            shutil.rmtree(older.parent)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".arriving-") as file:
            file.write(archive)
            file.flush()
            import_run(Path(file.name), Runs(folder))

    def finished(self, share: Share, *, failed: bool = True) -> tuple[str, RunFolder] | None:
        """The node's name and its run, of a share that was measured to the end; with ``failed``, also where a trial of it failed."""
        for path in sorted(self._folder(share).glob(f"*/*/{RESULT}")):
            folder = RunFolder(path.parent)
            trials = folder.result().trials
            ids = {trial.id for trial in trials if failed or trial.state is TrialState.MEASURED}
            if ids == {trial.id for trial in share.trials}:
                return path.parent.parent.name, folder
        return None

    def take_over(self, share: Share, node: str, folder: RunFolder, fate: Fate | None) -> list[TrialRecord]:
        """The records of a part, each with the machine that it was measured on; its launches and logs go to where the run's own are."""
        result = folder.result()
        self.job.folder.add_launches(folder)
        for trial in share.trials:
            logs = f"{trial.scenario}-{trial.name}"
            if (folder.logs / logs).is_dir():
                shutil.copytree(folder.logs / logs, self.job.folder.logs / logs, dirs_exist_ok=True)
        lost = tuple(f"{loss}; all was measured again on {node}" for loss in (fate.losses if fate else ()))
        here = self.job.environment
        machine = dataclasses.replace(result.environment, commit=here.commit, dirty=here.dirty)  # of the files that were sent
        notes = (f"measured on node {node}", *lost, *_busy(result))
        return [dataclasses.replace(trial, environment=machine, notes=(*trial.notes, *notes)) for trial in map(_failed, result.trials)]

    def _of(self, share: Share, node: Node) -> Path:
        return self._folder(share) / re.sub(r"[^A-Za-z0-9._-]+", "-", node.name)

    def _folder(self, share: Share) -> Path:
        if share.name not in self.digests:
            facts = [derive(trial, self.job.toolchain).content.digest for trial in share.trials]
            facts.append(share.trials[0].source.scenario.model_dump_json())
            self.digests[share.name] = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        return self.job.folder.path / PARTS / share.name / self.digests[share.name]


def _failed(trial: TrialRecord) -> TrialRecord:
    """A trial that the node skipped: nobody else has it, so it is no trial for another machine but one that was not measured."""
    if trial.state is not TrialState.SKIPPED:
        return trial
    return dataclasses.replace(trial, state=TrialState.FAILED, verdict=Verdict.INVALID, reason=f"its node did not fit: {trial.reason}")


def _busy(result: RunResult) -> tuple[str, ...]:
    return tuple(note for note in result.notes if "busy" in note)


def _figures(share: Share, folder: RunFolder) -> dict[str, LaunchFigures]:
    """Every launch's figures of what was measured, as the engine has them of its own launches."""
    found = {}
    records = {record.id: record for record in folder.result().trials}
    for trial in share.trials:
        record = records[trial.id]
        if record.content is None or record.environment_key is None:
            continue
        runs = folder.whole_pairs(trial.id, f"{record.content.digest[:24]}-{record.environment_key}", 1).get("candidate", [])
        if runs:
            found[trial.id] = figures_of(Measurement(trial.id, trial.batch_size, record.load, tuple(runs)))
    return found
