"""Every machine's offers for a scenario, its best one, and which of them can be told apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from harness.core.comparison import SlaFinding
from harness.core.estimate import Direction
from harness.core.purchase import Apart, Assumptions, Machine, Offer, Pair, Work
from harness.engine.compare_machines.costs import CAPACITY, ENERGY, THROUGHPUT, cost_figures, make_offer, with_missing
from harness.engine.compare_machines.same_work import Measured
from harness.engine.compare_machines.told_apart import Question

COST = "cost of a million"
_BETTER: Mapping[str, Direction] = {
    "latency_p50": "lower",
    "latency_p99": "lower",
    THROUGHPUT: "higher",
    CAPACITY: "higher",
    ENERGY: "lower",
    COST: "lower",
}
_OF_WORK = ("latency_p50", "latency_p99", THROUGHPUT, CAPACITY, ENERGY)
_OF_SESSIONS = ("latency_p50", THROUGHPUT, CAPACITY)


def make_offers(machines: Sequence[Machine], kept: Sequence[Measured], said: Assumptions) -> tuple[Offer, ...]:
    """An offer for each machine and work of one scenario, the works in the order of the runs."""
    groups: dict[tuple[Work, str], list[Measured]] = defaultdict(list)
    for record in kept:
        groups[record.work, record.machine].append(record)
    with_energy = said.energy_price_per_kwh is not None and all(record.trial.estimate(ENERGY) is not None for record in kept)
    by_name = {machine.name: machine for machine in machines}
    offers = []
    for work in dict.fromkeys(work for work, _ in groups):
        of_work = [
            make_offer(by_name[name], group, findings_of(group), said, with_energy) for (of, name), group in groups.items() if of == work
        ]
        promised = tuple(dict.fromkeys(clause.text for offer in of_work for clause in offer.clauses))
        offers += [with_missing(offer, promised) for offer in of_work]
    return tuple(offers)


def findings_of(group: Sequence[Measured]) -> list[SlaFinding]:
    """What the runs found of every promise on this trial."""
    return [finding for record in group for finding in record.result.sla if finding.trial == record.trial.id]


def best_offers(offers: Sequence[Offer]) -> tuple[Offer, ...]:
    """Of every machine the cheapest offer that keeps all promises, the cheapest machine first; machines without a price last, by rate."""
    best: dict[str, Offer] = {}
    for offer in offers:
        known = best.get(offer.machine)
        if offer.keeps_all and offer.rate is not None and (known is None or _order(offer) < _order(known)):
            best[offer.machine] = offer
    return tuple(sorted(best.values(), key=_order))


def _order(offer: Offer) -> tuple[bool, float]:
    rate = offer.rate.value if offer.rate is not None else 0.0
    return offer.cost is None, -rate if offer.cost is None else offer.cost.value


def questions_of(offers: Sequence[Offer], best: Sequence[Offer]) -> list[Question]:
    """Machines against each other in every work and metric that both have, the cheapest against every other in cost, and sessions of one
    machine against each other."""
    return [*_of_cost(best), *_of_works(offers), *_of_sessions(offers)]


def _of_cost(best: Sequence[Offer]) -> Iterable[Question]:
    priced = [offer for offer in best if offer.cost is not None]
    for other in priced[1:]:
        winner = priced[0]
        work = winner.work.told if winner.work == other.work else f"{winner.work.told}; {other.work.told}"
        yield Question(winner.machine, other.machine, work, COST, "lower", (cost_figures(winner), cost_figures(other)))


def _of_works(offers: Sequence[Offer]) -> Iterable[Question]:
    for first, second in combinations(offers, 2):
        if first.work != second.work:
            continue
        for metric in _OF_WORK:
            if first.estimate(metric) is not None and second.estimate(metric) is not None:
                figures = (first.figures.get(metric, ()), second.figures.get(metric, ()))
                yield Question(first.machine, second.machine, first.work.told, metric, _BETTER[metric], figures)


def _of_sessions(offers: Sequence[Offer]) -> Iterable[Question]:
    for offer in offers:
        for metric in _OF_SESSIONS:
            sessions = offer.figures.get(metric, ())
            for one, other in combinations(range(len(sessions)), 2):
                names = (f"{offer.machine}, run {one + 1}", f"{offer.machine}, run {other + 1}")
                figures = ((sessions[one],), (sessions[other],))
                yield Question(*names, offer.work.told, metric, _BETTER[metric], figures, sessions=True)


def ties_of(best: Sequence[Offer], pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Machines whose cost is not shown to be above the cheapest's."""
    priced = [offer for offer in best if offer.cost is not None]
    if not priced:
        return ()
    shown = {pair.second for pair in pairs if pair.metric == COST and pair.found is Apart.FIRST}
    return tuple(offer.machine for offer in priced[1:] if offer.machine not in shown)


def left_without_energy(said: Assumptions, offers: Sequence[Offer]) -> str | None:
    """Why an energy price that was given does not count; None where it does, or where none was given."""
    if said.energy_price_per_kwh is None:
        return None
    missing = sorted({offer.machine for offer in offers if offer.estimate(ENERGY) is None})
    if not missing:
        return None
    return (
        f"energy is left out of every cost: it was not measured on {', '.join(missing)}, and a part of the machines cannot pay for it alone"
    )
