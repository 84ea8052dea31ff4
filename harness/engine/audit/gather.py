"""Puts the raw data of a run into a bundle's folder: the journal as it is, samples and model files from the artifact cache, the sources."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.audit import AuditedTrial
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.estimate import Absent, Estimate
from harness.core.plan import Trial
from harness.core.result import TrialState
from harness.engine.audit import raw
from harness.engine.audit.conclude import MEASURED, cells
from harness.engine.build import PREDICTIONS_FILE, cached_artifact
from harness.engine.content import derive
from harness.engine.datasets import read_predictions
from harness.engine.evaluate import artifact_estimates, sample_estimates, sample_scores
from harness.engine.read_scenario import files_read
from harness.engine.routes import version_changes
from harness.store.runs import LAUNCHES

if TYPE_CHECKING:
    from harness.core.artifact import ModelArtifact
    from harness.core.plugin import Predictions
    from harness.core.result import RunResult, TrialRecord
    from harness.core.scenario import ScenarioFile
    from harness.engine.content import Derivation
    from harness.engine.toolchain import Toolchain
    from harness.store.cache import Cache
    from harness.store.runs import RunFolder

UNMEASURED_HERE = "unchanged since its baseline, so this run did not measure it: audit without --run"


@dataclasses.dataclass(frozen=True, slots=True)
class Gathering:
    """What raw data are taken from. ``with_models`` puts the model files themselves into the bundle too."""

    files: Sequence[ScenarioFile]
    result: RunResult
    run: RunFolder
    cache: Cache
    toolchain: Toolchain
    with_models: bool

    def into(self, bundle: Path) -> tuple[AuditedTrial, ...]:
        """Write the raw data of every trial; what else is known of each.

        Raises BadInput where the content of a trial is not the one that the run measured, and CannotMeasure where the cache no longer
        holds what it measured.
        """
        self.check_content()
        for path in dict.fromkeys(path for file in self.files for path in files_read(file.path)):
            _copy(path, bundle / raw.SOURCE / path.resolve().relative_to(self.files[0].root.resolve()))
        _copy(self.run.path / LAUNCHES, bundle / raw.RUN / LAUNCHES)
        for name in named_files(self.run):
            _copy(self.run.path / name, bundle / raw.RUN / name)
        return tuple(self._trial(trial, bundle) for file in self.files for trial in cells(file))

    def check_content(self) -> None:
        """Whether the run measured what the scenarios give now, trial by trial. Raises BadInput with all that differ."""
        records = {record.id: record for record in self.result.trials}
        problems = []
        for file in self.files:
            for trial in cells(file):
                record = records.get(trial.id)
                if record is None:
                    problems.append(
                        Problem(f"run {self.result.id} has no trial {trial.id}", file.path, hint="measure anew: leave --run out")
                    )
                elif record.content is not None:
                    derivation = derive(trial, self.toolchain)
                    if derivation.content.digest != record.content.digest:
                        problems.append(_other_content(trial, record, derivation, self.result.id))
        if problems:
            raise BadInput(*problems)

    def _trial(self, trial: Trial, bundle: Path) -> AuditedTrial:
        record = next(record for record in self.result.trials if record.id == trial.id)
        told = AuditedTrial(
            id=record.id,
            state=record.state,
            reason=UNMEASURED_HERE if record.state is TrialState.UNCHANGED else record.reason,
            content=record.content,
            environment_key=record.environment_key,
            runtime=record.runtime,
            passes=record.passes,
            facts=record.facts,
            steps=record.steps,
            failures=tuple(failure.message for failure in record.failures),
            notes=record.notes,
        )
        if record.state not in MEASURED or record.content is None:
            return told
        derivation = derive(trial, self.toolchain)
        artifact, predictions = self._artifact(trial, derivation), self._predictions(trial, derivation)
        scores = sample_scores(predictions, self._reference(trial))
        self._check_same(trial, record, artifact, scores)
        files = raw.model_files(artifact)
        _write(bundle / raw.artifacts_path(trial.id), raw.artifacts_csv(files))
        table = raw.samples_csv(predictions, scores)
        if table is not None:
            _write(bundle / raw.samples_path(trial.id), table)
        if self.with_models:
            for one in files:
                _copy(artifact.folder / one.name, bundle / raw.MODELS / trial.id / one.name)
        return dataclasses.replace(
            told,
            key=f"{record.content.digest[:24]}-{record.environment_key}",
            artifact_sha256=artifact.sha256,
            absent=tuple(score for score in scores.values() if isinstance(score, Absent)),
        )

    def _artifact(self, trial: Trial, derivation: Derivation) -> ModelArtifact:
        artifact = cached_artifact(self.cache, derivation.steps[-1].key)
        if artifact is None:
            raise _gone(f"the model that run {self.result.id} measured as {trial.id}")
        return artifact

    def _predictions(self, trial: Trial, derivation: Derivation) -> Predictions:
        if not self.cache.holds(derivation.predictions):
            raise _gone(f"the predictions that run {self.result.id} scored as {trial.id}")
        return read_predictions(self.cache.path(derivation.predictions) / PREDICTIONS_FILE, trial.source.scenario.data.task)

    def _reference(self, trial: Trial) -> Predictions | None:
        """The reference recipe's predictions on the same samples, as the run took them; None where it has none."""
        scenario = trial.source.scenario
        if scenario.reference is None:
            return None
        wanted = Trial(trial.source, scenario.recipes[scenario.reference], trial.target, trial.batch_size)
        record = next((record for record in self.result.trials if record.id == wanted.id), None)
        if record is None or record.state not in MEASURED:
            return None
        return self._predictions(wanted, derive(wanted, self.toolchain))

    def _check_same(self, trial: Trial, record: TrialRecord, artifact: ModelArtifact, scores: Mapping[str, object]) -> None:
        """What the cache holds now is what the run told of: it may have been thrown away and made again meanwhile."""
        seed = trial.source.scenario.seed
        found = [*artifact_estimates(artifact), *sample_estimates(dict(scores), seed)]  # type: ignore[arg-type]
        for estimate in found:
            told = record.estimate(estimate.metric)
            if isinstance(estimate, Estimate) and told is not None and told.value != estimate.value:
                raise _gone(f"the model that run {self.result.id} measured as {trial.id} (its {estimate.metric} is another now)")


def named_files(run: RunFolder) -> list[str]:
    """The files of a run's folder that its launches name, by path, such as the records of a load's requests."""
    found = set()
    with (run.path / LAUNCHES).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a torn last line
            for text in _texts(event.get("run", {}) if isinstance(event, dict) else {}):
                if 0 < len(text) < 500 and "\0" not in text and text != LAUNCHES and _is_inside(run.path, text):
                    found.add(text)
    return sorted(found)


def _is_inside(folder: Path, name: str) -> bool:
    path = folder / name
    try:
        return path.is_file() and not path.is_symlink() and path.resolve().is_relative_to(folder.resolve()) and ".." not in Path(name).parts
    except OSError:
        return False


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list) and value and not isinstance(value[0], int):  # latencies are long, and no names
        for item in value:
            yield from _texts(item)


def _other_content(trial: Trial, record: TrialRecord, derivation: Derivation, run: str) -> Problem:
    assert record.content is not None
    now = derivation.content
    if now.source != record.content.source:
        what = "code, data, options or files of it changed"
    else:
        common = {name: record.content.toolchain.get(name, "none") for name in now.toolchain}
        what = "; ".join(version_changes(common, now.toolchain)) or "versions changed"
    hint = "measure anew: leave --run out; or check out the commit that the run measured"
    return Problem(f"run {run} measured another content of {trial.id}: {what}", trial.source.path, hint=hint)


def _gone(what: str) -> CannotMeasure:
    return CannotMeasure(f"{what} is no longer in the artifact cache", hint="measure anew: leave --run out")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
