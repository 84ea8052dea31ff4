"""The answer for one scenario in sentences: which machine, why, and what could change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.core.comparison import SlaState
from harness.core.purchase import Apart, Assumptions, BreakEven, Fleet, LeftOut, Machine, Offer, Pair
from harness.core.purchase_wording import amount, listed, money, promises
from harness.core.units import Unit, format_value
from harness.engine.compare_machines.costs import CAPACITY
from harness.engine.compare_machines.offers import COST
from harness.engine.compare_machines.told_apart import LEAST_SESSIONS


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the sentences are made from."""

    machines: Sequence[Machine]
    offers: Sequence[Offer]
    best: Sequence[Offer]
    ties: Sequence[str]
    pairs: Sequence[Pair]
    left_out: Sequence[LeftOut]
    break_even: Sequence[BreakEven]
    fleets: Sequence[Fleet]
    said: Assumptions

    @property
    def priced(self) -> list[Offer]:
        return [offer for offer in self.best if offer.cost is not None]

    @property
    def promised(self) -> list[str]:
        return list(dict.fromkeys(clause.text for offer in self.offers for clause in offer.clauses))


def headline(found: Evidence) -> str:
    """The answer in one sentence."""
    kept = promises(len(found.promised))
    if not found.best:
        if not found.promised:
            return "No machine has a throughput to compare"
        return f"No machine is shown {kept.replace('keeps', 'to keep', 1)}"
    if not found.priced:
        names = listed([offer.machine for offer in found.best])
        return f"No price is known, so no machine is the cheapest; {names} {_plural(kept, len(found.best))}"
    winner = found.priced[0]
    assert winner.cost is not None
    if found.ties:
        names = listed([winner.machine, *found.ties])
        costs = listed(
            [
                money(offer.cost.value, offer.cost.currency)
                for offer in found.priced
                if offer.cost and offer.machine in (winner.machine, *found.ties)
            ]
        )
        return f"{names} cannot be told apart in cost: each {kept}, for {costs} a million inferences"
    if len({offer.machine for offer in found.offers}) == 1:
        return f"{winner.machine} {kept}, for {money(winner.cost.value, winner.cost.currency)} a million inferences ({winner.work.told})"
    only = "is the only machine with a price that" if len(found.priced) == 1 else "is the cheapest machine that"
    return f"{winner.machine} {only} {kept}: {money(winner.cost.value, winner.cost.currency)} for a million inferences ({winner.work.told})"


def why(found: Evidence) -> Iterable[str]:
    """The winner's numbers, then every other machine in a sentence, then what was left out."""
    for offer in found.priced[:1]:
        assert offer.cost is not None and offer.rate is not None
        yield (
            f"{offer.machine} does {format_value(offer.rate.value, Unit.PER_SECOND)} with {offer.work.told} ({offer.rate_told}), "
            f"so a million inferences cost {amount(offer.cost)}."
        )
    cost_pairs: Mapping[str, Pair] = {pair.second: pair for pair in found.pairs if pair.metric == COST}
    for offer in found.priced[1:]:
        yield _other(offer, found.priced[0], cost_pairs.get(offer.machine))
    for offer in found.best:
        if offer.cost is None:
            yield f"{offer.machine} {promises(len(offer.clauses))} with {offer.work.told}, and has no cost: {offer.no_cost}."
    in_best = {offer.machine for offer in found.best}
    for name in dict.fromkeys(offer.machine for offer in found.offers if offer.machine not in in_best):
        yield _not_kept(name, [offer for offer in found.offers if offer.machine == name])
    for one in _once(found.left_out):
        yield f"Run {one.run} of {one.machine} is left out: {one.reason}."


def could_change(found: Evidence) -> Iterable[str]:
    """Prices, loads, promises that are not proven, and how little one run of a machine says."""
    for one in found.break_even:
        yield f"Price: {_of_price(one)}."
    yield from _loads(found)
    yield from _unproven(found)
    if any(offer.rate is not None and offer.rate.metric != CAPACITY for offer in found.best):
        yield (
            "Traffic: the cost rests on a throughput that one client reached, not on a measured capacity under load; "
            "a server that batches or overlaps requests may do more, and one that must keep its tail under bursts less."
        )
    if found.said.utilisation == 1:
        yield "Utilisation: every hour is taken as full. At 50 % every cost doubles, and machines keep their order."
    if any(len(machine.runs) < LEAST_SESSIONS for machine in found.machines):
        margin = f"{found.said.session_margin * 100:.3g} %"
        yield (
            f"Evidence: with fewer than {LEAST_SESSIONS} runs a machine, differences up to {margin} are not believed, "
            f"for two runs of one machine may differ by so much. {LEAST_SESSIONS} runs of each machine tell smaller ones."
        )


def _other(offer: Offer, winner: Offer, pair: Pair | None) -> str:
    assert offer.cost is not None and winner.cost is not None
    cost = f"{offer.machine} costs {amount(offer.cost)} with {offer.work.told}"
    if winner.cost.value > 0:
        cost += f", {offer.cost.value / winner.cost.value:.2f} times as much"
    if pair is None or pair.found is Apart.NOT_TESTED:
        return f"{cost}; whether that is more than chance could not be tested."
    if pair.found is Apart.NOT_APART:
        return f"{cost}; the two cannot be told apart: {pair.reason}."
    assert pair.interval is not None
    return f"{cost} (at least ×{pair.interval.low:.2f} is shown)."


def _not_kept(name: str, offers: Sequence[Offer]) -> str:
    """The offer that misses the fewest promises, and which."""
    nearest = min(
        offers,
        key=lambda offer: [
            sum(c.state is state for c in offer.clauses) for state in (SlaState.BROKEN, SlaState.UNMEASURED, SlaState.UNPROVEN)
        ],
    )
    missed = [clause for clause in nearest.clauses if clause.state is not SlaState.KEPT]
    if not missed:
        return f"{name} is not compared in cost: {nearest.no_cost}."
    told = "; ".join(f"‘{clause.text}’ is {clause.state} ({clause.reason})" for clause in missed)
    best = "even " if len(offers) > 1 else ""
    return f"{name} is not shown to keep all promises: {best}with {nearest.work.told}, {told}."


def _loads(found: Evidence) -> Iterable[str]:
    """Loads at which another machine is the cheapest, because machines come whole."""
    if not found.priced:
        return
    alike = {found.priced[0].machine, *found.ties}
    for fleet in found.fleets:
        if fleet.cheapest and not alike & set(fleet.cheapest):
            cell = next(cell for cell in fleet.cells if cell.machine == fleet.cheapest[0])
            load = format_value(fleet.load_per_s, Unit.PER_SECOND)
            own = next(other for other in fleet.cells if other.machine == found.priced[0].machine)
            currency = found.priced[0].cost.currency if found.priced[0].cost else ""
            less, more = (f"{one.machines:,} × {one.machine} for {money(one.cost_month or 0, currency)}" for one in (cell, own))
            yield f"Load: machines come whole, and at {load} {less} a month undercut {more}."


def _unproven(found: Evidence) -> Iterable[str]:
    """A cheaper offer that fails only for want of proof."""
    limit = found.priced[0].cost.value if found.priced and found.priced[0].cost else None
    for offer in found.offers:
        missing = [clause for clause in offer.clauses if clause.state is not SlaState.KEPT]
        if not missing or any(clause.state is not SlaState.UNPROVEN for clause in missing) or offer.cost is None:
            continue
        if limit is None or offer.cost.value < limit:
            reason = missing[0].reason.rpartition("; ")[2]
            yield (
                f"Proof: {offer.machine} with {offer.work.told} would cost {amount(offer.cost)}; "
                f"‘{missing[0].text}’ is not proven there ({reason})."
            )


def _once(left_out: Sequence[LeftOut]) -> Iterable[LeftOut]:
    """One of each run and machine, whatever the number of its works."""
    yield from {(one.run, one.machine): one for one in left_out}.values()


def _of_price(one: BreakEven) -> str:
    even = f"{money(one.price_even, one.currency)} an hour"
    now = "" if one.price_now is None else f", now {money(one.price_now, one.currency)}"
    if one.told.startswith("cannot"):
        return f"{one.machine} and {one.against} would cost the same with {one.machine} at {even}{now}"
    return f"{one.machine} {one.told.partition(' (')[0].replace('this price', even).replace('this one', even)}{now}"


def _plural(told: str, number: int) -> str:
    return told if number == 1 else told.replace("keeps its promise", "keep their promise").replace("keeps", "keep").replace("does", "do")
