"""An audit step by step: what can be refused is refused first, then it is measured until proved, then the bundle is written."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness import pipeline
from harness.commands.options import command_line
from harness.core.errors import BadInput, Problem
from harness.engine import toolchain
from harness.engine.audit import sign
from harness.engine.audit.gather import Gathering
from harness.engine.audit.looks import confidence_at, launches_wanted
from harness.engine.audit.make import Claim, check_claim, check_source, make_audit, write_bundle
from harness.engine.audit.page import page_of
from harness.engine.audit.print_page import print_page
from harness.engine.keep_history import keep_release
from harness.engine.read_scenario import read_scenarios
from harness.engine.sla import CONFIDENCE
from harness.store.bundles import is_archive, is_taken, pack, stem_of
from harness.store.cache import Cache, cache_folder, cache_limit
from harness.store.files import write_atomically
from harness.store.runs import RunFolder, Runs

if TYPE_CHECKING:
    from harness.core.audit import Audit
    from harness.core.progress import Progress
    from harness.core.result import RunResult
    from harness.core.scenario import ScenarioFile

BUDGET_S = 600.0
LOOKS = "looks.json"
"""In the run's folder: how many launches a trial had at each look, so that a later audit of it pays for them all."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for. ``archive`` is the one file; the folder of the same name lies beside it."""

    paths: tuple[Path, ...]
    release: str
    archive: Path
    key: Path | None
    run: str | None
    resume: str | None
    budget_s: float
    waivers: Path | None
    allow_dirty: bool
    with_models: bool
    no_pdf: bool
    reports: Path

    @property
    def folder(self) -> Path:
        return stem_of(self.archive)


@dataclass(frozen=True, slots=True)
class Made:
    """The audit, and what to tell of its files."""

    audit: Audit
    told: tuple[str, ...]


def archive_for(output: Path | None, release: str, reports: Path) -> Path:
    """The archive's path. Raises BadInput for a name that no bundle can have, or where one is already."""
    if not release.strip() or not release.isprintable():
        raise BadInput(Problem(f"--release {release!r} is no name", hint="write what people call the release, such as '1.4.0'"))
    named = output or reports / f"audit-{re.sub(r'[^A-Za-z0-9._-]+', '-', release)}.zip"
    archive = named if is_archive(named) else named.with_name(f"{named.name}.zip")
    for path in (stem_of(archive), archive):
        if is_taken(path):
            raise BadInput(
                Problem("is there already: evidence is not written over", path=path, hint="name another --output, or move it away")
            )
    return archive


def paths_of(reports: Path, resume: str | None) -> tuple[Path, ...]:
    """The scenarios that an interrupted audit was begun with."""
    assert resume is not None
    return tuple(Path(path) for path in cast("list[str]", Runs(reports).find(resume).begun().arguments.get("paths", [])))


def carry_out(order: Order, progress: Progress) -> Made:
    """The whole audit."""
    claim = Claim(order.release, _now(), command_line(), order.waivers)
    files = read_scenarios(order.paths)
    if len({file.root for file in files}) > 1:
        raise BadInput(Problem("scenarios of several projects in one audit", hint="audit each on its own: a bundle is of one commit"))
    check_claim(claim, files, allow_dirty=order.allow_dirty)
    if order.key is not None:
        sign.check_key(order.key)
    with tempfile.TemporaryDirectory(prefix="harness-audit-") as scratch:
        measurement = _Audits(order, claim, files, Path(scratch), progress)
        audit, bundle = measurement.of_saved(order.run) if order.run is not None else measurement.until_proved(order.resume)
        progress.step("writing the bundle")
        printed = write_bundle(audit, bundle, page_of(audit), _not_printed if order.no_pdf else print_page)
        if order.key is not None:
            sign.sign(bundle, order.key)
        order.archive.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(bundle, order.folder, dirs_exist_ok=True)
        pack(order.folder, order.archive)
    left_out = keep_release(audit)
    return Made(audit, (*_told(order, audit, printed), *(() if left_out is None else (f"note: {left_out}",))))


@dataclass(frozen=True, slots=True)
class _Audits:
    """Audits of one claim; each is made in a folder of its own under ``scratch``."""

    order: Order
    claim: Claim
    files: Sequence[ScenarioFile]
    scratch: Path
    progress: Progress

    def of_saved(self, name: str) -> tuple[Audit, Path]:
        """Of a run that was measured before, if its source was clean and its content is what the scenarios give now."""
        run = Runs(self.order.reports).find(name)
        result = run.result()
        if not self.order.allow_dirty:
            check_source(result.environment.commit, result.environment.dirty)
        looks = _looks(run)
        if not looks:  # measured as often as its scenario says, whatever came of it: one look
            audit, bundle = self._audit(run, result, (), CONFIDENCE)
            return dataclasses.replace(audit, looks=(_most_launches(audit),)), bundle
        return self._audit(run, result, looks, confidence_at(len(looks)))

    def until_proved(self, resume: str | None) -> tuple[Audit, Path]:
        """Measure as the scenario says, then as many more launches as the promises need, until the budget is spent."""
        name, launches, looks = resume, None, _looks(Runs(self.order.reports).find(resume)) if resume is not None else ()
        if resume is not None and looks:
            run = Runs(self.order.reports).find(resume)
            audit, bundle = self._audit(run, run.result(), looks, confidence_at(len(looks)))
            launches = launches_wanted(audit, looks[-1], confidence_at(len(looks) + 1))
            if launches is None:
                return audit, bundle
        spent_s = 0.0
        while True:
            started = time.monotonic()
            more = () if launches is None else (f"measure.launches={launches}",)
            request = pipeline.Request(self.claim.command, tuple(self.order.paths), self.order.reports, more, resume=name)
            result = pipeline.run(request, self.progress)
            run = Runs(self.order.reports).find(result.id)
            audit, bundle = self._audit(run, result, looks, confidence_at(len(looks) + 1))
            before, now = looks[-1] if looks else 0, _most_launches(audit)
            looks = (*looks, now)
            audit = dataclasses.replace(audit, looks=looks)
            write_atomically(run.path / LOOKS, json.dumps(looks).encode())
            took_s = time.monotonic() - started
            spent_s += took_s if launches is not None else 0.0  # the scenario's own launches are no extra
            wanted = launches_wanted(audit, now, confidence_at(len(looks) + 1)) if now > before else None
            affordable = now + int((self.order.budget_s - spent_s) * max(1, now - before) / took_s)
            if wanted is None or affordable <= now:
                return audit, bundle
            name, launches = result.id, min(wanted, affordable)

    def _audit(self, run: RunFolder, result: RunResult, looks: tuple[int, ...], confidence: float) -> tuple[Audit, Path]:
        bundle = Path(tempfile.mkdtemp(dir=self.scratch)) / "bundle"
        bundle.mkdir()
        with Cache(cache_folder(), cache_limit()) as cache:
            gathering = Gathering(self.files, result, run, cache, toolchain.installed(), self.order.with_models)
            audit = make_audit(self.claim, gathering, looks, confidence, bundle)
        return audit, bundle


def _not_printed(page: Path, pdf: Path) -> bool:
    return False


def _most_launches(audit: Audit) -> int:
    return max((trial.launches for trial in audit.trials), default=0)


def _looks(run: RunFolder) -> tuple[int, ...]:
    try:
        return tuple(json.loads((run.path / LOOKS).read_bytes()))
    except FileNotFoundError:
        return ()


def _told(order: Order, audit: Audit, printed: bool) -> list[str]:
    told = [""]
    if audit.exit_code == 3 and order.run is None:
        told.append(
            f"where promises are unproven, a larger --budget goes on: harness audit --resume {audit.run} --release {order.release} ..."
        )
    told += [f"bundle: {order.archive}, and the same as a folder: {order.folder}", f"report: {order.folder / 'report.html'}"]
    if not printed and not order.no_pdf:
        told.append("no PDF: Chromium was not found or did not print; the page prints well from any browser")
    return told


def _now() -> str:
    """Now, or the moment that SOURCE_DATE_EPOCH names, so that a bundle can be made again byte by byte."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
    return now.isoformat(timespec="seconds")
