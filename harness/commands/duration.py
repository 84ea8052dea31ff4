"""The value of ``--budget`` and of other options that are times."""

from __future__ import annotations


def seconds_of(text: str, option: str = "--budget") -> float:
    """``60s`` or ``2 min`` in seconds. Raises BadInput for what is no time above zero."""
    from harness.core.errors import BadInput, Problem
    from harness.core.units import Unit, parse_quantity

    try:
        quantity = parse_quantity(text)
        if quantity.unit is not Unit.NANOSECONDS or quantity.value <= 0:
            raise ValueError(f"{text!r} is not a time")
    except ValueError as error:
        raise BadInput(Problem(f"{option}: {error}", hint="write it as '60s' or '2 min'")) from error
    return quantity.value / 1e9
