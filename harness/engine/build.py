"""Makes what a trial needs, each piece once: data sets, the artifact step by step, predictions.

Everything runs in workers, and what they made stays in the cache.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from harness.core.artifact import ModelArtifact
from harness.core.errors import BadInput, CannotMeasure
from harness.core.measurement import Failure, FailureReason
from harness.core.plugin import DataRole, Predictions
from harness.engine import protocol
from harness.engine.datasets import read_predictions
from harness.engine.make_plan import cores_of, threads_of
from harness.engine.protocol import Subject
from harness.engine.served import served_of
from harness.engine.workers import THIS_PYTHON, Seat, Worker, WorkerFailed
from harness.store.cache import FOLDER_VARIABLE
from harness.store.files import pretty_json

if TYPE_CHECKING:
    from harness.core.plan import Trial
    from harness.core.progress import Progress
    from harness.engine.content import Derivation, StepKey
    from harness.store.cache import Cache

_ARTIFACT: TypeAdapter[ModelArtifact] = TypeAdapter(ModelArtifact)
ARTIFACT_FILE = "artifact.json"
DATA_FILE = "data.npz"
PREDICTIONS_FILE = "predictions.npz"
DISK_FULL_BYTES = 2**20
"""A build that fails with less than this left failed for want of room, whatever the library called it."""


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds with one interpreter into one cache; ``logs`` is where the output of the model's own code goes."""

    cache: Cache
    logs: Path
    progress: Progress
    python: Path = THIS_PYTHON

    def artifact(self, trial: Trial, derivation: Derivation) -> ModelArtifact:
        """The trial's artifact. Raises WorkerFailed, naming the step, when one cannot be carried out."""
        done: ModelArtifact | None = None
        for step in derivation.steps:
            done = self._step(trial, derivation, step, done)
        assert done is not None
        return done

    def data(self, trial: Trial, derivation: Derivation, role: DataRole) -> Path:
        """The file of a data set. Raises WorkerFailed when its factory fails."""
        scenario, folder, root = trial.source.scenario, trial.source.folder.resolve(), trial.source.root.resolve()

        def make(into: Path) -> None:
            request = protocol.MakeData(scenario.data, role, scenario.seed, folder, root, into / DATA_FILE)
            self._ask(trial, request, f"data.{role}")

        return self.cache.get(derivation.data[role], make, waiting=self._waiting(f"data.{role}")) / DATA_FILE

    def subject(self, trial: Trial, derivation: Derivation, artifact: ModelArtifact) -> Subject:
        """What a worker opens to measure this trial."""
        return Subject(
            artifact=artifact,
            runtime=trial.recipe.runtime,
            load=trial.source.scenario.measure.load,
            scenario_folder=trial.source.folder.resolve(),
            device=trial.target.device,
            threads=threads_of(trial.target),
            cores=cores_of(trial.target),
            batch_size=trial.batch_size,
            data=self.data(trial, derivation, "evaluation"),
            served=served_of(trial, artifact.format),
        )

    def predictions(self, trial: Trial, subject: Subject, key: str) -> Predictions:
        """Outputs of a subject over its evaluation set, kept under ``key``. Raises WorkerFailed when the model fails or gives NaN."""

        def make(into: Path) -> None:
            self.progress.step(f"{trial.id}: predictions")
            times = trial.source.scenario.measure
            seat = Seat("predictions", subject.cores, subject.threads, self._log(trial), self.python)
            with Worker(seat) as worker:
                worker.ask(protocol.Preload(subject), protocol.Done, timeout_s=times.timeout / 1e9)
                worker.ask(protocol.Open(), protocol.Opened, timeout_s=times.timeout / 1e9)
                worker.ask(protocol.Predict(into / PREDICTIONS_FILE), protocol.Done, timeout_s=times.build_timeout / 1e9)
                worker.ask(protocol.Finish(), protocol.Finished, timeout_s=times.timeout / 1e9)

        folder = self.cache.get(key, make, waiting=self._waiting("predictions"))
        return read_predictions(folder / PREDICTIONS_FILE, trial.source.scenario.data.task)

    def _step(self, trial: Trial, derivation: Derivation, step: StepKey, before: ModelArtifact | None) -> ModelArtifact:
        scenario, folder, root = trial.source.scenario, trial.source.folder.resolve(), trial.source.root.resolve()

        def make(into: Path) -> None:
            data: dict[str, Path] = {role: self.data(trial, derivation, role) for role in step.reads}
            request = protocol.BuildStep(
                plugin=step.plugin,
                artifact=before,
                args=scenario.model.args,
                data=data,
                seed=scenario.seed,
                device="cpu",
                scenario_folder=folder,
                root=root,
                into=into,
                remote_code=trial.source.allowed.remote_code,
            )
            built = self._ask(trial, request, step.plugin.name)
            assert isinstance(built, protocol.Built)
            portable = dataclasses.replace(built.artifact, folder=Path())
            (into / ARTIFACT_FILE).write_bytes(pretty_json(_ARTIFACT.dump_python(portable, mode="json")))

        entry = self.cache.get(step.key, make, waiting=self._waiting(step.plugin.name))
        return _artifact_in(entry)

    def _ask(self, trial: Trial, request: protocol.MakeData | protocol.BuildStep, what: str) -> object:
        self.progress.step(f"{trial.id}: {what}")
        seat = Seat("build", cores_of(trial.target), threads_of(trial.target), self._log(trial), self.python)
        kind: type[protocol.Done | protocol.Built] = protocol.Done if isinstance(request, protocol.MakeData) else protocol.Built
        try:
            with Worker(seat) as worker:
                return worker.ask(request, kind, timeout_s=trial.source.scenario.measure.build_timeout / 1e9)
        except WorkerFailed as error:
            full = shutil.disk_usage(self.cache.folder).free < DISK_FULL_BYTES
            message = (
                f"the disk of the artifact cache {self.cache.folder} is full ({error.failure.message}): "
                f"free some space, or point {FOLDER_VARIABLE} elsewhere"
                if full
                else error.failure.message
            )
            raise WorkerFailed(dataclasses.replace(error.failure, stage=f"build, {what}", message=message)) from error

    def _log(self, trial: Trial) -> Path:
        return self.logs / f"{trial.scenario}-{trial.name}-build.log"

    def _waiting(self, what: str) -> _Waiting:
        return _Waiting(self.progress, what)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Told when another process makes the same thing."""

    progress: Progress
    what: str

    def __call__(self) -> None:
        self.progress.step(f"waiting for another process that makes the same {self.what}")


def cached_artifact(cache: Cache, key: str) -> ModelArtifact | None:
    """An artifact that the cache holds already; None where it does not."""
    if not cache.holds(key):
        return None
    return _artifact_in(cache.path(key))


def _artifact_in(entry: Path) -> ModelArtifact:
    return dataclasses.replace(_ARTIFACT.validate_json((entry / ARTIFACT_FILE).read_bytes()), folder=entry)


def failure_of(error: BadInput | CannotMeasure, stage: str) -> Failure:
    """An error as the named failure of one trial: the suite goes on."""
    if isinstance(error, WorkerFailed):
        return error.failure
    told = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    detail = error.__cause__.failure.detail if isinstance(error.__cause__, WorkerFailed) else ""
    return Failure(FailureReason.EXCEPTION, stage, told, detail)
