"""A checkup in words: a table of findings with their advice, then what the gate can see. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.core.checkup import State
from harness.core.units import format_change

if TYPE_CHECKING:
    from harness.core.checkup import Checkup, Finding, Sight

NEAR_THE_TOLERANCE = 1.5
"""A smallest change of less than so many tolerances is held up by the tolerance, no longer by the machine."""


def text_of(checkup: Checkup) -> str:
    """What ``harness doctor`` prints."""
    parts = [checkup.headline, *_table(checkup.findings)]
    if checkup.subject:
        parts += ["", f"Identical code in both arms, {checkup.subject}:", *(f"  {_of_identical_code(sight)}" for sight in checkup.sights)]
        parts += [f"  {absent.metric}: not seen, {absent.reason.removeprefix(f'{absent.metric} ')}" for absent in checkup.unseen]
    if checkup.sights:
        parts += ["", *(sentence_of(sight, checkup.budget_s) for sight in checkup.sights)]
    if checkup.notes:
        parts += ["", *(f"note: {note}" for note in checkup.notes)]
    if steps := next_steps(checkup):
        parts += ["", "What would make it better:", *(f"  - {step}" for step in steps)]
    return "\n".join(parts) + "\n"


def headline_of(findings: Sequence[Finding], sights: Sequence[Sight]) -> str:
    """Fit or not, and why, in one sentence."""
    unfit = [finding.name for finding in findings if finding.state is State.UNFIT]
    red = [sight.metric for sight in sights if sight.red]
    reasons = [", ".join(unfit)] if unfit else []
    if red:
        reasons.append(f"identical code differs in {', '.join(red)}")
    if reasons:
        return f"This machine is not fit to measure on now: {'; '.join(reasons)}."
    notices = sum(finding.state is State.NOTICE for finding in findings)
    if notices:
        return f"This machine is fit to measure on; {notices} {'thing' if notices == 1 else 'things'} would make it steadier."
    return "This machine is fit to measure on."


def sentence_of(sight: Sight, budget_s: float) -> str:
    """The answer that a person came for, of one metric."""
    basis = (
        f"spread {percent(sight.spread)} from launch pair to launch pair, {sight.pair_s:.1f} s a pair, tolerance {percent(sight.tolerance)}"
    )
    if sight.floor > sight.tolerance:
        basis += f"; less than {percent(sight.floor)} never counts, for it lies below the metric's floor"
    if sight.smallest_change is None:
        return (
            f"On this machine, a budget of {budget_s:g} s a trial is too short for the gate to call any change of {sight.metric} "
            f"a regression ({basis})."
        )
    return (
        f"On this machine, with a budget of {budget_s:g} s a trial, the smallest change of {sight.metric} that the gate will see is "
        f"{percent(sight.smallest_change)} ({basis})."
    )


def next_steps(checkup: Checkup) -> list[str]:
    """What the reader does now, one sentence each, most urgent first."""
    steps = []
    if any(sight.red for sight in checkup.sights):
        steps.append("Measure on another machine, or run this again when it is quieter: it called identical code different.")
    advised = [finding.name for finding in checkup.findings if finding.advice]
    if advised:
        steps.append(f"Follow the advice above ({', '.join(advised)}), then run 'harness doctor' again.")
    gains = [
        f"{sight.metric} {percent(sight.with_twice)}"
        for sight in checkup.sights
        if sight.with_twice is not None and (sight.smallest_change is None or percent(sight.with_twice) != percent(sight.smallest_change))
    ]
    if gains:
        steps.append(f"Give '--budget {2 * checkup.budget_s:g}s': the gate will then see {', '.join(gains)}.")
    held = [
        f"{sight.metric} {percent(sight.tolerance)}"
        for sight in checkup.sights
        if sight.smallest_change is not None
        and sight.floor <= sight.tolerance
        and sight.smallest_change < NEAR_THE_TOLERANCE * sight.tolerance
    ]
    if held:
        steps.append(f"Lower the tolerance under 'gate:' to see less: it is most of what is told of {', '.join(held)}.")
    return steps


def percent(fraction: float) -> str:
    """``1.8 %``: two digits are all that a few launch pairs can tell."""
    value = fraction * 100
    return f"{value:.2g} %" if value < 99.5 else f"{value:,.0f} %"


def _table(findings: Sequence[Finding]) -> list[str]:
    names, states = max(map(len, (finding.name for finding in findings))), max(map(len, State))
    lines = [""]
    for finding in findings:
        value = "" if finding.state is State.NOT_VISIBLE and finding.value == State.NOT_VISIBLE else finding.value
        lines.append(f"{finding.name:<{names}}  {finding.state:<{states}}  {value}".rstrip())
        if finding.advice:
            lines.append(f"{'':<{names}}  {'':<{states}}  {finding.advice}")
    return lines


def _of_identical_code(sight: Sight) -> str:
    """``latency_p50: -0.2 % (99.8 % interval -1.1 % to +0.7 %, 8 launch pairs)``."""
    low, high = (format_change(end - 1) for end in (sight.interval.low, sight.interval.high))
    interval = f"{sight.interval.level * 100:.4g} % interval {low} to {high}, {sight.pairs} launch pairs"
    told = f"{sight.metric}: {format_change(sight.effect - 1)} ({interval})"
    return f"{told}: called different" if sight.red else told
