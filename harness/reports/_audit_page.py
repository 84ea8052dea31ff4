"""The page of an audit: the verdict in plain words, every promise, the evidence, and how each number came about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from harness.core.audit import GRAVITY, Audit, AuditedClause, AuditedTrial
from harness.core.comparison import SlaState
from harness.core.units import Unit, format_value
from harness.core.wording import threads_told

if TYPE_CHECKING:
    from jinja2 import Environment

LAUNCHES_SHOWN = 40
"""More launches than these are in the journal, and not in the page."""


def render(audit: Audit, environment: Environment, style: str) -> bytes:
    """UTF-8, without a script and without a request; links lead to the files beside it."""
    own = environment.loader.get_source(environment, "audit.css")[0] if environment.loader else ""
    ordered = sorted(audit.clauses, key=lambda clause: (clause.waived_by(audit.day) is not None, -GRAVITY.index(clause.state)))
    counts = Counter(clause.state for clause in audit.clauses)
    loads = [trial for trial in audit.trials if trial.loads]
    asked = {trial.id: trial.loads[0].asked for trial in loads}
    page = environment.get_template("audit_page.html.j2").render(
        audit=audit,
        style=style,
        own_style=own,
        clauses=ordered,
        numbers={(clause.clause, clause.trial): number for number, clause in enumerate(ordered, 1)},
        tallies=[(str(state), counts[state]) for state in reversed(GRAVITY) if counts[state]],
        colour="inconclusive" if audit.waived and audit.verdict is SlaState.KEPT else str(audit.verdict).lower(),
        sentences=_sentences(audit),
        value_told=_value,
        bound_told=bound_told,
        rests_on=partial(rests_on, asked),
        sure=_sure,
        trial_of={trial.id: trial for trial in audit.trials},
        runs_as=_runs_as,
        launches_shown=LAUNCHES_SHOWN,
        loads=loads,
        load_numbers={trial.id: number for number, trial in enumerate(loads, 1)},
        records={line.records for trial in loads for line in trial.loads},
        unused=[waiver for waiver in audit.waivers if not any(waiver in clause.waivers for clause in audit.clauses)],
        anchors={},
    )
    return page.encode(errors="replace")


def bound_told(clause: AuditedClause) -> str:
    """The bound in words: what is shown, not what was seen."""
    if clause.bound is None or clause.basis == "nothing":
        return "–"
    if clause.bound_of.startswith("share of queries"):
        return f"{'at least' if clause.state is SlaState.BROKEN else 'at most'} {_percent(clause.bound)} of queries over the limit"
    if clause.confidence is None:
        return "exact"
    if clause.bound_of == "ratio":
        return f"ratio {clause.bound * 100:.1f} %"
    unit = clause.unit or Unit.NUMBER
    if clause.bound_of == "difference":
        return f"difference {format_value(clause.bound, unit)}"
    side = "at most" if clause.value is not None and clause.bound >= clause.value else "at least"
    return f"{side} {format_value(clause.bound, unit)}"


def rests_on(asked: Mapping[str, str], clause: AuditedClause) -> str:
    """How much evidence, and under which load; ``asked`` says by trial what a load over the network was."""
    if clause.basis == "nothing":
        return "nothing"
    if clause.basis == "samples":
        return f"{clause.count:,} evaluation samples"
    if clause.basis == "artifact":
        return "the model’s files"
    load = f"{clause.load} ({asked[clause.trial]})" if clause.trial in asked else clause.load
    return f"{clause.count:,} queries in {len(clause.launches):,} launches under {load}, batch {clause.batch_size}"


def _sentences(audit: Audit) -> list[str]:
    """The verdict in plain words, for somebody who reads nothing else."""
    total, states = len(audit.clauses), Counter(clause.state for clause in audit.clauses)
    kept = states[SlaState.KEPT]
    if kept == total:
        head = "The one promise is" if total == 1 else f"Each of the {total:,} promises is"
        told = [f"{head} shown to be kept, by numbers that anybody can compute again from the files beside this page."]
    else:
        told = [f"{kept:,} of {total:,} promises {'is' if kept == 1 else 'are'} shown to be kept."]
    if states[SlaState.BROKEN]:
        told.append(f"{states[SlaState.BROKEN]:,} {'is' if states[SlaState.BROKEN] == 1 else 'are'} shown to be broken.")
    if states[SlaState.UNPROVEN]:
        many = states[SlaState.UNPROVEN] != 1
        told.append(
            f"{states[SlaState.UNPROVEN]:,} {'are' if many else 'is'} unproven: too little was measured to say. Unproven is not kept."
        )
    if states[SlaState.UNMEASURED]:
        many = states[SlaState.UNMEASURED] != 1
        told.append(f"{states[SlaState.UNMEASURED]:,} {'have' if many else 'has'} no number at all. That is not kept either.")
    if audit.waived:
        told.append(
            f"{audit.waived:,} {'is' if audit.waived == 1 else 'are'} waived by a named person until a named day; "
            "a waiver changes no figure and no state."
        )
    return told


def _value(clause: AuditedClause) -> str:
    if clause.value is None:
        return "not measured"
    return format_value(clause.value, clause.unit or Unit.NUMBER)


def _sure(clause: AuditedClause) -> str:
    return "" if clause.confidence is None else f"{clause.confidence * 100:.4g} % confidence"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _runs_as(trial: AuditedTrial) -> str:
    made = " → ".join((*trial.passes, trial.runtime))
    if trial.facts is None:
        return made
    return f"{made}: {trial.facts.precision} on {trial.facts.device}{threads_told(trial.facts)}"
