import math

import pytest

from harness.core.comparison import Comparison, SlaFinding, SlaState, Verdict
from harness.core.estimate import ConfidenceInterval
from harness.core.units import Unit
from harness.core.wording import (
    change_of,
    effect_of,
    interval_of,
    sentence_of,
    sentence_of_sla,
    tolerance_of,
    visible_change_of,
    worsening_of,
    worst_first,
)


def compared(**changes):
    facts = {
        "trial": "digits/int8-cpu-b1",
        "metric": "latency_p50",
        "unit": Unit.NANOSECONDS,
        "better": "lower",
        "scale": "ratio",
        "baseline": 2_510_000.0,
        "candidate": 2_640_000.0,
        "effect": 1.051,
        "interval": ConfidenceInterval(1.038, 1.064, 0.99),
        "tolerance": 0.02,
        "floor": 2_000.0,
        "n": 12,
        "n_of": "launch pairs",
        "method": "paired",
        "visible_change": 0.0142,
        "verdict": Verdict.REGRESSED,
        "reason": "",
    }
    return Comparison(**(facts | changes))


def points(**changes):
    facts = {
        "metric": "accuracy",
        "unit": Unit.FRACTION,
        "better": "higher",
        "scale": "difference",
        "baseline": 0.9796,
        "candidate": 0.9611,
    }
    facts |= {"effect": -0.0185, "interval": ConfidenceInterval(-0.0275, -0.0095, 0.99), "tolerance": 0.005, "visible_change": 0.0093}
    return compared(**(facts | changes))


def test_a_ratio_is_told_with_both_values_interval_tolerance_and_verdict():
    assert sentence_of(compared()) == (
        "latency_p50 of digits/int8-cpu-b1 went from 2.51 ms to 2.64 ms: ×1.051 (99 % interval 1.038 to 1.064), tolerance 2 %: REGRESSED"
    )


def test_a_difference_of_fractions_is_told_in_points():
    assert sentence_of(points()) == (
        "accuracy of digits/int8-cpu-b1 went from 97.96 % to 96.11 %: -1.85 points (99 % interval -2.75 to -0.95 points), "
        "tolerance 0.5 points: REGRESSED"
    )


def test_a_difference_of_plain_numbers_is_not_called_points():
    cosine = points(metric="output_cosine", unit=Unit.NUMBER, effect=-0.012, tolerance=0.01, visible_change=0.004)
    assert effect_of(cosine) == "-0.0120"
    assert tolerance_of(cosine) == "0.0100"
    assert "points" not in sentence_of(cosine)


def test_an_exact_comparison_has_no_interval_and_would_show_any_change():
    exact = compared(effect=1.0, candidate=2_510_000.0, interval=ConfidenceInterval(1.0, 1.0, 0.999999), visible_change=None)
    assert interval_of(exact) == "exact"
    assert visible_change_of(exact) == "any change"
    assert "stayed at 2.51 ms" in sentence_of(exact)


@pytest.mark.parametrize(
    ("interval", "told"),
    [
        (ConfidenceInterval(1.02, math.inf, 0.95), "95 % bound: at least 1.020"),
        (ConfidenceInterval(-math.inf, 1.02, 0.95), "95 % bound: at most 1.020"),
        (ConfidenceInterval(1.01, 1.02, 0.9964), "99.64 % interval 1.010 to 1.020"),
        (ConfidenceInterval(1.01, 1.02, 0.999999), "more than 99.99 % interval 1.010 to 1.020"),
    ],
)
def test_an_interval_tells_its_level_and_its_open_end_and_never_rounds_up_to_certainty(interval, told):
    assert interval_of(compared(interval=interval)) == told


def test_advice_says_that_it_decides_nothing():
    assert sentence_of(compared(advisory=True)).endswith("REGRESSED (told only, it decides nothing)")


def test_infinite_numbers_are_told_and_not_raised():
    broken = compared(candidate=math.inf, effect=math.inf, interval=ConfidenceInterval(1.0, math.inf, 0.99))
    assert "×∞" in sentence_of(broken)
    assert change_of(broken) == "×∞"


def test_half_the_throughput_is_as_bad_as_twice_the_latency():
    assert worsening_of(compared(effect=0.5, better="higher")) == worsening_of(compared(effect=2.0)) == 1.0
    assert worsening_of(points(effect=-0.02)) == pytest.approx(0.02)


def test_the_worst_comes_first_counted_in_tolerances_and_advice_comes_after_what_decides():
    slight, grave = compared(trial="slight"), compared(trial="grave", effect=1.3)
    wide = compared(trial="wide", effect=1.3, tolerance=0.25)
    advice = compared(trial="advice", effect=9.0, advisory=True)
    passing = compared(trial="passing", verdict=Verdict.PASS, effect=1.9)
    invalid = compared(trial="invalid", verdict=Verdict.INVALID)
    told = [one.trial for one in worst_first([passing, advice, wide, slight, invalid, grave])]
    assert told == ["grave", "slight", "wide", "advice", "invalid", "passing"]


def test_a_clause_without_a_number_is_not_measured_rather_than_zero():
    finding = SlaFinding("t", "energy", "energy: at most 1 J", None, None, None, 1.0, SlaState.UNMEASURED, "no energy counter")
    assert sentence_of_sla(finding) == "SLA 'energy: at most 1 J' on t: not measured; no energy counter: UNMEASURED"


def test_a_clause_does_not_tell_its_value_twice():
    reason = "96.11 %, exact for this set of samples"
    finding = SlaFinding("t", "accuracy", "accuracy: at least 97 %", Unit.FRACTION, 0.9611, 0.9611, 0.97, SlaState.BROKEN, reason)
    assert sentence_of_sla(finding).count("96.11 %") == 1
