import math

import pytest

from harness.core.estimate import ConfidenceInterval, Estimate
from harness.core.units import Unit


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (0.9, 1.1), (-math.inf, 1.0), (1.0, math.inf), (-math.inf, math.inf)])
def test_an_interval_may_be_open_or_have_no_width(low, high):
    assert (ConfidenceInterval(low, high, 0.9).low, ConfidenceInterval(low, high, 0.9).high) == (low, high)


@pytest.mark.parametrize(("low", "high"), [(1.1, 0.9), (math.nan, 1.0), (1.0, math.nan), (math.inf, -math.inf)])
def test_what_is_no_interval_cannot_be_made(low, high):
    with pytest.raises(ValueError, match="not an interval"):
        ConfidenceInterval(low, high, 0.9)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95.0, math.nan])
def test_a_level_is_a_probability_and_never_certainty(level):
    with pytest.raises(ValueError, match="not a confidence level"):
        ConfidenceInterval(0.9, 1.1, level)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_estimate_that_is_not_finite_cannot_be_made(value):
    with pytest.raises(ValueError, match="latency_p50 is not a finite number"):
        Estimate("latency_p50", Unit.NANOSECONDS, "lower", value, None, 5, "launches")
