"""A purchase as text for the terminal, as CSV for a spreadsheet, and as JSON for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from pydantic import TypeAdapter

from harness.core.comparison import SlaState
from harness.core.purchase import SCHEMA, Answer, Offer, Pair, Purchase
from harness.core.purchase_wording import amount, hardware, line_interval, line_value, listed, money, ratio
from harness.core.units import Unit, format_value
from harness.engine.compare_machines.costs import TOLD
from harness.store.files import pretty_json, strict_json_value

_PURCHASE: TypeAdapter[Purchase] = TypeAdapter(Purchase)
COLUMNS = ("latency_p50", "latency_p99", "throughput", "capacity", "energy_per_inference", "peak_memory", "gpu_memory_peak")
"""Of the table on a terminal, where any offer has them."""
MOST_LINES = 40


def text_of(purchase: Purchase) -> str:
    """First the answer, then why, then what could change it; the machines and numbers, the arithmetic of the cost, what differs."""
    parts: list[list[str]] = []
    for answer in purchase.answers:
        parts += _answer(answer, purchase)
    parts.append(_machines(purchase))
    parts.append([f"differs: {one}" for one in purchase.differs[:MOST_LINES]])
    parts.append([f"note: {note}" for note in purchase.notes])
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def json_of(purchase: Purchase) -> str:
    """Strict JSON: what is not a finite number is null."""
    facts = _PURCHASE.dump_python(purchase, mode="json")
    return pretty_json(strict_json_value({"schema": SCHEMA, **facts})).decode()


def csv_of(purchase: Purchase) -> str:
    """A row for each machine and work, numbers in base units and not rounded; works that were left out come last, with the reason."""
    metrics = [name for name in TOLD if any(offer.estimate(name) for answer in purchase.answers for offer in answer.offers)]
    clauses = list(dict.fromkeys(text for answer in purchase.answers for text in answer.clauses))
    head = ["scenario", "machine", "hardware", "runs", "recipe", "batch_size", "load", "compared", "reason"]
    for name in metrics:
        unit = next(estimate.unit for answer in purchase.answers for offer in answer.offers if (estimate := offer.estimate(name)))
        head += [f"{name} [{unit}]", f"{name} low", f"{name} high"]
    head += [
        "price_per_hour",
        "currency",
        "utilisation",
        "cost_per_million",
        "cost low",
        "cost high",
        "keeps_all",
        "best_of_machine",
        "cheapest",
    ]
    head += [f"SLA {text}" for text in clauses]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(name) for name in head])
    for answer in purchase.answers:
        for offer in answer.offers:
            writer.writerow([_cell(value) for value in _row(purchase, answer, offer, metrics, clauses)])
        for one in answer.left_out:
            told = [one.work.scenario, one.machine, "", one.run, one.work.recipe, one.work.batch_size, one.work.load, "no"]
            row = [*told, "; ".join([one.reason, *one.differences])]
            writer.writerow([_cell(value) for value in [*row, *[""] * (len(head) - len(row))]])
    return out.getvalue()


def _row(purchase: Purchase, answer: Answer, offer: Offer, metrics: Sequence[str], clauses: Sequence[str]) -> list[object]:
    machine, work = purchase.machine(offer.machine), offer.work
    row: list[object] = [work.scenario, machine.name, hardware(machine), " ".join(machine.runs), work.recipe, work.batch_size, work.load]
    row += ["yes", offer.no_cost]
    for name in metrics:
        estimate = offer.estimate(name)
        interval = estimate.interval if estimate else None
        row += [estimate.value if estimate else "", interval.low if interval else "", interval.high if interval else ""]
    row += [machine.price.per_hour, machine.price.currency] if machine.price else ["", ""]
    row.append(purchase.assumptions.utilisation)
    cost = offer.cost
    row += [cost.value, cost.interval.low if cost.interval else "", cost.interval.high if cost.interval else ""] if cost else ["", "", ""]
    row += ["yes" if offer.keeps_all else "no", "yes" if offer in answer.best else "no"]
    row.append(
        "yes"
        if offer.machine == answer.winner and offer in answer.best
        else "tie"
        if offer.machine in answer.ties and offer in answer.best
        else "no"
    )
    states = {clause.text: str(clause.state) for clause in offer.clauses}
    return [*row, *(states.get(text, "") for text in clauses)]


def _cell(value: object) -> object:
    """Text that a spreadsheet would take for a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value


def _answer(answer: Answer, purchase: Purchase) -> Iterable[list[str]]:
    yield [f"{answer.scenario}: {answer.headline}"]
    yield ["why", *(f"  {line}" for line in answer.why)]
    yield ["what could change it", *(f"  {line}" for line in answer.could_change)]
    yield _table(answer)
    yield from (_arithmetic(offer) for offer in answer.shown if offer.lines)
    yield ["can they be told apart", *_aligned([_pair(pair) for pair in answer.pairs][:MOST_LINES], indent="  ")]
    yield _loads(answer, purchase)
    for one in answer.left_out:
        yield [f"left out: run {one.run} of {one.machine}, {one.work.told}: {one.reason}", *(f"  {line}" for line in one.differences)]


def _table(answer: Answer) -> list[str]:
    columns = [name for name in COLUMNS if any(offer.estimate(name) for offer in answer.offers)]
    rows = [["machine", "work", *columns, "a million", "promises"]]
    for offer in answer.offers:
        values = ["-" if (found := offer.estimate(name)) is None else format_value(found.value, found.unit) for name in columns]
        cost = "-" if offer.cost is None else money(offer.cost.value, offer.cost.currency)
        rows.append([offer.machine, offer.work.told, *values, cost, _promises(offer)])
    return _aligned(rows)


def _promises(offer: Offer) -> str:
    missed = [f"{clause.metric} {clause.state}" for clause in offer.clauses if clause.state is not SlaState.KEPT]
    return ", ".join(missed) or ("all kept" if offer.clauses else "none made")


def _arithmetic(offer: Offer) -> list[str]:
    rows = [[line.what, line_value(line), line_interval(line), line.formula, line.source] for line in offer.lines]
    told = amount(offer.cost) if offer.cost else offer.no_cost
    return [f"cost of {offer.machine}, {offer.work.told}: {told}", *_aligned(rows, indent="  ")]


def _pair(pair: Pair) -> list[str]:
    margin = "" if not pair.margin else f", margin {pair.margin * 100:.3g} %"
    n = "-" if pair.ratio is None else f"{pair.n[0]} and {pair.n[1]} {pair.n_of}{margin}"
    return [f"{pair.first} : {pair.second}", pair.work, pair.metric, ratio(pair), n, pair_told(pair)]


def pair_told(pair: Pair) -> str:
    """``two-cores is better``, ``cannot be told apart``, ``not tested``."""
    return str(pair.found).replace("first", pair.first).replace("second", pair.second)


def _loads(answer: Answer, purchase: Purchase) -> list[str]:
    if not answer.best:
        return []
    currency = next((offer.cost.currency for offer in answer.best if offer.cost), "")
    rows = [["load", *(offer.machine for offer in answer.best), "cheapest"]]
    for fleet in answer.fleets:
        cells = [
            f"{cell.machines:,}" + ("" if cell.cost_month is None else f" ({money(cell.cost_month, currency)} a month)")
            for cell in fleet.cells
        ]
        rows.append([format_value(fleet.load_per_s, Unit.PER_SECOND), *cells, listed(fleet.cheapest) if fleet.cheapest else "-"])
    return [f"machines for a load, at {purchase.assumptions.utilisation * 100:g} % utilisation", *_aligned(rows, indent="  ")]


def _machines(purchase: Purchase) -> list[str]:
    rows = [["machine", "hardware", "price an hour", "runs"]]
    for machine in purchase.machines:
        price = (
            "not known" if machine.price is None else f"{money(machine.price.per_hour, machine.price.currency)} ({machine.price.source})"
        )
        rows.append([machine.name, hardware(machine), price, ", ".join(machine.runs)])
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return [(indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip() for row in rows]
