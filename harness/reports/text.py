"""See Text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from harness.core.comparison import SlaState, Verdict
from harness.core.plain_text import plain_text
from harness.core.plugin import Options
from harness.core.profile import told_of
from harness.core.result import TrialState
from harness.core.units import format_value
from harness.core.wording import next_steps, sentence_of, sentence_of_sla, visible_change_of, worst_first, worst_sla_first
from harness.reports._recipes import metrics_told

if TYPE_CHECKING:
    from harness.core.comparison import Comparison
    from harness.core.profile import OperatorChange
    from harness.core.result import RunResult, TrialRecord

METRICS = 6
OPERATORS = 3
MOST_LINES = 40
"""A terminal is no place for more lines of one kind; the HTML report has all of them."""


class Text(Options):
    """The terminal's report: the verdict, what is not a pass, the numbers, what to do next."""

    file_name: ClassVar[str] = "report.txt"

    def render(self, result: RunResult) -> bytes:
        """UTF-8, plain, the verdict in the first line; nothing in it acts on a terminal."""
        parts = [
            [result.headline],
            _told([sentence_of(item) for item in worst_first(result.comparisons) if item.verdict is not Verdict.PASS]),
            _told([sentence_of_sla(item) for item in worst_sla_first(result.sla) if item.state is not SlaState.KEPT]),
            _told([f"{trial.id} {trial.state}: {trial.reason}" for trial in result.trials if _needs_telling(trial)]),
            [f"{trial.id} differs from its baseline: {change}" for trial in result.trials if _is_red(trial) for change in trial.changes][
                :MOST_LINES
            ],
            [f"{trial.id}: {told_of(change)}" for trial in result.trials for change in _dearest(trial)][:MOST_LINES],
            _passes(worst_first(result.comparisons)),
            _numbers([trial for trial in result.trials if trial.estimates]),
            [
                *(f"note: {note}" for note in result.notes),
                *(f"note: {trial.id}: {note}" for trial in result.trials for note in trial.notes),
            ][:MOST_LINES],
            next_steps(result),
        ]
        return plain_text("\n\n".join("\n".join(part) for part in parts if part) + "\n").encode()


def _needs_telling(trial: TrialRecord) -> bool:
    return trial.state in (TrialState.FAILED, TrialState.SKIPPED) or trial.verdict is Verdict.INVALID


def _is_red(trial: TrialRecord) -> bool:
    return trial.verdict in (Verdict.REGRESSED, Verdict.INCONCLUSIVE)


def _dearest(trial: TrialRecord) -> Sequence[OperatorChange]:
    """The operators, by type and then by name, that add most to a query of a trial that became slower."""
    if trial.operators is None:
        return ()
    return [change for part in (trial.operators.kinds, trial.operators.operators) for change in part[:OPERATORS] if change.added_ns > 0]


def _told(sentences: Sequence[str]) -> list[str]:
    more = len(sentences) - MOST_LINES
    return [*sentences[:MOST_LINES], *([f"... and {more:,} more, see report.html"] if more > 0 else [])]


def _passes(comparisons: Sequence[Comparison]) -> list[str]:
    """How many comparisons passed, and the coarsest of them: what was not seen is not shown to be absent."""
    passed = [item for item in comparisons if item.verdict is Verdict.PASS and not item.advisory]
    if not passed:
        return []
    coarsest = max(passed, key=lambda item: (item.visible_change or 0.0) / max(item.tolerance, 1e-9))
    count = f"{len(passed):,} {'metric' if len(passed) == 1 else 'metrics'} within tolerance"
    if coarsest.visible_change is None:
        return [f"{count}, every one of them exact"]
    return [f"{count}; the coarsest would have seen a change of {visible_change_of(coarsest)} ({coarsest.metric} of {coarsest.trial})"]


def _numbers(trials: Sequence[TrialRecord]) -> list[str]:
    """A table of the candidate's numbers, one trial a line."""
    metrics = metrics_told(trials)[:METRICS]
    rows = [["trial", "state", *metrics]]
    for trial in trials[:MOST_LINES]:
        found = [trial.estimate(metric) for metric in metrics]
        rows.append([trial.id, str(trial.state), *("-" if one is None else format_value(one.value, one.unit) for one in found)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [*lines, *([f"... and {len(trials) - MOST_LINES:,} more"] if len(trials) > MOST_LINES else [])] if trials else []


PLUGIN = Text
