"""What could change the answer: at which price the ranking turns, and how many machines a load needs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.core.estimate import ConfidenceInterval
from harness.core.purchase import Assumptions, BreakEven, Fleet, FleetCell, Machine, Offer
from harness.engine.compare_machines.costs import ENERGY_COST, MILLION, SECONDS_AN_HOUR

USUAL_LOADS = (10.0, 100.0, 1_000.0, 10_000.0)
"""Inferences a second, where none was asked for."""
ROUNDING = 1e-9
"""What floating point may add to a number of machines that comes out even."""


def break_evens(
    best: Sequence[Offer], ties: Sequence[str], machines: Sequence[Machine], said: Assumptions, currency: str | None
) -> tuple[BreakEven, ...]:
    """For the cheapest machine the price at which the next one costs as much; for every other the price at which it costs as much as the
    cheapest. A machine without a price has such a price too."""
    priced = [offer for offer in best if offer.cost is not None]
    if not priced or currency is None:
        return ()
    winner = priced[0]
    prices = {machine.name: machine.price for machine in machines}
    found: list[BreakEven] = []
    for offer in [*priced[1:2], *(other for other in best if other is not winner)]:
        subject, against = (winner, offer) if not found and offer in priced else (offer, winner)
        own = prices[subject.machine]
        now = None if own is None else own.per_hour
        even = _even(subject, against, said)
        if even is None:
            continue
        value, interval = even
        tied = subject.machine in ties or (subject is winner and against.machine in ties)
        found.append(
            BreakEven(subject.machine, against.machine, now, value, interval, currency, _told(subject is winner, tied, now, value))
        )
    return tuple(found)


def hourly(offer: Offer, said: Assumptions) -> tuple[float, ConfidenceInterval | None]:
    """Inferences an hour at the utilisation, as the arithmetic has it."""
    line = next(line for line in offer.lines if line.what == "inferences an hour")
    return line.value, line.interval


def rate_per_s(offer: Offer) -> tuple[float, ConfidenceInterval | None]:
    """Inferences a second of a machine that is busy all the time."""
    line = next((line for line in offer.lines if line.what == "inferences a second"), offer.lines[0])
    return line.value, line.interval


def fleets(best: Sequence[Offer], machines: Sequence[Machine], said: Assumptions, loads: Sequence[float]) -> tuple[Fleet, ...]:
    """For every load the number of machines, ceil(load / (rate x utilisation)), and what they cost a month."""
    prices = {machine.name: machine.price for machine in machines}
    found = []
    for load in loads:
        cells = tuple(_cell(offer, load, said, None if (price := prices[offer.machine]) is None else price.per_hour) for offer in best)
        costs = [cell.cost_month for cell in cells if cell.cost_month is not None]
        cheapest = tuple(
            cell.machine for cell in cells if costs and cell.cost_month is not None and math.isclose(cell.cost_month, min(costs))
        )
        found.append(Fleet(load, cells, cheapest))
    return tuple(found)


def _even(subject: Offer, against: Offer, said: Assumptions) -> tuple[float, ConfidenceInterval | None] | None:
    """The hourly price at which ``subject`` costs what ``against`` does: (cost of the other - own energy) x inferences an hour / million.

    The interval takes the ends of both intervals that lie farthest apart, so it is rather too wide than too narrow. None where the energy
    alone costs more than the other machine.
    """
    assert against.cost is not None
    energy = next((line.value for line in subject.lines if line.what == ENERGY_COST), 0.0)
    per_hour, hourly_interval = hourly(subject, said)
    price = (against.cost.value - energy) * per_hour / MILLION
    if price <= 0:
        return None
    cost_interval = against.cost.interval
    if hourly_interval is None or cost_interval is None:
        return price, None
    low = max(0.0, (cost_interval.low - energy) * max(hourly_interval.low, 0.0) / MILLION)
    high = (cost_interval.high - energy) * hourly_interval.high / MILLION
    return price, ConfidenceInterval(low, max(low, high), cost_interval.level)


def _told(is_winner: bool, tied: bool, now: float | None, even: float) -> str:
    if now is None:
        return "has no price: below this one it would be the cheapest"
    if now == 0:
        return "costs nothing now"
    change = f"{(even / now - 1) * 100:+.1f} %"
    if tied:
        return f"cannot be told apart now; both cost the same at this price ({change})"
    return f"stays the cheapest up to this price ({change})" if is_winner else f"becomes the cheapest below this price ({change})"


def _cell(offer: Offer, load: float, said: Assumptions, per_hour: float | None) -> FleetCell:
    rate, interval = rate_per_s(offer)
    number = _machines(load, rate, said)
    fewest = number if interval is None else _machines(load, interval.high, said)
    most = number if interval is None else _machines(load, interval.low, said) if interval.low > 0 else None
    energy = next((line.value for line in offer.lines if line.what == ENERGY_COST), 0.0)
    used = load * SECONDS_AN_HOUR * said.hours_a_month / MILLION * energy
    return FleetCell(offer.machine, number, fewest, most, None if per_hour is None else number * per_hour * said.hours_a_month + used)


def _machines(load: float, rate: float, said: Assumptions) -> int:
    return max(1, math.ceil(load / (rate * said.utilisation) * (1 - ROUNDING)))
