import math

import numpy as np
import pytest

from harness.stats.checks import finite


@pytest.mark.parametrize("values", [[1, 2.5], (1, 2.5), iter([1, 2.5]), np.array([1, 2.5], dtype=np.float32)])
def test_any_sequence_of_numbers_becomes_a_float_array(values):
    found = finite(values)
    assert found.dtype == np.float64
    assert found.tolist() == [1.0, 2.5]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_never_pass(bad):
    with pytest.raises(ValueError, match="NaN or infinity"):
        finite([1.0, bad, 2.0])


@pytest.mark.parametrize(("values", "least"), [([], 1), ([1.0], 2), (np.zeros(9), 10)])
def test_too_few_values_are_refused_with_both_counts(values, least):
    with pytest.raises(ValueError, match=f"{least} values are needed, there are {len(values)}"):
        finite(values, least=least)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_as_many_as_are_needed_are_enough(count):
    assert len(finite([1.0] * count, least=count)) == count


def test_one_value_is_needed_unless_more_are_asked_for():
    assert finite([2.0]).tolist() == [2.0]
    with pytest.raises(ValueError, match="1 values are needed, there are 0"):
        finite([])


def test_a_table_is_not_a_list_of_values():
    with pytest.raises(ValueError, match="values are needed"):
        finite(np.zeros((3, 2)))
