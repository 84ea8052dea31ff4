"""One machine doing one work: its numbers over its sessions, the rate that its cost rests on, and the arithmetic line by line."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.comparison import SlaFinding, SlaState
from harness.core.estimate import ConfidenceInterval, Estimate
from harness.core.purchase import Amount, Assumptions, Clause, Line, Machine, Offer, Price, Room
from harness.core.purchase_wording import exact
from harness.core.result import TrialRecord
from harness.core.wording import SLA_ORDER
from harness.engine.compare_machines.same_work import Measured
from harness.engine.diffing.trials import figures_of

MILLION = 1_000_000
SECONDS_AN_HOUR = 3600
JOULES_A_KWH = 3.6e6
ENERGY, CAPACITY, THROUGHPUT = "energy_per_inference", "capacity", "throughput"
PEAK, GPU_PEAK = "peak_memory", "gpu_memory_peak"
FULL_SPEED = {"offline": "batches back to back", "single_stream": "one query at a time"}
"""Loads that ask for the next as soon as the last is done, so that their throughput is what the machine does."""
MACHINE_COST, ENERGY_COST, WHOLE_COST = "machine for a million", "energy for a million", "cost of a million"
LEVEL = 0.95
TOLD = ("latency_p50", "latency_p99", THROUGHPUT, CAPACITY, "accuracy", PEAK, GPU_PEAK, ENERGY, "model_size")
"""What a buyer is told of every offer."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Inferences a second: the estimate that it rests on, what one unit of that estimate is worth, and what kind of rate it is."""

    estimate: Estimate
    inferences: int
    told: str


def make_offer(machine: Machine, group: Sequence[Measured], findings: Sequence[SlaFinding], said: Assumptions, with_energy: bool) -> Offer:
    """An offer from the sessions of one machine; ``with_energy`` is true where every machine of the comparison has measured it."""
    newest = group[-1].trial
    names = [name for name in TOLD if any(record.trial.estimate(name) for record in group)]
    estimates = tuple(estimate for name in names if (estimate := over_sessions(group, name)) is not None)
    offer = Offer(
        machine=machine.name,
        work=group[-1].work,
        estimates=estimates,
        rate=None,
        rate_told="",
        clauses=_clauses(findings),
        lines=(),
        cost=None,
        no_cost="",
        room=_room(machine, estimates),
        figures={
            name: sessions
            for name in names
            if (sessions := tuple(tuple(figures) for record in group if (figures := figures_of(record.trial, name))))
        },
        notes=tuple(dict.fromkeys(note for record in group for note in record.trial.notes if note.startswith("UNSTEADY"))),
    )
    rate = rate_of(offer)
    if rate is None:
        return replace(offer, no_cost=_why_no_rate(newest))
    return _priced(replace(offer, rate=rate.estimate, rate_told=rate.told), rate, machine, said, with_energy)


def _why_no_rate(trial: TrialRecord) -> str:
    if trial.load in FULL_SPEED:
        why = next((absent.reason for absent in trial.absent if absent.metric == THROUGHPUT), "not measured")
        return f"no throughput: {why}"
    why = next((absent.reason for absent in trial.absent if absent.metric == CAPACITY), "not measured")
    asked = f"under the load {trial.load} the throughput may be only what was asked for, not what the machine can do"
    return f"{asked}, and there is no capacity: {why}"


def over_sessions(group: Sequence[Measured], metric: str) -> Estimate | None:
    """The estimate of the only session; of several their geometric mean, with a t interval over sessions on logarithms. A number that is
    exact, or of samples, is the newest session's."""
    found = [estimate for record in group if (estimate := record.trial.estimate(metric)) is not None]
    if not found:
        return None
    values = [estimate.value for estimate in found]
    if len(found) == 1 or found[-1].n_of != "launches" or min(values) <= 0:
        return found[-1]
    from harness.stats.independent import mean_interval

    on_logs = mean_interval([math.log(value) for value in values], LEVEL)
    interval = ConfidenceInterval(_exp(on_logs.low), _exp(on_logs.high), LEVEL)
    return replace(found[-1], value=statistics.geometric_mean(values), interval=interval, n=len(values), n_of="sessions")


def rate_of(offer: Offer) -> Rate | None:
    """The capacity where it was measured, the highest rate that keeps the promises; else what the load of the scenario reached.

    None of a load over the network without a capacity: it answers what it is asked, whatever more the machine could do.
    """
    batch = offer.work.batch_size
    if (capacity := offer.estimate(CAPACITY)) is not None and capacity.value > 0:
        return Rate(capacity, batch, "capacity: the highest rate of queries that keeps the SLA")
    throughput, how = offer.estimate(THROUGHPUT), FULL_SPEED.get(offer.work.load)
    if throughput is None or throughput.value <= 0 or how is None:
        return None
    return Rate(throughput, 1, f"throughput at batch {batch}, {how}")


def cost_figures(offer: Offer) -> tuple[tuple[float, ...], ...]:
    """What a million inferences would cost by each launch alone, session by session: what costs are told apart by.

    Each launch's figure stands in for the estimate in the same arithmetic; the energy, where it counts, is that of the estimate.
    """
    if offer.cost is None or offer.rate is None or offer.rate.metric not in offer.figures:
        return ()
    energy = next((line.value for line in offer.lines if line.what == ENERGY_COST), 0.0)
    machine = offer.cost.value - energy
    sessions = offer.figures[offer.rate.metric]
    return tuple(tuple(energy + machine * offer.rate.value / figure for figure in session) for session in sessions)


def _priced(offer: Offer, rate: Rate, machine: Machine, said: Assumptions, with_energy: bool) -> Offer:
    """The lines of the arithmetic as far as they go, and the cost where the machine has a price."""
    estimate = rate.estimate
    per_s = estimate.value * rate.inferences
    lines = [
        Line(
            "rate",
            estimate.metric,
            estimate.value,
            estimate.interval,
            "queries a second" if rate.inferences > 1 else "/s",
            _from(estimate, rate),
        )
    ]
    if rate.inferences > 1:
        lines.append(
            Line("inferences a second", f"rate × batch size {rate.inferences}", per_s, _times(estimate.interval, rate.inferences), "/s", "")
        )
    hourly = per_s * said.utilisation * SECONDS_AN_HOUR
    hourly_interval = _times(estimate.interval, rate.inferences * said.utilisation * SECONDS_AN_HOUR)
    lines += [
        Line("utilisation", "share of an hour that it works", said.utilisation, None, "", said.utilisation_told),
        Line(
            "inferences an hour",
            f"{exact(per_s)} × {said.utilisation:g} × 3,600 s",
            hourly,
            hourly_interval,
            "",
            "",
        ),
    ]
    if machine.price is None:
        why = "no price an hour: not in the run, nor given by --price or --hardware"
        return replace(offer, lines=tuple(lines), no_cost=why)
    price = machine.price
    cost = price.per_hour / hourly * MILLION
    interval = _over(price.per_hour * MILLION, hourly_interval)
    lines += [
        Line("price", "of an hour", price.per_hour, None, f"{price.currency}/h", price.source),
    ]
    energy_lines, energy, energy_interval = _energy(offer, price, said) if with_energy else ([], 0.0, None)
    named = MACHINE_COST if energy_lines else WHOLE_COST
    lines.append(Line(named, f"{price.per_hour:g} / {exact(hourly)} × 1,000,000", cost, interval, price.currency, ""))
    lines += energy_lines
    if energy_lines:
        lines.append(
            Line(
                WHOLE_COST,
                f"{exact(cost)} + {exact(energy)}",
                cost + energy,
                _plus(cost, interval, energy, energy_interval),
                price.currency,
                "",
            )
        )
    last = lines[-1]
    return replace(offer, lines=tuple(lines), cost=Amount(last.value, last.interval, price.currency))


def _energy(offer: Offer, price: Price, said: Assumptions) -> tuple[list[Line], float, ConfidenceInterval | None]:
    """The energy of a million inferences, and its price."""
    found, per_kwh = offer.estimate(ENERGY), said.energy_price_per_kwh
    if found is None or per_kwh is None:
        return [], 0.0, None
    kwh = found.value * MILLION / JOULES_A_KWH
    to_money = MILLION / JOULES_A_KWH * per_kwh
    cost, interval = found.value * to_money, _times(found.interval, to_money)
    lines = [
        Line("energy of an inference", ENERGY, found.value, found.interval, "J", f"measured, {found.n} {found.n_of}"),
        Line(
            "energy in kWh",
            f"{exact(found.value)} J × 1,000,000 / 3,600,000",
            kwh,
            _times(found.interval, MILLION / JOULES_A_KWH),
            "kWh",
            "",
        ),
        Line("energy price", "of a kWh", per_kwh, None, f"{price.currency}/kWh", "--energy-price"),
        Line(ENERGY_COST, f"{exact(kwh)} kWh × {per_kwh:g}", cost, interval, price.currency, ""),
    ]
    return lines, cost, interval


def _clauses(findings: Sequence[SlaFinding]) -> tuple[Clause, ...]:
    """Each promise once, with its gravest state over the sessions."""
    gravest: dict[str, SlaFinding] = {}
    for finding in findings:
        known = gravest.get(finding.clause)
        if known is None or SLA_ORDER.index(finding.state) < SLA_ORDER.index(known.state):
            gravest[finding.clause] = finding
    return tuple(Clause(text, one.metric, one.state, one.reason) for text, one in gravest.items())


def with_missing(offer: Offer, promised: Sequence[str]) -> Offer:
    """A promise that another machine's run checked and this one's did not is UNMEASURED here, never kept."""
    known = {clause.text for clause in offer.clauses}
    missing = [text for text in promised if text not in known]
    why = "the scenario of this run does not have this promise"
    more = tuple(Clause(text, text.partition(":")[0].rpartition(".")[2], SlaState.UNMEASURED, why) for text in missing)
    return replace(offer, clauses=(*offer.clauses, *more))


def _room(machine: Machine, estimates: Sequence[Estimate]) -> Room | None:
    """Of the device that the model runs on; None where its peak was not measured."""
    metric, of = (PEAK, "memory") if machine.device == "cpu" else (GPU_PEAK, "GPU memory")
    peak = next((estimate for estimate in estimates if estimate.metric == metric), None)
    if peak is None or peak.value <= 0 or machine.memory_bytes <= 0:
        return None
    return Room(peak.value, machine.memory_bytes, of)


def _from(estimate: Estimate, rate: Rate) -> str:
    return f"measured, {estimate.n} {estimate.n_of}; {rate.told}"


def _times(interval: ConfidenceInterval | None, factor: float) -> ConfidenceInterval | None:
    return None if interval is None else ConfidenceInterval(interval.low * factor, interval.high * factor, interval.level)


def _over(amount: float, interval: ConfidenceInterval | None) -> ConfidenceInterval | None:
    """``amount`` over a quantity: the ends change places, and a low end that is not above zero leaves the cost without an upper one."""
    if interval is None:
        return None
    high = amount / interval.low if interval.low > 0 else math.inf
    return ConfidenceInterval(amount / interval.high, high, interval.level)


def _plus(
    first: float, first_interval: ConfidenceInterval | None, second: float, second_interval: ConfidenceInterval | None
) -> ConfidenceInterval | None:
    """The sum of two that were measured in the same launches: their errors are taken to go together, which never makes it too narrow."""
    if first_interval is None and second_interval is None:
        return None
    one, other = (
        (interval.low, interval.high) if interval else (value, value)
        for value, interval in ((first, first_interval), (second, second_interval))
    )
    return ConfidenceInterval(one[0] + other[0], one[1] + other[1], LEVEL)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))
