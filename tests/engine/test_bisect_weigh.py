import math

import pytest

from harness.core.bisection import Answer
from harness.engine.bisecting.weigh import interval_alone, weigh

SPREAD = (-0.01, 0.0, 0.01, 0.0)
FIVE = math.log(1.05)


def around(centre, values=SPREAD):
    return [centre + value for value in values]


def test_what_is_as_slow_as_the_bad_end_is_bad():
    found = weigh(around(FIVE), around(0.0), 0.01)
    assert (found.answer, found.between) == (Answer.BAD, False)
    assert found.against_good.low > 0 > found.against_bad.low


def test_what_is_as_fast_as_the_good_end_is_good():
    found = weigh(around(0.0), around(-FIVE), 0.01)
    assert (found.answer, found.between) == (Answer.GOOD, False)


def test_too_little_evidence_answers_nothing():
    assert weigh(around(FIVE), around(0.0), 1e-6).answer is None


@pytest.mark.parametrize(("above", "answer"), [(0.04, Answer.BAD), (0.02, Answer.GOOD)])
def test_what_lies_between_goes_to_the_end_that_leaves_the_larger_change(above, answer):
    found = weigh(around(above, (-0.001, 0.001, 0.0)), around(above - 0.06, (-0.001, 0.001, 0.0)), 0.01)
    assert (found.answer, found.between) == (answer, True)


def test_a_small_step_beside_a_large_one_is_not_told_to_lie_between():
    found = weigh(around(0.001, (-1e-4, 1e-4, 0.0)), around(-0.05, (-1e-4, 1e-4, 0.0)), 0.01)
    assert (found.answer, found.between) == (Answer.GOOD, False)


def test_equal_pairs_against_one_end_are_no_certainty():
    """Three pairs that happen to agree have no spread of their own: that of the other end counts."""
    alone = weigh([0.004] * 3, [0.004, 0.0042, 0.0038], 0.01)
    noisy = weigh([0.004] * 3, [-0.02, 0.03, 0.002], 0.01)
    assert alone.answer is Answer.BAD
    assert noisy.answer is None


def test_alike_spreads_have_the_freedom_of_both_and_a_lone_one_its_own():
    """Welch and Satterthwaite: 2 (n - 1) degrees of freedom for equal variances, towards n - 1 where one is all of it."""
    from scipy import stats

    def half(interval):
        return (interval.high - interval.low) / 2

    spread = 0.01 * math.sqrt(2 / 3)
    alike = weigh(around(FIVE), around(0.0), 0.01).against_good
    lone = weigh(around(FIVE), [0.0] * 4, 0.01).against_good
    assert half(alike) == pytest.approx(stats.t.isf(0.01, 6) * spread / 2)
    assert half(lone) == pytest.approx(stats.t.isf(0.01, 3) * spread / 2, rel=0.01)


def test_an_interval_alone_is_student_s():
    from scipy import stats

    found = interval_alone(around(FIVE), 0.01)
    assert found.high - FIVE == pytest.approx(stats.t.isf(0.01, 3) * 0.01 * math.sqrt(2 / 3) / 2)
    assert found.level == pytest.approx(0.98)
