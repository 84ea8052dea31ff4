"""What telemetry saw of a trial, an arm to a line: all its launches together, in words for a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.result import Distribution, TrialRecord
from harness.core.telemetry import Gauge, Spread, Telemetry
from harness.core.units import Unit, format_value

NOTHING = "–"
WORDS = {
    Gauge.SM_CLOCK_MHZ: "SM",
    Gauge.MEMORY_CLOCK_MHZ: "memory",
    Gauge.FREQUENCY_MHZ: "CPU",
}


@dataclass(frozen=True, slots=True)
class SeenRow:
    """One arm. ``marks`` and ``notes`` say in how many of its launches they hold."""

    arm: str
    launches: int
    energy: str
    power: str
    clocks: str
    heat: str
    held_back: str
    company: str
    marks: tuple[str, ...]
    notes: tuple[str, ...]


def seen_rows(trial: TrialRecord) -> tuple[SeenRow, ...]:
    """Every arm that telemetry was taken of."""
    return tuple(_row(arm, found) for arm in trial.distributions if (found := _telemetry(arm)))


def _telemetry(arm: Distribution) -> list[Telemetry]:
    return [launch.telemetry for launch in arm.launches if launch.telemetry is not None]


def _row(arm: Distribution, seen: Sequence[Telemetry]) -> SeenRow:
    reasons = Counter(f"{held.source}: {held.reason}" for one in seen for held in one.held_back)
    strangers = sorted({guest.pid for one in seen for guest in one.company})
    return SeenRow(
        arm=arm.arm,
        launches=len(seen),
        energy=_energy(seen),
        power=_power(seen),
        clocks=_clocks(seen),
        heat=_heat(seen),
        held_back=", ".join(f"{reason} ({_launches(number, len(seen))})" for reason, number in reasons.items()) or NOTHING,
        company=f"process {', '.join(map(str, strangers))}" if strangers else NOTHING,
        marks=_counted([mark.what for one in seen for mark in one.marks], len(seen)),
        notes=_counted([note for one in seen for note in (*one.notes, *([one.no_energy] if one.no_energy else []))], len(seen)),
    )


def _energy(seen: Sequence[Telemetry]) -> str:
    """The mean of a launch by domain; those beside the device are told apart."""
    domains = {energy.domain: energy.of_device for one in seen for energy in one.energies}
    told = []
    for domain, of_device in domains.items():
        joules = [energy.joules for one in seen for energy in one.energies if energy.domain == domain]
        told.append(f"{domain} {format_value(sum(joules) / len(joules), Unit.JOULES)}{'' if of_device else ' beside it'}")
    return ", ".join(told) or NOTHING


def _power(seen: Sequence[Telemetry]) -> str:
    """From the counters where they tell it, else from samples of the power."""
    known = [(one.joules, one.timed_ns) for one in seen if one.joules is not None and one.timed_ns]
    if known:
        return format_value(sum(joules for joules, _ in known) / (sum(time for _, time in known) / 1e9), Unit.WATTS)
    sampled = _spreads(seen, Gauge.POWER_W)
    return f"{format_value(_mean(sampled), Unit.WATTS)} in samples" if sampled else NOTHING


def _clocks(seen: Sequence[Telemetry]) -> str:
    told = []
    for gauge, word in WORDS.items():
        if found := _spreads(seen, gauge):
            low, high = min(one.low for one in found), max(one.high for one in found)
            told.append(f"{word} {low:,.0f} MHz" if round(low) == round(high) else f"{word} {low:,.0f} to {high:,.0f} MHz")
    return ", ".join(told) or NOTHING


def _heat(seen: Sequence[Telemetry]) -> str:
    found = _spreads(seen, Gauge.TEMPERATURE_CELSIUS)
    return f"up to {max(one.high for one in found):.0f} °C" if found else NOTHING


def _spreads(seen: Sequence[Telemetry], gauge: Gauge) -> list[Spread]:
    return [spread for one in seen if (spread := one.spread(gauge)) is not None]


def _mean(spreads: Sequence[Spread]) -> float:
    """Over all samples."""
    return sum(one.mean * one.samples for one in spreads) / sum(one.samples for one in spreads)


def _counted(told: Sequence[str], launches: int) -> tuple[str, ...]:
    return tuple(f"{what} ({_launches(number, launches)})" for what, number in Counter(told).items())


def _launches(number: int, of: int) -> str:
    return f"in {number} of {of} launches"
