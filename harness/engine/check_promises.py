"""Whether the promises of a scenario can be kept at all: metrics and recipes that exist, limits and tolerances on the metric's scale."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from harness import plugins
from harness.core.errors import Problem
from harness.core.scenario import Scenario, SlaClause, parse_clause
from harness.core.units import EXAMPLES, KINDS, Notation, Unit
from harness.engine.evaluate import metric_of

_RELATIVE = (Unit.FRACTION, Unit.NUMBER)
_FLOORS = {**EXAMPLES, Unit.NANOSECONDS: "0.1 ms", Unit.FRACTION: "0.5 points"}


def check_clauses(scenario: Scenario) -> list[Problem]:
    """Each clause can be read, and names a metric and recipes that there are."""
    problems: list[Problem] = []
    for written, text in scenario.sla.items():
        key = f"sla.{written}"
        try:
            clause = parse_clause(written, text)
        except ValueError as error:
            problems.append(Problem(str(error), key=key))
            continue
        if clause.metric not in plugins.names("metrics"):
            problems.append(unknown("metric", clause.metric, plugins.names("metrics"), key))
        else:
            problems += _unit_problem(clause, key)
        for recipe in dict.fromkeys((clause.recipe, clause.of)):
            if recipe is not None and recipe not in scenario.recipes:
                problems.append(unknown("recipe", recipe, scenario.recipes, key))
        if clause.of is not None and clause.of == clause.recipe:
            problems.append(Problem(f"'{clause.of}' is compared with itself", key=key, hint="name another recipe at the end"))
    return problems


def _unit_problem(clause: SlaClause, key: str) -> list[Problem]:
    """A limit is in the metric's unit; a share of another recipe has none; a distance in percent could mean two things."""
    metric = metric_of(clause.metric)
    text = clause.text.partition(": ")[2]
    if clause.speed_up is not None and metric.unit not in (Unit.NANOSECONDS, Unit.PER_SECOND):
        return [Problem(f"{text!r} speaks of times and rates, and {clause.metric} is {KINDS[metric.unit]}", key=key)]
    if clause.relation == "share":
        return []
    if clause.limit < 0 and metric.unit is not Unit.NUMBER:
        return [Problem(f"{text!r}: a limit is not negative", key=key)]
    if clause.relation == "absolute" and clause.notation is Notation.POINTS:
        hint = f"write '{clause.bound} {100 * clause.limit:g} %'"
        return [Problem(f"{text!r}: points are a distance between two shares", key=key, hint=hint)]
    if clause.relation in ("below", "above") and clause.notation is Notation.PERCENT:
        percent = 100 * (1 - clause.limit if clause.relation == "below" else 1 + clause.limit)
        share = f"'at {'least' if clause.relation == 'below' else 'most'} {percent:g} % of {clause.of}'"
        distance = f"{100 * clause.limit:g} {'point' if clause.limit == 0.01 else 'points'}"
        points = f" or '{clause.bound} {distance} {clause.relation} {clause.of}'" if metric.unit is Unit.FRACTION else ""
        return [Problem(f"{text!r}: a distance is not written in percent", key=key, hint=f"write {share}{points}")]
    if clause.unit is metric.unit:
        return []
    if metric.unit is Unit.FRACTION and clause.unit is Unit.NUMBER and 0 <= clause.limit <= 1:
        return []
    bound = "at least" if metric.better == "higher" else "at most"
    given = "has no unit" if clause.unit is Unit.NUMBER else f"names {KINDS[clause.unit]}"
    hint = f"write '{bound} {EXAMPLES[metric.unit]}'"
    return [Problem(f"{text!r} {given}, and {clause.metric} is {KINDS[metric.unit]}", key=key, hint=hint)]


def check_gate(scenario: Scenario) -> list[Problem]:
    """Each metric is there, and its tolerance is written on the scale that it is compared on."""
    problems: list[Problem] = []
    for name, rule in scenario.gate.items():
        key = f"gate.{name}"
        if name not in plugins.names("metrics"):
            problems.append(unknown("metric", name, plugins.names("metrics"), key))
            continue
        metric = metric_of(name)
        scale, notation, example = "ratio: its tolerance is in percent", Notation.PERCENT, "3 %"
        if metric.kind == "sample" and metric.unit is Unit.FRACTION:
            scale, notation, example = "difference of shares: its tolerance is in points", Notation.POINTS, "0.5 points"
        elif metric.kind == "sample":
            scale, notation, example = "difference of plain numbers: its tolerance is one too", Notation.PLAIN, "0.01"
        if rule.tolerance is not None and (rule.tolerance.notation is not notation or rule.tolerance.unit not in _RELATIVE):
            problems.append(Problem(f"{name} is compared as a {scale}", key=key, hint=f"write 'tolerance: {example}'"))
        if rule.tolerance is None and not rule.off and metric.tolerance is None:
            problems.append(Problem(f"{name} has no tolerance by default", key=key, hint=f"give one: 'tolerance: {example}'"))
        if rule.floor is not None and rule.floor.unit is not metric.unit:
            hint = f"write 'floor: {_FLOORS[metric.unit]}'"
            problems.append(Problem(f"the floor of {name} is {KINDS[metric.unit]}", key=f"{key}.floor", hint=hint))
    return problems


def unknown(kind: str, name: str, known: Iterable[str], key: str) -> Problem:
    """A name that is not there, with the nearest that is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(known))}"
    return Problem(f"unknown {kind} '{name}'", key=key, hint=hint)
