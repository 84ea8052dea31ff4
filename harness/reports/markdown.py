"""See Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from harness.core.comparison import Comparison, SlaFinding, SlaState, Verdict
from harness.core.plugin import Options
from harness.core.result import TrialState
from harness.core.trend import recent_changes
from harness.core.units import Unit, format_value
from harness.core.wording import (
    drift_of,
    effect_of,
    interval_of,
    next_steps,
    tolerance_of,
    value_of,
    visible_change_of,
    worst_first,
    worst_sla_first,
)
from harness.reports._recipes import metrics_told

if TYPE_CHECKING:
    from harness.core.profile import OperatorChange
    from harness.core.result import RunResult

LIMIT = 59_000
"""Characters. GitHub refuses a comment of more than 65,536, and its count is not ours: room is left."""
_CELL = 240
"""Characters of one name or reason; a longer one ends in an ellipsis, and is whole in the HTML report."""
_TRACEBACK = 3_000
DRIFTS = 5
SLOWER_TRIALS = 3
_OPERATOR_HEAD = ("operator", "calls a query:", "baseline:", "candidate:", "added to a query:")
_SIGNS = {
    Verdict.REGRESSED: "🔺",
    Verdict.INVALID: "⛔",
    Verdict.INCONCLUSIVE: "❔",
    Verdict.IMPROVED: "🔹",
    Verdict.PASS: "✅",
    SlaState.BROKEN: "🔺",
    SlaState.UNPROVEN: "❔",
    SlaState.UNMEASURED: "⛔",
    SlaState.KEPT: "✅",
}
_MARKUP = re.compile(r"[\\`*_\[\]#|~$]")
_PLAIN_HEAD = ("trial", "metric", "baseline:", "candidate:", "candidate / baseline:", "tolerance:")
"""Head cells; a colon at the end sets the column to the right, as numbers are."""


class Markdown(Options):
    """A pull request comment: the verdict, what is not a pass, the SLA, and the passes folded away."""

    file_name: ClassVar[str] = "report.md"

    def render(self, result: RunResult) -> bytes:
        """UTF-8, always under 60,000 characters: the worst is told first, and what does not fit is counted."""
        page = _Page(LIMIT, last=_footer(result))
        page.add(f"## {_SIGNS[result.verdict]} {_text(result.headline)}", "")
        page.add(*(f"- {_text(step)}" for step in next_steps(result)), "")
        page.add(*(f"> **Note:** {_text(note)}  " for note in result.notes[:5]), "")
        _tell_drifts(page, result)
        ordered = worst_first(result.comparisons)
        attention = [_row(comparison) for comparison in ordered if comparison.verdict is not Verdict.PASS]
        page.table("### What changed", ("", *_PLAIN_HEAD, "why"), attention, share=30_000)
        _tell_operators(page, result)
        _tell_failures(page, result)
        _tell_sla(page, result)
        if not result.comparisons:
            _tell_numbers(page, result)
        passes = [_pass_row(comparison) for comparison in ordered if comparison.verdict is Verdict.PASS]
        page.fold(f"{_count(len(passes), 'comparison')} within tolerance", (*_PLAIN_HEAD, "smallest visible change:"), passes)
        quiet = [trial for trial in result.trials if trial.state in (TrialState.UNCHANGED, TrialState.SKIPPED, TrialState.NEW)]
        rows = [_cells(_code(trial.id), str(trial.state), _text(trial.reason)) for trial in quiet]
        page.fold(f"{_count(len(quiet), 'trial')} unchanged, new or for another machine", ("trial", "state", "why"), rows)
        return page.text.encode()


class _Page:
    """Lines that never grow beyond ``limit`` characters, the last one counted in."""

    def __init__(self, limit: int, *, last: str) -> None:
        self._lines: list[str] = []
        self._last = last
        self._left = limit - len(last) - 1

    def add(self, *lines: str) -> bool:
        """All of the lines, or none of them where they do not fit."""
        size = sum(len(line) + 1 for line in lines)
        if size > self._left:
            return False
        self._left -= size
        self._lines += lines
        return True

    def table(self, title: str, head: Sequence[str], rows: Sequence[str], *, share: int | None = None, closing: str = "") -> None:
        """As many rows as fit into ``share`` characters (all that is left where it is None), and how many there are more."""
        if not rows:
            return
        opening = [title, "", f"| {' | '.join(name.rstrip(':') for name in head)} |", f"|{'|'.join(map(_rule, head))}|"]
        room = (
            min(self._left, share or self._left) - sum(len(line) + 1 for line in opening) - len(closing) - 400
        )  # what is left tells at least how many rows the next tables have
        told = 0
        while told < len(rows) and room > len(rows[told]):
            room -= len(rows[told]) + 1
            told += 1
        body = [*opening, *rows[:told]] if told else [title]
        more = [] if told == len(rows) else ["", f"... and {len(rows) - told:,} more, see the HTML report"]
        self.add(*body, *more, *([closing] if closing else []), "")

    def fold(self, summary: str, head: Sequence[str], rows: Sequence[str]) -> None:
        """A table behind a summary that opens it."""
        self.table(f"<details><summary>{summary}</summary>", head, rows, closing="\n</details>")

    @property
    def text(self) -> str:
        return "\n".join([*self._lines, self._last]) + "\n"


def _rule(name: str) -> str:
    return "---:" if name.endswith(":") else "---"


def _row(comparison: Comparison) -> str:
    reason = _text(comparison.reason) + (" *(told only, it decides nothing)*" if comparison.advisory else "")
    verdict = f"{_SIGNS[comparison.verdict]}&nbsp;{comparison.verdict}"
    return _cells(verdict, *_figures(comparison), reason)


def _pass_row(comparison: Comparison) -> str:
    return _cells(*_figures(comparison), visible_change_of(comparison))


def _figures(comparison: Comparison) -> tuple[str, ...]:
    return (
        _code(comparison.trial),
        _code(comparison.metric),
        format_value(comparison.baseline, comparison.unit),
        format_value(comparison.candidate, comparison.unit),
        f"**{effect_of(comparison)}** ({interval_of(comparison)})",
        tolerance_of(comparison),
    )


def _tell_drifts(page: _Page, result: RunResult) -> None:
    """What changed for good over the last sessions: it decides nothing."""
    drifts = recent_changes(result.trends)
    lines = [f"- drift: {_text(drift_of(*drift))}" for drift in drifts[:DRIFTS]]
    if lines:
        more = [f"- ... and {len(drifts) - DRIFTS:,} more, see the HTML report"] if len(drifts) > DRIFTS else []
        page.add(*lines, *more, "")


def _tell_operators(page: _Page, result: RunResult) -> None:
    """Where the time went of each trial that became slower, by its runtime's profiler."""
    for trial in [trial for trial in result.trials if trial.operators is not None][:SLOWER_TRIALS]:
        assert trial.operators is not None
        rows = [_operator_row(change) for change in (*trial.operators.kinds, *trial.operators.operators)]
        page.table(f"### Where the time went: {_code(trial.id)}", _OPERATOR_HEAD, rows, share=6_000)


def _operator_row(change: OperatorChange) -> str:
    calls = f"{change.baseline_calls:.4g}"
    if change.baseline_calls != change.candidate_calls:
        calls += f" → {change.candidate_calls:.4g}"
    before, after, added = (
        format_value(value, Unit.NANOSECONDS) for value in (change.baseline_ns, change.candidate_ns, abs(change.added_ns))
    )
    name = f" {_code(change.name)}" if change.name else ""
    return _cells(f"{_text(change.kind)}{name}", calls, before, after, f"**{'+' if change.added_ns >= 0 else '−'}{added}**")


def _tell_failures(page: _Page, result: RunResult) -> None:
    failed = [trial for trial in result.trials if trial.state is TrialState.FAILED or trial.verdict is Verdict.INVALID]
    rows = [_cells(_code(trial.id), str(trial.state), _text(trial.reason)) for trial in failed]
    page.table("### Could not be decided", ("trial", "state", "why"), rows, share=5_000)
    for trial in [trial for trial in result.trials if trial.failures][:3]:
        failure = trial.failures[0]
        detail = "".join(character for character in failure.detail[-_TRACEBACK:] if character.isprintable() or character in "\n\t")
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", detail)), default=0))
        summary = f"<details><summary>{_code(trial.id)}, {_text(failure.stage)}: {_text(failure.message)}</summary>"
        page.add(summary, "", f"{fence}text", detail.rstrip(), fence, "", "</details>", "")


def _tell_sla(page: _Page, result: RunResult) -> None:
    head = ("", "trial", "clause", "value:", "why")
    ordered = worst_sla_first(result.sla)
    page.table("### SLA", head, [_sla_row(finding) for finding in ordered if finding.state is not SlaState.KEPT], share=10_000)
    kept = [_sla_row(finding) for finding in ordered if finding.state is SlaState.KEPT]
    page.fold(f"{_count(len(kept), 'SLA clause')} kept", head, kept[:40])


def _sla_row(finding: SlaFinding) -> str:
    state = f"{_SIGNS[finding.state]}&nbsp;{finding.state}"
    return _cells(state, _code(finding.trial), _code(finding.clause), value_of(finding), _text(finding.reason))


def _tell_numbers(page: _Page, result: RunResult) -> None:
    """What was measured, where there was nothing to compare it with."""
    measured = [trial for trial in result.trials if trial.estimates]
    metrics = metrics_told(measured)[:6]
    rows = []
    for trial in measured:
        found = [trial.estimate(metric) for metric in metrics]
        rows.append(_cells(_code(trial.id), *("" if one is None else format_value(one.value, one.unit) for one in found)))
    page.table("### What was measured", ("trial", *(f"{_code(metric)}:" for metric in metrics)), rows, share=30_000)


def _footer(result: RunResult) -> str:
    environment = result.environment
    changed = " with uncommitted changes" if environment.dirty else ""
    commit = "" if environment.commit is None else f" at {_text(environment.commit[:9])}{changed}"
    return (
        f"<sub>harness {_text(result.program_version)}, run {_text(result.id)}{commit}, on {_text(environment.cpu_model)}; "
        "intervals are over launch pairs (process launches) or samples, never over queries of one process</sub>"
    )


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _code(name: str) -> str:
    """A name as code: GitHub makes no mention, link or markup of what stands in it. All that Markdown or HTML could read is an entity."""
    return f"<code>{_entities(_clipped(name))}</code>"


def _text(sentence: str) -> str:
    """A sentence with nothing in it that renders: no markup, no HTML, no mention (``@name``), no reference (``#12``), no link."""
    inert = _entities(_clipped(sentence))
    inert = re.sub(r"@(?=\w)", "@\u200b", inert)
    inert = re.sub(r"(&#35;|\bGH-)(?=\d)", "\\1\u200b", inert)
    return re.sub(r":(?=//)|\bwww(?=\.)", lambda match: f"{match[0]}\u200b", inert)


def _entities(text: str) -> str:
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", html.escape(text, quote=False))


def _clipped(text: str) -> str:
    """One line, without control characters, of bounded length."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= _CELL else f"{line[: _CELL - 1]}…"


PLUGIN = Markdown
