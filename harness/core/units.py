"""Quantities with units: read from text, shown to people. Inside, every quantity is a float in its unit's base."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """The base unit that a value is held in."""

    NANOSECONDS = "ns"
    BYTES = "bytes"
    PER_SECOND = "per_s"
    FRACTION = "fraction"
    JOULES = "joules"
    WATTS = "watts"
    NUMBER = "number"


class Notation(StrEnum):
    """How a quantity was written, where that carries meaning: ``3 %`` is relative, ``0.5 points`` is a difference of fractions."""

    PLAIN = "plain"
    PERCENT = "percent"
    POINTS = "points"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value in its base unit: ``50 ms`` is 5e7 ns, ``3 %`` is the fraction 0.03, ``0.5 points`` the fraction 0.005."""

    value: float
    unit: Unit
    notation: Notation = Notation.PLAIN


_SPELLINGS: dict[str, tuple[float, Unit, Notation]] = {
    "ns": (1.0, Unit.NANOSECONDS, Notation.PLAIN),
    "us": (1e3, Unit.NANOSECONDS, Notation.PLAIN),
    "µs": (1e3, Unit.NANOSECONDS, Notation.PLAIN),
    "ms": (1e6, Unit.NANOSECONDS, Notation.PLAIN),
    "s": (1e9, Unit.NANOSECONDS, Notation.PLAIN),
    "min": (60e9, Unit.NANOSECONDS, Notation.PLAIN),
    "/s": (1.0, Unit.PER_SECOND, Notation.PLAIN),
    "B": (1.0, Unit.BYTES, Notation.PLAIN),
    "kB": (1e3, Unit.BYTES, Notation.PLAIN),
    "MB": (1e6, Unit.BYTES, Notation.PLAIN),
    "GB": (1e9, Unit.BYTES, Notation.PLAIN),
    "KiB": (2.0**10, Unit.BYTES, Notation.PLAIN),
    "MiB": (2.0**20, Unit.BYTES, Notation.PLAIN),
    "GiB": (2.0**30, Unit.BYTES, Notation.PLAIN),
    "J": (1.0, Unit.JOULES, Notation.PLAIN),
    "mJ": (1e-3, Unit.JOULES, Notation.PLAIN),
    "W": (1.0, Unit.WATTS, Notation.PLAIN),
    "mW": (1e-3, Unit.WATTS, Notation.PLAIN),
    "kW": (1e3, Unit.WATTS, Notation.PLAIN),
    "%": (0.01, Unit.FRACTION, Notation.PERCENT),
    "point": (0.01, Unit.FRACTION, Notation.POINTS),
    "points": (0.01, Unit.FRACTION, Notation.POINTS),
    "": (1.0, Unit.NUMBER, Notation.PLAIN),
}
KINDS = {
    Unit.NANOSECONDS: "a time",
    Unit.BYTES: "a size",
    Unit.PER_SECOND: "a rate",
    Unit.FRACTION: "a share",
    Unit.JOULES: "an energy",
    Unit.WATTS: "a power",
    Unit.NUMBER: "a plain number",
}
"""What a quantity of each unit is called."""
EXAMPLES = {
    Unit.NANOSECONDS: "50 ms",
    Unit.BYTES: "20 MB",
    Unit.PER_SECOND: "200 /s",
    Unit.FRACTION: "97 %",
    Unit.JOULES: "0.5 J",
    Unit.WATTS: "300 W",
    Unit.NUMBER: "0.5",
}
"""How a quantity of each unit is written."""
NUMBER = r"(?:\d+(?:_\d+)*(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
"""A number without its sign, as a regular expression that Python and JSON Schema both know."""
_QUANTITY = re.compile(rf"\s*([+-]?{NUMBER})\s*(\S*)\s*")


def parse_quantity(text: str) -> Quantity:
    """Read ``50 ms``, ``3%``, ``0.5 points``, ``200 /s``, ``256 MiB`` or a plain number.

    Raises ValueError with a sentence that names the units known.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity: write a number and a unit, such as '50 ms', '3 %' or '256 MiB'")
    number, spelling = match.groups()
    if spelling not in _SPELLINGS:
        known = ", ".join(name for name in _SPELLINGS if name)
        raise ValueError(f"{spelling!r} in {text!r} is not a unit known here; known are {known}")
    scale, unit, notation = _SPELLINGS[spelling]
    # Dividing rounds once: 57 % is then the same float as 57 right answers of 100; 57 * 0.01 is not.
    value = float(number) * scale if scale >= 1 else float(number) / round(1 / scale)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is too large")
    return Quantity(value, unit, notation)


def spellings_of(*units: Unit) -> tuple[str, ...]:
    """How these units may be written after a number, in the order told to people."""
    return tuple(name for name, (_, unit, _) in _SPELLINGS.items() if name and unit in units)


_TIME_STEPS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
_BYTE_STEPS = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))


def format_value(value: float, unit: Unit) -> str:
    """Write a value for people: three significant digits and the unit that suits its size (``12.3 ms``, ``97.5 %``)."""
    if unit is Unit.NANOSECONDS:
        return _stepped(value, _TIME_STEPS)
    if unit is Unit.BYTES:
        return _stepped(value, _BYTE_STEPS)
    if unit is Unit.FRACTION:
        return f"{value * 100:.2f} %"
    if unit is Unit.PER_SECOND:
        return f"{_digits(value)} /s"
    if unit is Unit.JOULES:
        return f"{_digits(value * 1e3)} mJ" if abs(value) < 1 else f"{_digits(value)} J"
    if unit is Unit.WATTS:
        return f"{_digits(value)} W"
    return _digits(value)


def format_change(fraction: float) -> str:
    """Write a relative change with its sign: 0.031 is ``+3.1 %``."""
    return f"{fraction * 100:+.1f} %"


def format_points(difference: float) -> str:
    """Write a difference of fractions with its sign: -0.005 is ``-0.50 points``."""
    return f"{difference * 100:+.2f} points"


def _stepped(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for size, name in steps:
        if abs(value) >= size:
            return f"{_digits(value / size)} {name}"
    return f"{_digits(value / steps[-1][0])} {steps[-1][1]}"


def _digits(value: float) -> str:
    """Three significant digits, never in exponent form where people read it."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 12)}f}"
