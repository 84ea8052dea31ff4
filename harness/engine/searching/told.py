"""A search in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from harness.core.comparison import SlaState
from harness.core.errors import ExitCode
from harness.core.search import Entrant, Outcome, Search, Stage
from harness.core.units import format_value
from harness.engine.bisecting.told import effect_of
from harness.store.files import pretty_json, strict_json_value

if TYPE_CHECKING:
    from harness.core.bisection import Effect

JSON_SCHEMA = 1
MOST_LINES = 60
_SEARCH: TypeAdapter[Search] = TypeAdapter(Search)


def exit_code_of(found: Search) -> ExitCode:
    """0 for a winner that is shown to be better than the reference and to keep every constraint, else 3."""
    return ExitCode.PASS if found.outcome in (Outcome.FOUND, Outcome.TIED) else ExitCode.NOT_DECIDED


def json_of(found: Search) -> bytes:
    """Strict JSON: what is not a finite number is null."""
    return pretty_json(
        strict_json_value({"schema": JSON_SCHEMA, "exit_code": int(exit_code_of(found)), **_SEARCH.dump_python(found, mode="json")})
    )


def headline_of(found: Search) -> str:
    """The answer in one sentence."""
    number = len(found.entrants)
    among = f"{number} {'candidate' if number == 1 else 'candidates'}"
    if found.winner is None or found.effect is None:
        return f"none of {among} is left: {_most_frequent(found)}"
    told = f"{found.objective} {effect_of(found.effect)} of {found.reference}"
    match found.outcome:
        case Outcome.FOUND:
            return f"{found.winner} is the best of {among}: {told}"
        case Outcome.TIED:
            others = sum(entrant.reason.startswith("cannot be told apart") for entrant in found.entrants)
            return f"{found.winner} is taken of {among}, {others + 1} of which are the best and cannot be told apart: {told}"
        case Outcome.UNPROVEN:
            open_ = ", ".join(check.clause for check in _of(found, found.winner).constraints if check.state is not SlaState.KEPT)
            return f"{found.winner} is the best of {among} and is not shown to keep '{open_}': {told}"
        case _:
            return f"{found.winner} is the best of {among}, and is not shown to be better than {found.reference}: {told}"


def text_of(found: Search) -> str:
    """The answer first, then every candidate, best first."""
    parts = [
        [found.headline],
        list(_table(found)),
        [f"subject to {', '.join(found.constraints)}"] if found.constraints else [],
        [f"{found.pairs} launch pairs, {found.seconds:.0f} s"],
        [f"note: {note}" for note in found.notes],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _table(found: Search) -> Iterable[str]:
    metrics = list(dict.fromkeys(check.metric for entrant in found.entrants for check in entrant.constraints))
    rows = [["rank", "candidate", f"{found.objective}, ratio to {found.reference}", *metrics, "until", "why"]]
    rows += [
        [
            "-" if entrant.rank is None else str(entrant.rank),
            entrant.name,
            _ratio(found.effect if entrant.name == found.winner else entrant.race),
            *(_value(entrant, metric) for metric in metrics),
            str(entrant.stage),
            entrant.reason,
        ]
        for entrant in found.entrants[:MOST_LINES]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
    if len(found.entrants) > MOST_LINES:
        yield f"... and {len(found.entrants) - MOST_LINES} more, in --json"


def _ratio(effect: Effect | None) -> str:
    if effect is None:
        return "-"
    if effect.n == 0:
        return f"{effect.ratio:.3f}"
    return f"{effect.ratio:.3f} ({effect.interval.low:.3f} to {effect.interval.high:.3f})"


def _value(entrant: Entrant, metric: str) -> str:
    """The constraint's value, marked where it is not kept."""
    check = next((check for check in entrant.constraints if check.metric == metric), None)
    if check is None or check.value is None or check.unit is None:
        return "-"
    return format_value(check.value, check.unit) + _MARKS[check.state]


_MARKS = {SlaState.KEPT: "", SlaState.BROKEN: " BROKEN", SlaState.UNPROVEN: " unproven", SlaState.UNMEASURED: ""}


def _of(found: Search, name: str) -> Entrant:
    return next(entrant for entrant in found.entrants if entrant.name == name)


def _most_frequent(found: Search) -> str:
    """How many left at which stage."""
    counts = {stage: sum(entrant.stage is stage for entrant in found.entrants) for stage in Stage}
    return ", ".join(f"{count} at '{stage}'" for stage, count in counts.items() if count)
