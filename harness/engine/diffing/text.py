"""A diff as text for the terminal, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from harness.core.comparison import Verdict
from harness.core.plain_text import plain_text
from harness.core.units import Unit, format_points, format_value
from harness.core.wording import VERDICT_ORDER
from harness.engine.diffing.report import SCHEMA, DiffReport, Row
from harness.store.files import pretty_json, strict_json_value

if TYPE_CHECKING:
    from harness.core.errors import ExitCode
    from harness.engine.diffing.report import Arm, Difference

_REPORT: TypeAdapter[DiffReport] = TypeAdapter(DiffReport)
MOST_NAMES = 3
MOST_LINES = 40
"""Of one kind on a terminal; ``--json`` has all of them."""


def text_of(report: DiffReport) -> str:
    """The arms, what differs, a table, why each row is concluded so, what is missing, what to do next."""
    parts = [
        [f"baseline   {_arm(report.baseline)}", f"candidate  {_arm(report.candidate)}"],
        _capped([_difference(one) for one in report.differences]),
        _table(report.rows),
        _capped(list(_reasons(report.rows))),
        _capped([f"{one.name}: {one.reason}" for one in report.unmatched]),
        _capped([f"note: {note}" for note in report.notes]),
        list(report.next_steps),
    ]
    return plain_text("\n\n".join("\n".join(part) for part in parts if part) + "\n")


def json_of(report: DiffReport, exit_code: ExitCode) -> str:
    """Strict JSON: what is not a finite number is null."""
    facts = _REPORT.dump_python(report, mode="json")
    return pretty_json(strict_json_value({"schema": SCHEMA, "exit_code": int(exit_code), **facts})).decode()


def _arm(arm: Arm) -> str:
    names = ", ".join(arm.names[:MOST_NAMES]) + (f" and {len(arm.names) - MOST_NAMES} more" if len(arm.names) > MOST_NAMES else "")
    units = f"{arm.units} {arm.units_of}" if arm.units != 1 else f"1 {_one(arm.units_of)}"
    return "; ".join([f"{names}: {arm.tool}", units, *arm.sources])


def _difference(one: Difference) -> str:
    kind = "another machine" if one.machine else "differs"
    return f"{kind}: {one.what}: {one.baseline} -> {one.candidate}"


def _table(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["nothing is in both arms"]
    cells = [["", "metric", "baseline", "candidate", "change", "interval", "n", "verdict"]]
    cells += [
        [
            row.name,
            row.metric,
            _value(row.baseline, row.unit),
            _value(row.candidate, row.unit),
            _effect(row.effect, row),
            _interval(row),
            f"{row.baseline_n} + {row.candidate_n}"
            if row.baseline_n != row.candidate_n or row.n_of.endswith(("launches", "runs"))
            else f"{row.baseline_n}",
            str(row.verdict),
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    left = (0, 1, 7)
    return [
        "  ".join(cell.ljust(widths[at]) if at in left else cell.rjust(widths[at]) for at, cell in enumerate(line)).rstrip()
        for line in cells
    ]


def _reasons(rows: Sequence[Row]) -> Iterable[str]:
    """What needs the reader first; rows that share a reason share its line. A pass is told by the coarsest of them."""
    groups: dict[tuple[Verdict, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: VERDICT_ORDER.index(row.verdict)):
        if row.verdict is not Verdict.PASS:
            groups.setdefault((row.verdict, row.reason), []).append(row)
    for (verdict, reason), of_reason in groups.items():
        yield f"{verdict}: {_named(of_reason)}: {reason}"
        for row in of_reason:
            if row.shown in (Verdict.REGRESSED, Verdict.IMPROVED) and row.shown is not verdict:
                looks = "worse" if row.shown is Verdict.REGRESSED else "better"
                yield f"  {row.metric} of {row.name} looks {looks}, were nothing else different"
    passed = [row for row in rows if row.verdict is Verdict.PASS and row.visible_change is not None]
    if passed:
        coarsest = max(passed, key=lambda row: (row.visible_change or 0) / max(row.tolerance, 1e-9))
        seen = coarsest.visible_change or 0
        told = f"{seen * 100:.3g} %" if coarsest.scale == "ratio" else format_points(seen).lstrip("+")
        yield f"PASS: {len(passed)} of {len(rows)}; the coarsest would have seen a change of {told} ({coarsest.metric} of {coarsest.name})"


def _named(rows: Sequence[Row]) -> str:
    if len(rows) > MOST_NAMES:
        return f"{len(rows)} rows, {rows[0].metric} of {rows[0].name} first"
    return ", ".join(f"{row.metric} of {row.name}" for row in rows)


def _value(value: float | None, unit: Unit) -> str:
    return "-" if value is None else format_value(value, unit)


def _effect(effect: float | None, row: Row) -> str:
    if effect is None:
        return "-"
    if row.scale == "ratio":
        return f"×{effect:.3f}" if effect >= 0.1 else f"×{effect:.3g}"
    return format_points(effect) if row.unit is Unit.FRACTION else f"{'+' if effect > 0 else ''}{format_value(effect, row.unit)}"


def _interval(row: Row) -> str:
    """``1.038 to 1.064 (99 %)``; "exact" where nothing is uncertain."""
    if row.interval is None:
        return "-"
    low, high = row.interval.low, row.interval.high
    if low == high:
        return "exact"
    ends = [f"{end * 100:+.2f}" if row.scale == "difference" and row.unit is Unit.FRACTION else f"{end:.3f}" for end in (low, high)]
    level = "more than 99.99" if row.interval.level > 0.9999 else f"{row.interval.level * 100:.4g}"
    return f"{ends[0]} to {ends[1]} ({level} %)"


def _capped(lines: list[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"... and {more:,} more: --json has all"] if more > 0 else [])]


def _one(units: str) -> str:
    return units.removesuffix("es") if units.endswith("launches") else units.removesuffix("s")
