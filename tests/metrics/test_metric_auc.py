import numpy as np
import pytest

from harness.core.estimate import Absent
from harness.metrics.auc import Auc


def area(runs, scores, labels):
    return Auc().scores(runs.predictions(np.reshape(scores, (len(labels), -1)), labels), None)


def test_the_mean_of_the_scores_is_the_area(runs):
    # 3 x 2 pairs, of which (0.9, 0.8), (0.9, 0.1), (0.7, 0.1), (0.3, 0.1) are in order
    assert area(runs, [0.9, 0.8, 0.7, 0.3, 0.1], [1, 0, 1, 1, 0]).mean() == pytest.approx(4 / 6)


def test_ties_count_one_half(runs):
    assert area(runs, [0.5, 0.5], [1, 0]).mean() == 0.5


def test_a_perfect_ranking_has_one_and_a_reversed_one_has_zero(runs):
    assert area(runs, [3.0, 2.0, 1.0], [1, 1, 0]).mean() == 1.0
    assert area(runs, [1.0, 2.0, 3.0], [1, 1, 0]).mean() == 0.0


def test_two_logits_are_ranked_by_their_difference(runs):
    one = area(runs, [0.9, 0.8, 0.7, 0.3, 0.1], [1, 0, 1, 1, 0])
    two = area(runs, [[0.0, 0.9], [0.1, 0.9], [1.0, 1.7], [0.0, 0.3], [0.4, 0.5]], [1, 0, 1, 1, 0])
    assert two.tolist() == pytest.approx(one.tolist())


def test_it_agrees_with_the_field_s_own_and_its_spread_with_resampling(runs):
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(5)
    labels = (generator.random(600) < 0.3).astype(int)
    scores = generator.normal(labels * 0.8, 1.0)
    found = area(runs, scores, labels)
    assert found.mean() == pytest.approx(sklearn.roc_auc_score(labels, scores))
    again = [sklearn.roc_auc_score(labels[rows], scores[rows]) for rows in (generator.integers(0, 600, 600) for _ in range(800))]
    assert found.std(ddof=1) / np.sqrt(600) == pytest.approx(np.std(again), rel=0.15)


@pytest.mark.parametrize(
    ("outputs", "labels", "words"),
    [
        ([[1.0, 2.0, 3.0]] * 2, [0, 1], "of two classes"),
        ([[1.0], [2.0]], [1, 1], "not 0 and 1"),
        ([[1.0], [2.0]], [1, 2], "not 0 and 1"),
        ([[1.0], [2.0]], None, "no targets"),
    ],
)
def test_what_has_no_area_is_absent_and_not_zero(runs, outputs, labels, words):
    found = Auc().scores(runs.predictions(outputs, labels), None)
    assert isinstance(found, Absent) and words in found.reason
