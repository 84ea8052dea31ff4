"""From what a watch has collected to the telemetry of one arm. Pure functions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.core.telemetry import Company, Energy, Gauge, HeldBack, Spread, Telemetry
from harness.engine.telemetry.counters import joules_within
from harness.engine.telemetry.marks import CPU, CPU_HEAT, marks_of
from harness.engine.telemetry.nvml import others

if TYPE_CHECKING:
    from harness.engine.telemetry.seen import Look, Seen, Turns

STEPS_A_TURN, STEPS_ALONE = 5, 10
"""How often a counter must move in a slice where two arms take turns, and in a whole launch where one is alone. It lags by up to one step:
at most a fifth of an arm's turn is told with the other arm's power, on average a tenth; and a launch alone is off by a tenth at most."""
WISH = "name energy_per_inference under 'gate' or 'sla', and the turns are made long enough"


def telemetry_of(seen: Seen, arm: str) -> Telemetry:
    """What was seen of one arm. Clocks, heat and company are the device's and so both arms'; samples are those of its own slices."""
    looks = [look for look in seen.looks if look.arm == arm]
    energies, no_energy = _energies(seen, arm)
    held_back = _held_back(seen, looks)
    strangers, matched = others(seen.seen, seen.ours, seen.before)
    busy = seen.busy
    company = tuple(Company(seen.source or CPU, pid, None if busy is None else busy.get(pid, 0.0)) for pid in strangers)
    return Telemetry(
        period_ns=seen.period_ns,
        samples=len(looks),
        timed_ns=seen.turns[arm].timed_ns,
        energies=energies,
        spreads=tuple(_spreads(looks, seen.source or CPU)),
        held_back=held_back,
        company=company,
        marks=marks_of(held_back, company, seen.lost, seen.source or CPU, len(looks)),
        no_energy=no_energy,
        notes=tuple(_notes(seen, looks, matched=matched)) if seen.source else (),
    )


def _energies(seen: Seen, arm: str) -> tuple[tuple[Energy, ...], str | None]:
    """Joules by domain, and why the device's are not known."""
    reasons = [] if seen.trouble is None else [seen.trouble]
    found = []
    for domain in dict.fromkeys((*seen.wanted, *seen.turns[arm].joules)):
        energy = _energy(seen, domain, arm)
        if isinstance(energy, Energy):
            found.append(energy)
        elif domain in seen.wanted:
            reasons.append(energy)
    return tuple(found), "; ".join(reasons) or None


def _energy(seen: Seen, domain: str, arm: str) -> Energy | str:
    """What one domain took, or why that cannot be told."""
    turns, of_device = seen.turns[arm], domain in seen.wanted
    if domain in turns.joules:
        step, joules = seen.steps.get(domain), turns.joules[domain]
        if joules is None:
            return f"the energy counter of {domain} was set back, or stopped to answer, while the launch was measured"
        if step is None or joules <= 0:
            return f"the energy counter of {domain} does not move: it shows nothing here"
        found = Energy(domain, joules, of_device, step)
    else:
        power = [(look.at_ns, look.gpu.gauges[Gauge.POWER_W]) for look in seen.looks if look.gpu and Gauge.POWER_W in look.gpu.gauges]
        if len(power) < 2:
            return f"{domain} has no energy counter that can be read, and its power was seen in {len(power)} samples"
        joules = sum(joules_within(power, begin, end) for begin, end in turns.spans)
        found = Energy(domain, joules, of_device, seen.period_ns, "power samples")
    return _unresolved(found, turns, alone=len(seen.turns) == 1) or found


def _unresolved(energy: Energy, turns: Turns, *, alone: bool) -> str | None:
    """Why a counter is too coarse for what it was read over, and the next step; None where it is not."""
    span = turns.timed_ns if alone else turns.timed_ns / max(1, len(turns.spans))
    needed = (STEPS_ALONE if alone else STEPS_A_TURN) * energy.step_ns
    if span >= needed:
        return None
    if energy.method == "counter":
        moves = f"the energy counter of {energy.domain} moves every {energy.step_ns / 1e6:.3g} ms"
    else:
        moves = f"{energy.domain} has no energy counter, and its power is sampled every {energy.step_ns / 1e6:.3g} ms"
    if alone:
        return f"{moves}, too seldom for a launch of {span / 1e6:.3g} ms: raise measure.duration to {needed / 1e9:.3g} s"
    return f"{moves}, too seldom for two arms that take turns of {span / 1e6:.3g} ms: {WISH}"


def _held_back(seen: Seen, looks: Sequence[Look]) -> tuple[HeldBack, ...]:
    counts = Counter(reason for look in looks if look.gpu for reason in look.gpu.reasons or ())
    found = [HeldBack(seen.source or CPU, reason, number) for reason, number in sorted(counts.items())]
    if seen.throttled:
        found.append(HeldBack(CPU, CPU_HEAT, seen.throttled))
    return tuple(found)


def _notes(seen: Seen, looks: Sequence[Look], *, matched: bool) -> Iterator[str]:
    """What could not be seen of a GPU."""
    if not any(look.gpu and look.gpu.reasons is not None for look in looks):
        yield f"whether the clock of {seen.source} was held back could not be seen"
    if not seen.seen:
        yield f"who else computes on {seen.source} could not be seen"
    elif not matched:
        yield f"the driver's process numbers are not those of this container: who came to {seen.source} meanwhile cannot be told"


def _spreads(looks: Sequence[Look], source: str) -> Iterator[Spread]:
    values: dict[tuple[str, Gauge], list[float]] = defaultdict(list)
    for look in looks:
        for gauge, value in look.cpu.items():
            values[CPU, gauge].append(value)
        for gauge, value in look.gpu.gauges.items() if look.gpu else ():
            values[source, gauge].append(value)
        if look.memory_bytes is not None:
            values[source, Gauge.PROCESS_MEMORY_BYTES].append(float(look.memory_bytes))
    for (whose, gauge), found in sorted(values.items()):
        yield Spread(whose, gauge, sum(found) / len(found), min(found), max(found), len(found))
