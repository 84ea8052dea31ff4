import math

import numpy as np
import pytest

from harness.core.estimate import Absent
from harness.metrics.accuracy import Accuracy
from harness.metrics.accuracy_top5 import AccuracyTop5
from harness.metrics.agreement import Agreement
from harness.metrics.output_cosine import OutputCosine
from harness.metrics.output_max_difference import OutputMaxDifference

LABELLED = [Accuracy(), AccuracyTop5()]
AGAINST = [Agreement(), OutputCosine(), OutputMaxDifference()]
OUTPUTS = [[0.1, 0.7, 0.2], [0.9, 0.05, 0.05], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]


def one_hot(answers, classes=8):
    return np.eye(classes)[answers]


def test_accuracy_scores_one_where_the_highest_output_is_the_label(runs):
    assert Accuracy().scores(runs.predictions(OUTPUTS, [1, 0, 1, 2]), None).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_labels_in_a_column_are_labels(runs):
    assert Accuracy().scores(runs.predictions(OUTPUTS, [[1], [0], [1], [2]]), None).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_of_equal_outputs_the_lower_class_is_the_answer(runs):
    assert Accuracy().scores(runs.predictions([[0.5, 0.5], [0.5, 0.5]], [0, 1]), None).tolist() == [1.0, 0.0]


def test_the_fifth_best_is_among_the_five_and_the_sixth_is_not(runs):
    outputs = [[7, 6, 5, 4, 3, 2, 1, 0]] * 3
    assert AccuracyTop5().scores(runs.predictions(outputs, [0, 4, 5]), None).tolist() == [1.0, 1.0, 0.0]


def test_top_five_of_fewer_than_five_classes_says_nothing(runs):
    found = AccuracyTop5().scores(runs.predictions(OUTPUTS, [1, 0, 1, 2]), None)
    assert found == Absent("accuracy_top5", "the principal output has 3 values a sample, 5 are needed")


def test_a_single_output_is_no_class(runs):
    found = Accuracy().scores(runs.predictions([[0.7], [0.2]], [1, 0]), None)
    assert found == Absent("accuracy", "the principal output has 1 values a sample, 2 are needed")


@pytest.mark.parametrize("metric", LABELLED)
def test_without_labels_accuracy_is_absent_and_not_zero(runs, metric):
    found = metric.scores(runs.predictions(one_hot([1, 2])), None)
    assert isinstance(found, Absent)
    assert found.reason == "the evaluation data has no targets"


@pytest.mark.parametrize("metric", LABELLED)
def test_another_task_than_classification_has_no_accuracy(runs, metric):
    found = metric.scores(runs.predictions(one_hot([1, 2]), [1, 2], task="embedding"), None)
    assert isinstance(found, Absent)
    assert "data.task is 'embedding', not 'classification'" in found.reason


@pytest.mark.parametrize("metric", LABELLED)
def test_labels_for_other_samples_are_not_scored(runs, metric):
    with pytest.raises(ValueError):
        metric.scores(runs.predictions(one_hot([1, 2, 3]), [1, 2]), None)


@pytest.mark.parametrize("metric", [*LABELLED, *AGAINST])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_never_passes(runs, metric, bad):
    outputs = one_hot([1, 2, 3])
    outputs[2, 7] = bad
    spoilt, sound = runs.predictions(outputs, [1, 2, 3]), runs.predictions(one_hot([1, 2, 3]), [1, 2, 3])
    with pytest.raises(ValueError, match="NaN or infinity among the outputs"):
        metric.scores(spoilt, sound)


@pytest.mark.parametrize("metric", AGAINST)
def test_nan_in_the_reference_never_passes_either(runs, metric):
    outputs = one_hot([1, 2, 3])
    outputs[0, 0] = math.nan
    with pytest.raises(ValueError, match="NaN or infinity among the outputs"):
        metric.scores(runs.predictions(one_hot([1, 2, 3])), runs.predictions(outputs))


def test_agreement_scores_one_where_both_give_the_same_answer_right_or_wrong(runs):
    ours, theirs = runs.predictions(one_hot([1, 2, 3]), [0, 2, 0]), runs.predictions(one_hot([1, 2, 4]), [0, 2, 0])
    assert Agreement().scores(ours, theirs).tolist() == [1.0, 1.0, 0.0]


def test_agreement_is_of_answers_and_so_of_classification(runs):
    found = Agreement().scores(runs.predictions(OUTPUTS, task="embedding"), runs.predictions(OUTPUTS, task="embedding"))
    assert isinstance(found, Absent)
    assert "not 'classification'" in found.reason


def test_the_cosine_tells_direction_and_not_length(runs):
    ours, theirs = runs.predictions([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0], [-1.0, 0.0]]), runs.predictions([[2.0, 0.0]] * 4)
    assert OutputCosine().scores(ours, theirs) == pytest.approx([1.0, math.sqrt(0.5), 0.0, -1.0])


def test_an_output_of_zeros_has_no_direction(runs):
    found = OutputCosine().scores(runs.predictions([[1.0, 0.0], [0.0, 0.0]]), runs.predictions([[1.0, 0.0]] * 2))
    assert isinstance(found, Absent)
    assert "no direction" in found.reason


def test_the_largest_difference_is_of_each_sample_and_without_its_sign(runs):
    ours, theirs = runs.predictions([[1.0, 2.0], [5.0, 5.0]]), runs.predictions([[1.5, 0.0], [5.0, 5.25]])
    assert OutputMaxDifference().scores(ours, theirs).tolist() == [2.0, 0.25]


@pytest.mark.parametrize("metric", AGAINST)
def test_without_a_reference_there_is_no_fidelity(runs, metric):
    found = metric.scores(runs.predictions(OUTPUTS), None)
    assert isinstance(found, Absent)
    assert "names no 'reference' recipe" in found.reason
    assert metric.needs_reference


@pytest.mark.parametrize("metric", AGAINST)
def test_outputs_of_another_shape_than_the_references_are_not_compared(runs, metric):
    found = metric.scores(runs.predictions(OUTPUTS), runs.predictions(one_hot([1, 2, 3, 4])))
    assert isinstance(found, Absent)
    assert "(4, 3) and (4, 8)" in found.reason


@pytest.mark.parametrize("metric", [OutputCosine(), OutputMaxDifference()])
def test_outputs_of_many_axes_are_one_row_a_sample(runs, metric):
    generator = np.random.default_rng(3)
    ours, theirs = generator.normal(size=(4, 2, 3, 5)), generator.normal(size=(4, 2, 3, 5))
    deep = metric.scores(runs.predictions(ours, task="other"), runs.predictions(theirs, task="other"))
    flat = metric.scores(runs.predictions(ours.reshape(4, -1), task="other"), runs.predictions(theirs.reshape(4, -1), task="other"))
    assert deep.shape == (4,)
    assert deep.tolist() == flat.tolist()


@pytest.mark.parametrize("metric", [*LABELLED, *AGAINST])
def test_every_metric_gives_one_score_a_sample_and_the_best_to_the_reference_itself(runs, metric):
    same = runs.predictions(one_hot([1, 2, 3]), [1, 2, 3])
    scores = metric.scores(same, same)
    assert scores.dtype == np.float64
    assert scores.tolist() == [0.0 if metric.better == "lower" else 1.0] * 3


@pytest.mark.parametrize("metric", [*LABELLED, *AGAINST])
def test_no_samples_have_no_scores(runs, metric):
    nothing = runs.predictions(np.zeros((0, 8)), np.zeros(0, dtype=int))
    with pytest.raises(ValueError):
        metric.scores(nothing, nothing)
