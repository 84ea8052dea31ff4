import numpy as np
import pytest

from harness.core.estimate import Absent, Estimate
from harness.core.scenario import parse_clause
from harness.engine.evaluate import sample_estimates
from harness.metrics.recall import Recall

LABELS = [1, 0, 1, 1, 0, 1]
ANSWERS = [1, 1, 0, 1, 0, 1]


def recall(runs, answers, labels, **changes):
    return Recall().scores(runs.predictions(np.eye(2)[answers], labels, **changes), None)


def test_positives_alone_are_scored_in_the_order_of_the_set(runs):
    assert recall(runs, ANSWERS, LABELS).tolist() == [1.0, 0.0, 1.0, 1.0]


def test_false_alarms_cost_no_recall(runs):
    assert recall(runs, [1] * 6, LABELS).mean() == 1.0
    assert recall(runs, [0] * 6, LABELS).mean() == 0.0


def test_it_agrees_with_the_field_s_own(runs):
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(3)
    labels, answers = generator.integers(0, 2, 300), generator.integers(0, 2, 300)
    assert recall(runs, answers, labels).mean() == pytest.approx(sklearn.recall_score(labels, answers))


def test_labels_in_a_column_are_labels(runs):
    assert recall(runs, ANSWERS, [[label] for label in LABELS]).tolist() == recall(runs, ANSWERS, LABELS).tolist()


def test_its_interval_is_that_of_the_positives_alone(runs):
    from scipy import stats

    labels, answers = np.repeat([0, 1], [900, 100]), np.repeat([0, 1, 0], [900, 90, 10])
    (found,) = sample_estimates({"recall": recall(runs, answers, labels)}, 0)
    exact = stats.binomtest(90, 100).proportion_ci(0.95, method="exact")
    assert isinstance(found, Estimate)
    assert (found.value, found.n, found.n_of) == (0.9, 100, "samples")
    assert (found.interval.low, found.interval.high) == pytest.approx((exact.low, exact.high))


def test_a_promise_can_be_made_about_it():
    clause = parse_clause("int8.recall", "at most 1 point below fp32")
    assert (clause.recipe, clause.metric, clause.relation, clause.of) == ("int8", "recall", "below", "fp32")
    assert clause.limit == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("outputs", "labels", "words"),
    [
        ([[1.0, 2.0, 3.0]] * 2, [0, 1], "has 3 values a sample: recall is told of two classes"),
        ([[1.0], [2.0]], [0, 1], "has 1 values a sample, 2 are needed"),
        ([[1.0, 2.0]] * 2, [0, 0], "not 0 and 1, with a 1 among them"),
        ([[1.0, 2.0]] * 2, [1, 2], "not 0 and 1, with a 1 among them"),
        ([[1.0, 2.0]] * 2, None, "no targets"),
    ],
)
def test_what_has_no_recall_is_absent_and_not_zero(runs, outputs, labels, words):
    found = Recall().scores(runs.predictions(outputs, labels), None)
    assert isinstance(found, Absent) and words in found.reason


def test_another_task_than_classification_has_no_recall(runs):
    found = recall(runs, ANSWERS, LABELS, task="embedding")
    assert isinstance(found, Absent) and "'embedding', not 'classification'" in found.reason


def test_a_number_that_is_none_never_counts_as_an_answer(runs):
    with pytest.raises(ValueError, match="NaN or infinity"):
        Recall().scores(runs.predictions([[np.nan, 1.0], [0.0, 1.0]], [1, 1]), None)
