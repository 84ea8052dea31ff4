import numpy as np
import pytest
from scipy import stats
from verdict import remedies


@pytest.fixture
def draws():
    return np.random.default_rng(3).normal(0.02, 0.01, (50, 10))


def test_the_plain_interval_is_scipy_s(draws):
    low, high = remedies.student(draws, 0.9)
    for row, mine in zip(draws, zip(low, high, strict=True), strict=True):
        assert mine == pytest.approx(stats.t.interval(0.9, 9, row.mean(), stats.sem(row)))


def test_the_trimmed_interval_is_scipy_s_test_of_trimmed_means_turned_round(draws):
    """Against a point that lies just on an interval's end, Yuen's test with a constant other sample gives the level's p-value."""
    low, _ = remedies.yuen(draws, 0.9)
    for row, end in zip(draws, low, strict=True):
        constant = np.linspace(end - 1e-7, end + 1e-7, 1_000)
        found = stats.ttest_ind(row, constant, equal_var=False, trim=0.2).pvalue
        assert found == pytest.approx(0.1, abs=0.002)


def test_one_spoiled_pair_moves_the_mean_and_hardly_the_trimmed_interval(draws):
    spoiled = draws.copy()
    spoiled[:, 0] = 0.5
    for interval, moved in ((remedies.student, True), (remedies.yuen, False)):
        before, after = (np.mean(interval(values, 0.9), axis=0) for values in (draws, spoiled))
        assert (np.abs(after - before).min() > 0.03) == moved
