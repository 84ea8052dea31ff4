"""One trial on its way through a job: what is known of it so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.core.measurement import Failure, Measurement
from harness.engine.build import failure_of
from harness.engine.evaluate import launch_figures, launch_metrics, sample_scores
from harness.engine.routes import Route
from harness.engine.sla import LaunchFigures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.baseline import Baseline
    from harness.core.comparison import Comparison
    from harness.core.errors import BadInput, CannotMeasure
    from harness.core.estimate import Absent
    from harness.core.plan import Trial
    from harness.core.plugin import Predictions
    from harness.core.profile import OperatorTable
    from harness.core.result import QualityChange
    from harness.engine.against import Ref
    from harness.engine.base_arm import BaseArm
    from harness.engine.content import Derivation
    from harness.engine.protocol import Subject

    Scores = Mapping[str, NDArray[np.float64] | Absent]


def figures_of(measurement: Measurement) -> LaunchFigures:
    """What an SLA is checked on, of launches that are there."""
    found = {metric: launch_figures(metric, measurement) for metric in launch_metrics()}
    latencies = [[latency for piece in run.slices for latency in piece.latencies_ns] for run in measurement.runs]
    return LaunchFigures(
        {metric: figures for metric, figures in found.items() if isinstance(figures, list)}, latencies if all(latencies) else ()
    )


@dataclass(slots=True)
class Case:
    """``route`` and ``reason`` say what is done with it; ``failure`` ends it; ``undecided`` says why its timings could not be compared.
    ``against`` is the commit whose content stands in its baseline's place."""

    trial: Trial
    derivation: Derivation
    environment_key: str
    baseline: Baseline | None
    route: Route
    reason: str
    subject: Subject | None = None
    predictions: Predictions | None = None
    scores: Scores = field(default_factory=dict)
    base: BaseArm | None = None
    base_scores: Scores = field(default_factory=dict)
    base_predictions: Predictions | None = None
    measurement: Measurement | None = None
    base_measurement: Measurement | None = None
    comparisons: list[Comparison] = field(default_factory=list)
    failure: Failure | None = None
    undecided: str | None = None
    unreadable: str | None = None
    notes: list[str] = field(default_factory=list)
    operators: OperatorTable | None = None
    quality_change: QualityChange | None = None
    against: Ref | None = None

    @property
    def id(self) -> str:
        return self.trial.id

    @property
    def is_reference(self) -> bool:
        return self.trial.recipe.name == self.trial.source.scenario.reference

    @property
    def content_key(self) -> str:
        """What a launch in the journal belongs to: resumed runs take only launches of the very same content in this environment."""
        return f"{self.derivation.content.digest[:24]}-{self.environment_key}"

    def fail(self, error: BadInput | CannotMeasure, stage: str) -> Failure:
        """Note why this trial cannot go on; the first reason stays."""
        if self.failure is None:
            self.failure = failure_of(error, stage)
        return self.failure

    def score(self, reference: Predictions | None) -> None:
        """Score every sample by every metric that can; fidelity is told against ``reference``."""
        if self.predictions is not None:
            self.scores = sample_scores(self.predictions, reference)
        if self.base_predictions is not None:
            self.base_scores = sample_scores(self.base_predictions, reference)

    def launch_figures(self) -> LaunchFigures | None:
        """What an SLA is checked on: this run's launches, or the accepted ones where nothing changed."""
        if self.measurement is not None and self.measurement.runs:
            return figures_of(self.measurement)
        if self.route is Route.UNCHANGED and self.baseline is not None and (kept := self.baseline.measured.get(self.environment_key)):
            launches = [launch.sample_ns for launch in kept.distribution.launches]
            return LaunchFigures(dict(kept.figures), launches if all(launches) else ())
        return None
