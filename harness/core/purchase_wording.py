"""Sentences of a purchase that the page, the terminal and the answer share. Nothing is decided here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.core.units import Unit, format_value

if TYPE_CHECKING:
    from harness.core.estimate import ConfidenceInterval
    from harness.core.purchase import Amount, Line, Machine, Pair


def money(value: float, currency: str) -> str:
    """Three significant digits of small amounts, cents of large ones: ``0.0842 USD``, ``58.40 USD``, ``1,204 USD``."""
    return f"{digits(value)} {currency}"


def digits(value: float) -> str:
    """A number as money is written, without its currency."""
    if not math.isfinite(value):
        return "∞"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:,.2f}"
    return f"{value:.{min(12, max(2, 2 - math.floor(math.log10(abs(value)))))}f}"


def amount(cost: Amount) -> str:
    """``0.0842 USD (0.0817 to 0.0869)``."""
    told = money(cost.value, cost.currency)
    return told if cost.interval is None else f"{told} ({span(cost.interval)})"


def span(interval: ConfidenceInterval) -> str:
    """Both ends as money is written; an end that nothing bounds is said."""
    if math.isinf(interval.high):
        return f"at least {digits(interval.low)}"
    return f"{digits(interval.low)} to {digits(interval.high)}"


def line_value(line: Line) -> str:
    """The value of a line of the arithmetic with its unit."""
    return _in_unit(line.value, line.unit, line.what)


def line_interval(line: Line) -> str:
    """Both ends of its interval with the unit; "as given" where nothing was measured."""
    if line.interval is None:
        return "as given"
    low = _in_unit(line.interval.low, line.unit, line.what, 5)
    if math.isinf(line.interval.high):
        return f"at least {low}"
    return f"{low.removesuffix(f' {line.unit}')} to {_in_unit(line.interval.high, line.unit, line.what, 5)}"


def _in_unit(value: float, unit: str, what: str, places: int = 7) -> str:
    if what == "utilisation":
        return f"{value * 100:.4g} %"
    return f"{exact(value, places)} {unit}".rstrip()


def exact(value: float, places: int = 7) -> str:
    """Seven significant digits, so that a reader with a calculator gets the next line: ``404.2995``, ``873,286.9``, ``0.8473686``."""
    if not math.isfinite(value):
        return "∞"
    decimals = 0 if value == 0 else max(0, places - 1 - math.floor(math.log10(abs(value))))
    told = f"{value:,.{min(decimals, 15)}f}"
    return told.rstrip("0").rstrip(".") if "." in told else told


def hardware(machine: Machine) -> str:
    """``AMD EPYC 7B13, 1 of 2 CPUs, 7.77 GiB``; the GPU first where that is what runs."""
    cpus = f"{machine.cpu_count} {'CPU' if machine.cpu_count == 1 else 'CPUs'}"
    if machine.cores is not None and machine.cores != machine.cpu_count:
        cpus = f"{machine.cores} of {cpus}"
    parts = [*machine.gpus, machine.cpu, cpus, format_value(machine.memory_bytes, Unit.BYTES)]
    return ", ".join(parts)


def ratio(pair: Pair) -> str:
    """``×1.94 (1.61 to 2.33)``, the second machine over the first."""
    if pair.ratio is None or pair.interval is None:
        return "-"
    return f"×{_factor(pair.ratio)} ({_factor(pair.interval.low)} to {_factor(pair.interval.high)})"


def _factor(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 0.1 else f"{value:.2f}"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def promises(number: int) -> str:
    """``keeps all 4 promises``, ``keeps both promises``, ``keeps its promise``."""
    few = {0: "does the work (the scenario promises nothing)", 1: "keeps its promise", 2: "keeps both promises"}
    return few.get(number, f"keeps all {number} promises")
