"""Raw measurements to numbers: asks every metric there is, and keeps the reason where one has no value."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, cast

from harness import plugins
from harness.core.estimate import Absent, ConfidenceInterval, Estimate
from harness.core.measurement import Measurement, Run
from harness.core.result import QUANTILES, Distribution, LaunchSketch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.artifact import ModelArtifact
    from harness.core.plugin import ExactMetric, LaunchMetric, Predictions, SampleMetric

    Metric = LaunchMetric | SampleMetric | ExactMetric

LEVEL = 0.95
SAMPLE_LIMIT = 2_000


@cache
def metric_of(name: str) -> Metric:
    """The metric of a name, made once."""
    return cast("Metric", plugins.load("metrics", name)())


def launch_estimates(measurement: Measurement, level: float = LEVEL) -> list[Estimate | Absent]:
    """Every metric of launches: the mean of the launches' figures with a t interval over launches."""
    from harness.stats.independent import mean_interval

    found: list[Estimate | Absent] = []
    for name, metric in _metrics("launch"):
        metric = cast("LaunchMetric", metric)
        figures = launch_figures(name, measurement)
        if isinstance(figures, Absent):
            found.append(figures)
        elif len(figures) < 2:
            found.append(Absent(name, f"{len(figures)} launch: at least 2 are needed for an interval"))
        else:
            interval = mean_interval(figures, level)
            value = sum(figures) / len(figures)
            found.append(Estimate(name, metric.unit, metric.better, value, interval, len(figures), "launches"))
    return found


def artifact_estimates(artifact: ModelArtifact) -> list[Estimate | Absent]:
    """Every exact metric of an artifact."""
    found: list[Estimate | Absent] = []
    for name, metric in _metrics("exact"):
        value = cast("ExactMetric", metric).of_artifact(artifact)
        found.append(Estimate(name, metric.unit, metric.better, value, None, 1, "artifact"))
    return found


def sample_scores(predictions: Predictions, reference: Predictions | None) -> dict[str, NDArray[np.float64] | Absent]:
    """Every metric of evaluation samples: its score of each sample, or why there is none."""
    return {name: cast("SampleMetric", metric).scores(predictions, reference) for name, metric in _metrics("sample")}


def sample_estimates(scores: dict[str, NDArray[np.float64] | Absent], seed: int) -> list[Estimate | Absent]:
    """The mean of each metric's scores; exact for this set, the interval (95 %) tells what other samples like these would give."""
    import numpy as np

    from harness.stats import binomial, bootstrap

    found: list[Estimate | Absent] = []
    for name, values in scores.items():
        metric = metric_of(name)
        if isinstance(values, Absent):
            found.append(values)
            continue
        if np.isin(values, (0.0, 1.0)).all():
            low, high = binomial.share_interval(int(values.sum()), len(values), LEVEL)
            interval = ConfidenceInterval(low, high, LEVEL)
        else:
            interval = bootstrap.mean_interval(values, LEVEL, np.random.default_rng(seed))
        found.append(Estimate(name, metric.unit, metric.better, float(values.mean()), interval, len(values), "samples"))
    return found


def launch_figures(metric: str, measurement: Measurement) -> list[float] | Absent:
    """Each launch's figure of one metric, in order; Absent with the first launch's reason when one has none."""
    plugin = cast("LaunchMetric", metric_of(metric))
    figures: list[float] = []
    for run in measurement.runs:
        figure = plugin.of_run(run, measurement.batch_size)
        if isinstance(figure, Absent):
            return figure
        figures.append(figure)
    return figures if figures else Absent(metric, "no launch was measured")


def launch_log_ratios(metric: str, baseline: Measurement, candidate: Measurement) -> list[float] | Absent:
    """One log ratio (candidate / baseline) for each launch pair that both arms have."""
    plugin = cast("LaunchMetric", metric_of(metric))
    others = {run.pair: run for run in baseline.runs}
    ratios: list[float] = []
    for run in candidate.runs:
        if run.pair in others:
            ratio = plugin.log_ratio(others[run.pair], run, candidate.batch_size)
            if isinstance(ratio, Absent):
                return ratio
            ratios.append(ratio)
    return ratios if ratios else Absent(metric, "no launch pair was measured")


def launch_metrics() -> tuple[str, ...]:
    """The names of all metrics of launches."""
    return tuple(name for name, _ in _metrics("launch"))


def sketch(measurement: Measurement, arm: str) -> Distribution:
    """A measurement in little: quantiles of each launch, and about 2,000 latencies evenly taken from all launches."""
    share = max(1, SAMPLE_LIMIT // max(1, len(measurement.runs)))
    return Distribution(arm, tuple(_launch_sketch(run, share) for run in measurement.runs))


def _launch_sketch(run: Run, sampled: int) -> LaunchSketch:
    import numpy as np

    latencies = [latency for piece in run.slices for latency in piece.latencies_ns]
    quantiles = tuple(round(float(value)) for value in np.quantile(latencies, QUANTILES)) if latencies else ()
    return LaunchSketch(
        pair=run.pair,
        queries=sum(piece.queries for piece in run.slices),
        duration_ns=sum(piece.duration_ns for piece in run.slices),
        quantiles_ns=quantiles,
        load_ns=run.load_ns,
        first_call_ns=run.first_call_ns,
        memory_bytes=max(0, run.peak_rss_bytes - run.idle_rss_bytes),
        steady=run.steady,
        sample_ns=tuple(latencies[:: max(1, -(-len(latencies) // sampled))]),
        telemetry=run.telemetry,
    )


def split(found: Sequence[Estimate | Absent]) -> tuple[tuple[Estimate, ...], tuple[Absent, ...]]:
    """Estimates and absences apart."""
    return (
        tuple(item for item in found if isinstance(item, Estimate)),
        tuple(item for item in found if isinstance(item, Absent)),
    )


@cache
def _metrics(kind: str) -> tuple[tuple[str, Metric], ...]:
    return tuple((name, metric_of(name)) for name in plugins.names("metrics") if metric_of(name).kind == kind)
