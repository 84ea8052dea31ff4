"""One trial of a run, on its own: the outcome of a test item, in the sentences that the reports use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.core.comparison import SlaState, Verdict
from harness.core.errors import ExitCode
from harness.core.result import TrialState
from harness.core.wording import NOTHING_TO_DO, next_steps, sentence_of, sentence_of_sla, worst_first, worst_sla_first
from harness.engine.judge import decide

if TYPE_CHECKING:
    from harness.core.comparison import Comparison, SlaFinding
    from harness.core.result import RunResult, TrialRecord

MOST_DETAIL_LINES = 25


class Ending(StrEnum):
    """How a test item ends: ``ERROR`` is what could not be measured or decided."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """How a trial ends; ``text`` says why for all but a pass, ``warning`` what a pass leaves open; ``properties`` are its numbers by
    name with the unit in it, for programs."""

    ending: Ending
    text: str
    warning: str | None
    properties: tuple[tuple[str, object], ...]


def trial_outcome(result: RunResult, trial: str, *, strict: bool) -> TrialOutcome:
    """The trial's outcome by the rules of the whole run, told without the other trials. Raises KeyError when the run has no such trial."""
    record = next((record for record in result.trials if record.id == trial), None)
    if record is None:
        raise KeyError(trial)
    alone = replace(
        result,
        trials=(record,),
        comparisons=tuple(found for found in result.comparisons if found.trial == trial),
        sla=tuple(found for found in result.sla if found.trial == trial),
    )
    if record.state is TrialState.SKIPPED:
        return TrialOutcome(Ending.SKIPPED, record.reason, None, ())
    decision = decide(alone.trials, alone.comparisons, alone.sla, None, strict=strict)
    ending = {ExitCode.PASS: Ending.PASSED, ExitCode.REGRESSION: Ending.FAILED}.get(decision.exit_code, Ending.ERROR)
    properties = _properties(record, alone, decision.verdict)
    if ending is Ending.PASSED:
        return TrialOutcome(ending, "", _left_open(record, alone), properties)
    return TrialOutcome(ending, "\n".join([decision.headline, *_findings(record, alone)]), None, properties)


def _findings(record: TrialRecord, alone: RunResult) -> list[str]:
    """Every sentence that is not a pass, what differs, and what to do next."""
    lines = []
    if record.state is TrialState.FAILED or record.verdict is Verdict.INVALID:
        lines.append(f"{record.id} {record.state}: {record.reason}")
    for sentence, reason in [*_open_comparisons(alone), *_open_promises(alone)]:
        lines += [sentence, *([f"  {reason}"] if reason else [])]
    lines += [f"it differs from its baseline: {change}" for change in record.changes]
    lines += [step for step in next_steps(alone) if step != NOTHING_TO_DO]
    for failure in record.failures:
        lines += [f"  {line}" for line in failure.detail.splitlines()[-MOST_DETAIL_LINES:]]
    return lines


def _left_open(record: TrialRecord, alone: RunResult) -> str | None:
    """What neither passed nor failed."""
    told = [f"{sentence}; {reason}" if reason else sentence for sentence, reason in [*_open_comparisons(alone), *_open_promises(alone)]]
    if not told and record.verdict is Verdict.INCONCLUSIVE:
        told = [f"{record.id} {record.verdict}: {record.reason}"]
    return "\n".join(told) or None


def _open_comparisons(alone: RunResult) -> list[tuple[str, str]]:
    wanted: list[Comparison] = [found for found in alone.comparisons if not found.advisory]
    harmless = (Verdict.PASS, Verdict.IMPROVED)
    return [(sentence_of(found), found.reason) for found in worst_first(wanted) if found.verdict not in harmless]


def _open_promises(alone: RunResult) -> list[tuple[str, str]]:
    wanted: list[SlaFinding] = [found for found in alone.sla if found.state in (SlaState.BROKEN, SlaState.UNPROVEN)]
    return [(sentence_of_sla(found), "") for found in worst_sla_first(wanted)]


def _properties(record: TrialRecord, alone: RunResult, verdict: Verdict) -> tuple[tuple[str, object], ...]:
    numbers = [(f"{found.metric}_{found.unit}", found.value) for found in record.estimates]
    changes = [(f"{found.metric}_{found.scale}", found.effect) for found in alone.comparisons]
    return (("harness_trial", record.id), ("harness_run", alone.id), ("harness_verdict", str(verdict)), *numbers, *changes)
