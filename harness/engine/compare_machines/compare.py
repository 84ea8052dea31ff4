"""``harness compare`` from runs to the whole finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import CannotMeasure
from harness.core.purchase import Answer, Assumptions, LeftOut, Machine, Purchase
from harness.engine.compare_machines import answer as sentences
from harness.engine.compare_machines.answer import Evidence
from harness.engine.compare_machines.machines import differing, find_machines
from harness.engine.compare_machines.offers import best_offers, left_without_energy, make_offers, questions_of, ties_of
from harness.engine.compare_machines.prices import Prices, energy_price, one_currency, read_loads, read_prices, share
from harness.engine.compare_machines.read_runs import Named, read_runs
from harness.engine.compare_machines.same_work import Measured, measured_in, same_work, unmeasured_in
from harness.engine.compare_machines.sensitivity import USUAL_LOADS, break_evens, fleets
from harness.engine.compare_machines.told_apart import SESSION_MARGIN, tell_apart

HOURS_A_MONTH = 730.0
"""365 days of 24 hours, over 12."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options of the command line, as they were written."""

    prices: tuple[str, ...] = ()
    hardware: Path | None = None
    energy_price: str | None = None
    utilisation: str | None = None
    loads: tuple[str, ...] = ()
    session_margin: str | None = None


def compare(words: Sequence[str], reports: Path, wishes: Wishes) -> Purchase:
    """Read the runs and compare their machines. Raises BadInput for options and names that are wrong, CannotMeasure where no run has
    timings."""
    prices = read_prices(wishes.prices, wishes.hardware)
    energy = energy_price(wishes.energy_price)
    utilisation = 1.0 if wishes.utilisation is None else share(wishes.utilisation, "--utilisation", "60 %")
    margin = SESSION_MARGIN if wishes.session_margin is None else share(wishes.session_margin, "--session-margin", "15 %")
    loads = read_loads(wishes.loads) or USUAL_LOADS
    said = Assumptions(
        utilisation=utilisation,
        utilisation_told="taken as full" if wishes.utilisation is None else "--utilisation",
        energy_price_per_kwh=None if energy is None else energy[0],
        currency=None if energy is None else energy[1],
        session_margin=margin,
        hours_a_month=HOURS_A_MONTH,
    )
    return compare_runs(read_runs(words, reports), prices, said, loads)


def compare_runs(given: Sequence[Named], prices: Prices, said: Assumptions, loads: Sequence[float]) -> Purchase:
    """The machines of these runs, an answer for each scenario, and what differs."""
    records = measured_in(given)
    if not records:
        hint = "'harness run SCENARIOS' on each machine measures all of them"
        raise CannotMeasure("none of these runs has timings of its own", hint=hint)
    found, records = find_machines(records, prices)
    kept, left_out = same_work(records)
    compared = {record.machine for record in kept}
    machines = tuple(machine for machine in found if machine.name in compared)
    energy = None if said.energy_price_per_kwh is None or said.currency is None else (said.energy_price_per_kwh, said.currency)
    currency = one_currency({machine.name: machine.price for machine in machines if machine.price is not None}, energy)
    scenarios = dict.fromkeys(record.trial.scenario for record in records)
    answers = tuple(
        _answer(
            scenario,
            machines,
            [record for record in kept if record.trial.scenario == scenario],
            [one for one in left_out if one.work.scenario == scenario],
            said,
            currency,
            loads,
        )
        for scenario in scenarios
    )
    notes = [*unmeasured_in(given), *_notes(said, answers, machines)]
    return Purchase(machines, answers, said, tuple(differing(machines)), tuple(dict.fromkeys(notes)))


def _answer(
    scenario: str,
    machines: Sequence[Machine],
    kept: Sequence[Measured],
    left_out: Sequence[LeftOut],
    said: Assumptions,
    currency: str | None,
    loads: Sequence[float],
) -> Answer:
    names = {record.machine for record in kept}
    here = [machine for machine in machines if machine.name in names]
    offers = make_offers(here, kept, said)
    best = best_offers(offers)
    pairs = tell_apart(questions_of(offers, best), said.session_margin)
    ties = ties_of(best, pairs)
    evens = break_evens(best, ties, here, said, currency)
    for_loads = fleets(best, here, said, loads)
    evidence = Evidence(here, offers, best, ties, pairs, left_out, evens, for_loads, said)
    priced = evidence.priced
    return Answer(
        scenario=scenario,
        headline=sentences.headline(evidence),
        decided=bool(priced) and not ties,
        why=tuple(sentences.why(evidence)),
        could_change=tuple(sentences.could_change(evidence)),
        winner=priced[0].machine if priced else None,
        ties=ties,
        clauses=tuple(evidence.promised),
        offers=offers,
        best=best,
        pairs=tuple(pairs),
        left_out=tuple(left_out),
        break_even=evens,
        fleets=for_loads,
    )


def _notes(said: Assumptions, answers: Sequence[Answer], machines: Sequence[Machine]) -> list[str]:
    notes = [why for answer in answers if (why := left_without_energy(said, answer.offers)) is not None]
    notes += [
        f"{machine.name} has no price: it is compared in speed and not in cost ('--price {machine.name}=1.20')"
        for machine in machines
        if machine.price is None
    ]
    if len(machines) == 1:
        notes.append("all runs are of one machine: name them to keep two machines apart, such as 'a=RUN b=RUN'")
    return notes
