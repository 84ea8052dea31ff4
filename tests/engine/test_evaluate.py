import math

import numpy as np
import pytest
from scipy import stats

from harness import plugins
from harness.core.estimate import Absent, Estimate
from harness.core.result import QUANTILES
from harness.engine.evaluate import (
    artifact_estimates,
    launch_estimates,
    launch_figures,
    launch_log_ratios,
    launch_metrics,
    metric_of,
    sample_estimates,
    sample_scores,
    sketch,
    split,
)


def by_name(found):
    return {item.metric: item for item in found}


@pytest.fixture
def three(runs):
    """Three launches of one arm, 24 queries each."""
    return runs.measurement(*(runs.even_run(latency, pair=pair) for pair, latency in enumerate((1000, 1100, 1200))), batch_size=4)


def test_every_metric_of_launches_has_a_number_or_a_reason(three):
    found = by_name(launch_estimates(three))
    assert set(found) == set(launch_metrics()) == {name for name in plugins.names("metrics") if metric_of(name).kind == "launch"}
    estimates, absent = split(list(found.values()))
    tails = {"latency_p90", "latency_p95", "latency_p99"}
    of_a_server = {name for name in found if "over the network" in getattr(found[name], "reason", "")}
    assert of_a_server == {"capacity", "error_rate", "goodput", "queue_time", "recovery_time", "served_batch_size"}
    of_the_device = {"device_time", "energy_per_inference", "gpu_memory_peak", "power_mean"}
    assert {item.metric for item in absent} == tails | of_a_server | of_the_device
    assert all("queries a launch, this one has 24" in found[name].reason for name in tails)
    assert all(item.n_of == "launches" and item.n == 3 for item in estimates)


def test_a_launch_counts_once_in_the_interval_however_many_queries_it_has(three):
    found = by_name(launch_estimates(three))["latency_p50"]
    expected = stats.ttest_1samp([1000, 1100, 1200], 0.0).confidence_interval(0.95)
    assert found.value == 1100.0
    assert (found.interval.low, found.interval.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert found.interval.level == 0.95


def test_samples_a_second_know_the_batch_size(three):
    assert launch_figures("throughput", three) == pytest.approx([4e9 / latency for latency in (1000, 1100, 1200)])


def test_one_launch_has_no_interval_and_so_no_number(runs):
    found = launch_estimates(runs.measurement(runs.even_run()))
    assert all(isinstance(item, Absent) for item in found)
    assert by_name(found)["throughput"].reason == "1 launch: at least 2 are needed for an interval"


def test_no_launch_at_all_is_absent_with_the_reason(runs):
    assert {item.reason for item in launch_estimates(runs.measurement())} == {"no launch was measured"}


def test_one_launch_without_a_figure_leaves_the_metric_absent(runs):
    short, long = runs.even_run(queries=4), runs.even_run(queries=3)
    found = launch_figures("latency_p50", runs.measurement(short, long))
    assert isinstance(found, Absent)
    assert "needs 20 queries a launch, this one has 18" in found.reason


def test_launches_are_compared_by_their_pair_and_not_by_their_place(runs):
    baseline = runs.measurement(*(runs.even_run(1000 * (pair + 1), pair=pair, arm="baseline") for pair in (0, 1, 2)))
    candidate = runs.measurement(*(runs.even_run(2000 * (pair + 1), pair=pair) for pair in (2, 0)))
    assert launch_log_ratios("latency_p50", baseline, candidate) == pytest.approx([math.log(2)] * 2)


def test_launches_of_which_one_arm_is_missing_are_no_pairs(runs):
    found = launch_log_ratios("latency_p50", runs.measurement(runs.even_run(pair=0)), runs.measurement(runs.even_run(pair=1)))
    assert found == Absent("latency_p50", "no launch pair was measured")


def test_a_pair_without_a_ratio_leaves_the_metric_absent(runs):
    arm = runs.measurement(runs.run(*(runs.untimed(10, 1000) for _ in range(6))))
    found = launch_log_ratios("latency_p50", arm, arm)
    assert isinstance(found, Absent)
    assert launch_log_ratios("throughput", arm, arm) == [0.0]


def test_an_artifact_is_exact(runs):
    (found,) = artifact_estimates(runs.artifact(24_000_000))
    assert (found.metric, found.value, found.interval, found.n, found.n_of) == ("model_size", 24e6, None, 1, "artifact")


def test_every_metric_of_samples_has_scores_or_a_reason(runs):
    predictions = runs.predictions(np.eye(4)[[0, 1, 2, 3]], [0, 1, 2, 0])
    alone = sample_scores(predictions, None)
    assert set(alone) == {name for name in plugins.names("metrics") if metric_of(name).kind == "sample"}
    assert {name for name, scores in alone.items() if isinstance(scores, Absent)} == {
        "accuracy_top5",
        "agreement",
        "auc",
        "output_cosine",
        "output_max_difference",
        "recall",
    }
    beside = sample_scores(predictions, predictions)
    assert {name for name, scores in beside.items() if isinstance(scores, Absent)} == {"accuracy_top5", "auc", "recall"}


def test_a_share_of_right_answers_has_the_exact_interval_and_other_scores_a_bootstrap():
    right = np.array([1.0] * 97 + [0.0] * 3)
    cosines = 1 - np.random.default_rng(1).exponential(0.01, 100)
    accuracy, cosine, agreement = sample_estimates(
        {"accuracy": right, "output_cosine": cosines, "agreement": Absent("agreement", "none")}, 0
    )
    exact = stats.binomtest(97, 100).proportion_ci(0.95, method="exact")
    assert accuracy.value == pytest.approx(0.97)
    assert (accuracy.interval.low, accuracy.interval.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert (accuracy.n, accuracy.n_of) == (100, "samples")
    assert cosine.value == pytest.approx(cosines.mean())
    assert cosine.interval.low < cosine.value < cosine.interval.high
    assert agreement == Absent("agreement", "none")


def test_the_bootstrap_of_an_estimate_repeats_with_its_seed():
    scores = {"output_cosine": np.random.default_rng(1).exponential(size=50)}  # skewed: an end is the bootstrap's, not Student's
    assert sample_estimates(scores, 3) == sample_estimates(scores, 3) != sample_estimates(scores, 4)


@pytest.mark.parametrize("scores", [np.array([]), np.array([0.5, math.nan])])
def test_no_scores_and_nan_scores_are_no_estimate(scores):
    with pytest.raises(ValueError):
        sample_estimates({"accuracy": scores}, 0)


def test_split_keeps_the_order_of_both_kinds(three):
    found = launch_estimates(three)
    estimates, absent = split(found)
    assert list(estimates) == [item for item in found if isinstance(item, Estimate)]
    assert list(absent) == [item for item in found if isinstance(item, Absent)]


def test_a_sketch_holds_quantiles_of_every_launch_and_a_bounded_sample_of_all(runs):
    latencies = list(range(1, 5002))
    one = runs.run(*(runs.timed(*latencies[start : start + 100]) for start in range(0, len(latencies), 100)), pair=3, steady=False)
    found = sketch(runs.measurement(one, runs.even_run(pair=4)), "candidate")
    first, second = found.launches
    assert first.quantiles_ns == tuple(round(1 + 5000 * q) for q in QUANTILES)
    assert (first.pair, first.queries, first.duration_ns, first.steady) == (3, 5001, sum(latencies), False)
    assert (second.pair, second.queries, second.memory_bytes) == (4, 24, 100 * 2**20)
    assert 500 <= len(found.sample_ns) <= 2_100
    assert set(found.sample_ns) <= {*latencies, runs.MS}
    assert runs.MS in found.sample_ns


def test_a_sketch_of_a_load_without_latencies_has_no_quantiles_but_knows_the_queries(runs):
    found = sketch(runs.measurement(runs.run(runs.untimed(10, 1000), runs.untimed(10, 1000))), "candidate")
    assert found.sample_ns == ()
    assert (found.launches[0].quantiles_ns, found.launches[0].queries, found.launches[0].duration_ns) == ((), 20, 2000)
