import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.telemetry.counters import joules_within, moved, step_of

MS = 1_000_000


def test_a_counter_that_grew_gives_its_difference():
    assert moved(1_000_000, 3_500_000, 2**40, 1e6, 0.03) == 2.5


def test_a_counter_that_started_again_from_zero_gives_what_lay_on_both_sides():
    assert moved(262_000_000, 1_000_000, 262_143_328, 1e6, 1.0) == pytest.approx(1.143328)


def test_a_counter_that_was_set_back_gives_nothing_rather_than_a_huge_number():
    assert moved(5_000_000_000, 1_000, 2**40, 1e3, 0.03) is None


@given(st.integers(0, 2**32 - 1), st.floats(0, 700))
def test_one_wrap_never_changes_what_was_taken(before, joules):
    after = (before + round(joules * 1e3)) % 2**32
    assert moved(before, after, 2**32, 1e3, 1.0) == pytest.approx(round(joules * 1e3) / 1e3)


def test_a_step_is_the_usual_time_between_two_changes():
    readings = [(time * MS, time // 20 * 20 * 3) for time in range(100)]
    assert step_of(readings) == 20 * MS


@pytest.mark.parametrize("readings", [[], [(0, 5)], [(time, 7) for time in range(50)], [(0, 1), (1, 2)]])
def test_a_counter_that_was_not_seen_to_move_twice_has_no_step(readings):
    assert step_of(readings) is None


def test_power_samples_are_joined_by_straight_lines():
    power = [(0, 100.0), (1_000 * MS, 200.0), (2_000 * MS, 200.0)]
    assert joules_within(power, 0, 1_000 * MS) == pytest.approx(150)
    assert joules_within(power, 500 * MS, 1_500 * MS) == pytest.approx((150 + 200) / 2 * 0.5 + 200 * 0.5)


def test_beyond_the_first_and_the_last_sample_the_power_is_theirs():
    power = [(1_000 * MS, 100.0), (2_000 * MS, 300.0)]
    assert joules_within(power, 0, 1_000 * MS) == pytest.approx(100)
    assert joules_within(power, 2_000 * MS, 4_000 * MS) == pytest.approx(600)
