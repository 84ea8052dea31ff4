"""What the page of ``harness compare`` shows: the chart of costs, and words for its tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.core.comparison import SlaState, Verdict
from harness.core.purchase import Answer, Apart, Clause, LeftOut, Offer, Pair, Purchase
from harness.core.purchase_wording import amount, digits, hardware, line_interval, line_value, money, ratio, span
from harness.reports._svg import INK, MUTED, VERDICT_COLOURS, VERDICT_SHAPES, Drawing, decimals, draw

if TYPE_CHECKING:
    import altair as alt
    from jinja2 import Environment

_ROW_HEIGHT = 44
MOST_ROWS = 24
METRICS = {
    "latency_p50": "Median",
    "latency_p99": "p99",
    "throughput": "Throughput",
    "capacity": "Capacity",
    "energy_per_inference": "Energy of an inference",
    "accuracy": "Accuracy",
    "peak_memory": "Model memory",
    "gpu_memory_peak": "GPU memory",
}
"""The columns of the table of numbers, where any machine has them."""
_STATES = {True: Verdict.PASS, False: Verdict.REGRESSED}
GLYPHS = {Apart.FIRST: "◀", Apart.SECOND: "▶", Apart.NOT_APART: "◆", Apart.NOT_TESTED: "✚"}


@dataclass(frozen=True, slots=True)
class View:
    """One scenario as the page shows it."""

    answer: Answer
    drawing: Drawing | None
    columns: list[str]
    told: list[Offer]
    currency: str
    missed: list[tuple[Offer, Clause]]
    first_pairs: list[Pair]
    more_pairs: list[Pair]
    left_out: list[tuple[LeftOut, list[str]]]
    unsteady: list[Offer]


def render(purchase: Purchase, environment: Environment, style: str) -> bytes:
    """UTF-8, without a request and without a script."""
    environment.filters |= FILTERS
    page = environment.get_template("compare_page.html.j2").render(
        purchase=purchase, style=style, views=views(purchase), names=METRICS, marks=GLYPHS, anchors={}
    )
    return page.encode(errors="replace")


def views(purchase: Purchase) -> list[View]:
    """Every scenario of a purchase, in order."""
    return [_view(answer, number) for number, answer in enumerate(purchase.answers)]


def _view(answer: Answer, number: int) -> View:
    works = {offer.work.told for offer in answer.best if offer.machine == answer.winner} or {offer.work.told for offer in answer.offers[:1]}
    first = [pair for pair in answer.pairs if pair.work in works or ";" in pair.work]
    return View(
        answer=answer,
        drawing=costs(answer, number),
        columns=columns(answer),
        told=[offer for offer in answer.shown if offer.lines],
        currency=next((offer.cost.currency for offer in answer.best if offer.cost is not None), ""),
        missed=[(offer, clause) for offer in answer.offers for clause in offer.clauses if clause.state is not SlaState.KEPT],
        first_pairs=first,
        more_pairs=[pair for pair in answer.pairs if pair not in first],
        left_out=_together(answer.left_out),
        unsteady=[offer for offer in answer.offers if offer.notes],
    )


def _together(left_out: Sequence[LeftOut]) -> list[tuple[LeftOut, list[str]]]:
    """Works of one run from which the same things differ are told once."""
    groups: dict[tuple[str, str, tuple[str, ...]], tuple[LeftOut, list[str]]] = {}
    for one in left_out:
        groups.setdefault((one.run, one.machine, one.differences), (one, []))[1].append(one.work.told)
    return list(groups.values())


def costs(answer: Answer, number: int) -> Drawing | None:
    """Each machine's best cost with its interval, the cheapest first; None where no machine has a price."""
    offers = [offer for offer in answer.shown if offer.cost is not None][:MOST_ROWS]
    if not offers:
        return None
    told = "; ".join(f"{offer.machine} {amount(offer.cost)}" for offer in offers if offer.cost)
    label = f"cost of a million inferences by machine, with interval: {told}"
    return draw(label, f"costs-{number}", partial(_chart, offers))


def columns(answer: Answer) -> list[str]:
    return [name for name in METRICS if any(offer.estimate(name) for offer in answer.offers)]


def found(pair: Pair) -> str:
    """``two-cores is better``, ``cannot be told apart``, ``not tested``."""
    return {Apart.FIRST: f"{pair.first} is better", Apart.SECOND: f"{pair.second} is better"}.get(pair.found, str(pair.found))


def rate(value: float) -> str:
    """A load as people write it: ``1,000 /s``."""
    return f"{value:,.0f} /s" if value >= 1 else f"{value:.3g} /s"


FILTERS: Mapping[str, Callable[..., object]] = {
    "amount": amount,
    "money": money,
    "digits": digits,
    "span": span,
    "hardware": hardware,
    "line_value": line_value,
    "line_interval": line_interval,
    "ratio": ratio,
    "found": found,
    "rate": rate,
}


def _chart(offers: Sequence[Offer], width: int) -> alt.LayerChart:
    import altair as alt

    rows = [_row(number, offer) for number, offer in enumerate(offers)]
    high = 1.06 * max(max(float(row["high"]), float(row["value"])) for row in rows) or 1.0
    plot = width - 2 * 18
    currency = next(offer.cost.currency for offer in offers if offer.cost)
    axis = alt.Axis(
        title=f"{currency} for a million inferences",
        format=f".{decimals(high)}f",
        tickCount=max(3, plot // 130),
        orient="top",
        labelBound=True,
    )
    scale = alt.Scale(domain=[0, high], nice=False, zero=True)
    y = alt.Y("row:O", axis=None, scale=alt.Scale(domain=list(range(len(rows))), padding=0))
    states = ["kept", "not kept"]
    colour = alt.Color("state:N", scale=alt.Scale(domain=states, range=[VERDICT_COLOURS[v] for v in _STATES.values()]), legend=None)
    shape = alt.Shape("state:N", scale=alt.Scale(domain=states, range=[VERDICT_SHAPES[v] for v in _STATES.values()]), legend=None)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=axis)

    base = alt.Chart(alt.Data(values=rows))
    below, above = 9, -4
    interval = base.mark_rule(strokeWidth=2.2, yOffset=below).encode(x=x("low"), x2="high:Q", y=y, color=colour)
    point = base.mark_point(filled=True, size=110, opacity=1, yOffset=below).encode(x=x("value"), y=y, color=colour, shape=shape)
    name = base.mark_text(align="left", baseline="bottom", fontSize=12, color=INK, limit=plot - 110, yOffset=above)
    told = base.mark_text(align="right", baseline="bottom", fontSize=12, color=MUTED, yOffset=above)
    layers = (
        interval,
        point,
        name.encode(x=alt.value(0), y=y, text="name:N"),
        told.encode(x=alt.value(plot), y=y, text="told:N"),
    )
    return alt.layer(*layers).properties(width=plot, height=_ROW_HEIGHT * len(rows))


def _row(number: int, offer: Offer) -> dict[str, str | float]:
    assert offer.cost is not None
    value, interval = offer.cost.value, offer.cost.interval
    high = interval.high if interval is not None and math.isfinite(interval.high) else value * 2 if interval is not None else value
    return {
        "row": number,
        "name": f"{offer.machine}  {offer.work.told}" + ("" if offer.keeps_all else "  (does not keep all promises)"),
        "state": "kept" if offer.keeps_all else "not kept",
        "value": value,
        "low": value if interval is None else interval.low,
        "high": high,
        "told": money(value, offer.cost.currency),
    }
