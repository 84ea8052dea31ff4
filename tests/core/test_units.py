import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.units import Notation, Quantity, Unit, format_change, format_points, format_value, parse_quantity

STEADY = settings(derandomize=True, deadline=None, max_examples=100)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("50 ms", 50e6, Unit.NANOSECONDS),
        ("50ms", 50e6, Unit.NANOSECONDS),
        ("  1.5   s ", 1.5e9, Unit.NANOSECONDS),
        ("250 us", 250e3, Unit.NANOSECONDS),
        ("250 µs", 250e3, Unit.NANOSECONDS),
        ("7 ns", 7.0, Unit.NANOSECONDS),
        ("2 min", 120e9, Unit.NANOSECONDS),
        ("200 /s", 200.0, Unit.PER_SECOND),
        ("200/s", 200.0, Unit.PER_SECOND),
        ("10 B", 10.0, Unit.BYTES),
        ("3 kB", 3e3, Unit.BYTES),
        ("20 MB", 20e6, Unit.BYTES),
        ("1.5 GB", 1.5e9, Unit.BYTES),
        ("1 KiB", 1024.0, Unit.BYTES),
        ("256 MiB", 256 * 2.0**20, Unit.BYTES),
        ("4 GiB", 4 * 2.0**30, Unit.BYTES),
        ("0.2 J", 0.2, Unit.JOULES),
        ("12 mJ", 0.012, Unit.JOULES),
        ("0.5", 0.5, Unit.NUMBER),
        (".5", 0.5, Unit.NUMBER),
        ("-3", -3.0, Unit.NUMBER),
        ("+1e3", 1000.0, Unit.NUMBER),
        ("1_000_000.5 ns", 1_000_000.5, Unit.NANOSECONDS),
        ("2.5e-3 s", 2.5e6, Unit.NANOSECONDS),
    ],
)
def test_a_quantity_is_held_in_its_base_unit(text, value, unit):
    assert parse_quantity(text) == Quantity(pytest.approx(value), unit, Notation.PLAIN)


@pytest.mark.parametrize(
    ("text", "value", "notation"),
    [
        ("3 %", 0.03, Notation.PERCENT),
        ("3%", 0.03, Notation.PERCENT),
        ("1 point", 0.01, Notation.POINTS),
        ("0.5 points", 0.005, Notation.POINTS),
    ],
)
def test_percent_and_points_are_fractions_that_remember_how_they_were_written(text, value, notation):
    assert parse_quantity(text) == Quantity(value, Unit.FRACTION, notation)


@STEADY
@given(st.integers(0, 1000))
def test_so_many_percent_are_just_so_many_of_a_hundred(percent):
    """57 * 0.01 is more than 57 / 100: 57 right answers of 100 would break 'at least 57 %'."""
    assert parse_quantity(f"{percent} %").value == percent / 100


@pytest.mark.parametrize(
    "text", ["", "ms", "fast", "50 ms or so", "1,5 ms", "1__0 ms", "1_ ms", "1.5_0 ms", "nan ms", "inf", "--3", "3 % of fp32", "50 ms 3"]
)
def test_what_is_no_quantity_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="is not a quantity: write a number and a unit, such as '50 ms'"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["50 msec", "50 MS", "3 percent", "2 h", "5.", "5 °C", "3 Points"])
def test_an_unknown_unit_is_refused_with_those_known(text):
    with pytest.raises(ValueError, match="is not a unit known here; known are ns, us, µs, ms, s, min, /s, B,"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["1e999 ns", "1e308 GiB"])
def test_infinity_is_not_a_quantity(text):
    with pytest.raises(ValueError, match="is too large"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (12_345_678.0, Unit.NANOSECONDS, "12.3 ms"),
        (999.0, Unit.NANOSECONDS, "999 ns"),
        (1_000.0, Unit.NANOSECONDS, "1.00 µs"),
        (0.5, Unit.NANOSECONDS, "0.500 ns"),
        (90e9, Unit.NANOSECONDS, "90.0 s"),
        (-2_500_000.0, Unit.NANOSECONDS, "-2.50 ms"),
        (0.0, Unit.NANOSECONDS, "0 ns"),
        (1_536.0, Unit.BYTES, "1.50 KiB"),
        (94.4e6, Unit.BYTES, "90.0 MiB"),
        (100.0, Unit.BYTES, "100 B"),
        (0.975, Unit.FRACTION, "97.50 %"),
        (1234.5, Unit.PER_SECOND, "1,234 /s"),
        (0.0123, Unit.JOULES, "12.3 mJ"),
        (1.5, Unit.JOULES, "1.50 J"),
        (0.99321, Unit.NUMBER, "0.993"),
        (0.0, Unit.NUMBER, "0"),
        (1e-7, Unit.NUMBER, "0.000000100"),
    ],
)
def test_a_value_is_told_with_three_digits_in_the_unit_that_suits_it(value, unit, told):
    assert format_value(value, unit) == told


@STEADY
@given(st.floats(1e-3, 1e12))
def test_a_time_that_is_told_can_be_read_again(nanoseconds):
    told = format_value(nanoseconds, Unit.NANOSECONDS)
    assert parse_quantity(told.replace(",", "")) == Quantity(pytest.approx(nanoseconds, rel=0.006), Unit.NANOSECONDS, Notation.PLAIN)


@pytest.mark.parametrize(("fraction", "told"), [(0.0312, "+3.1 %"), (-0.5, "-50.0 %"), (0.0, "+0.0 %")])
def test_a_change_is_told_in_percent_with_its_sign(fraction, told):
    assert format_change(fraction) == told


@pytest.mark.parametrize(("difference", "told"), [(-0.005, "-0.50 points"), (0.0123, "+1.23 points")])
def test_a_difference_of_fractions_is_told_in_points_with_its_sign(difference, told):
    assert format_points(difference) == told


def test_a_quantity_that_is_not_finite_is_not_silently_told():
    with pytest.raises((ValueError, OverflowError)):
        format_value(math.nan, Unit.NANOSECONDS)
