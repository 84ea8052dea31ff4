import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats.quantiles import BEYOND, quantile, samples_needed

STEADY = settings(derandomize=True, deadline=None, max_examples=60)


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [([1, 2, 3, 4], 0.25, 1.75), ([4, 1, 3, 2], 0.5, 2.5), ([1, 2, 3, 4], 0.9, 3.7), ([7], 0.99, 7.0), (range(1, 102), 0.99, 100.0)],
)
def test_a_quantile_is_definition_7_of_hyndman_and_fan(values, q, expected):
    assert quantile(values, q) == pytest.approx(expected)


@STEADY
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50))
def test_quantiles_are_in_order_and_within_the_values(values):
    found = [quantile(values, q) for q in (0.0, 0.1, 0.5, 0.9, 1.0)]
    assert found[0] == min(values)
    assert found[-1] == max(values)
    slack = 1e-9 * max(1.0, max(map(abs, values)))
    assert all(before <= after + slack for before, after in itertools.pairwise(found))


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_nothing_and_nan_have_no_quantile(values):
    with pytest.raises(ValueError, match="values"):
        quantile(values, 0.5)


@pytest.mark.parametrize(("q", "samples"), [(0.5, 20), (0.75, 20), (0.9, 50), (0.95, 100), (0.99, 500), (0.999, 5000), (0.01, 500)])
def test_the_further_out_the_quantile_the_more_samples_it_takes(q, samples):
    assert samples_needed(q) == samples


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_enough_samples_leave_five_beyond_the_quantile(q):
    values = range(samples_needed(q))
    found = quantile(values, q)
    assert sum(value > found for value in values) >= BEYOND


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, 1.1])
def test_a_quantile_lies_between_0_and_1(q):
    with pytest.raises(ValueError, match="between 0 and 1"):
        samples_needed(q)
