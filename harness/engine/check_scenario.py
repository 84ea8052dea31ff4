"""What a scenario says that only the plugins and the files beside it can confirm."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from harness import plugins
from harness.core.errors import BadInput, Problem
from harness.core.plugin import Options
from harness.core.scenario import PluginRef, Recipe, Scenario, SlaClause, parse_clause
from harness.core.units import Notation, Unit


def check(scenario: Scenario, folder: Path, root: Path) -> list[Problem]:
    """Every problem of a scenario whose shape is right; keys are set, places are the caller's."""
    problems: list[Problem] = []
    source = _plugin("sources", scenario.model.source, folder, f"model.{scenario.model.source.name}", problems)
    _plugin("loads", scenario.measure.load, folder, "measure.load", problems)
    if source is not None:
        files = source.depends_on(folder)  # type: ignore[attr-defined]  # a source has it by contract
        for file in (*files.code, *files.files):
            problems += _path_problem(file, root, f"model.{scenario.model.source.name}")
    target = scenario.model.source.options.get("", scenario.model.source.options.get("target"))
    if scenario.model.source.name == "factory" and isinstance(target, str):
        problems += _factory(target, folder, root, "model.factory")
    for index, name in enumerate(scenario.model.files):
        problems += _path_problem(folder / name, root, f"model.files[{index}]")
    for role in ("evaluation", "calibration", "training"):
        if (factory := getattr(scenario.data, role)) is not None:
            problems += _factory(factory, folder, root, f"data.{role}")
    for name, text in scenario.data.random.items():
        problems += _random(name, text)
    for recipe in scenario.recipes.values():
        problems += _recipe(recipe, scenario, source, folder)
    if scenario.reference is not None and scenario.reference not in scenario.recipes:
        problems.append(_unknown("recipe", scenario.reference, scenario.recipes, "reference"))
    problems += _clauses(scenario) + _gate(scenario)
    return problems


def _recipe(recipe: Recipe, scenario: Scenario, source: Options | None, folder: Path) -> list[Problem]:
    """A recipe's passes and runtime exist, take their options, follow each other, and have the data that they need."""
    problems: list[Problem] = []
    key = f"recipes.{recipe.name}"
    produced = cast("str | None", getattr(source, "produces", None))
    by = f"the source '{scenario.model.source.name}'"
    for index, step in enumerate(recipe.passes):
        where = f"{key}.passes[{index}]"
        plugin = _plugin("passes", step, folder, where, problems)
        if plugin is None:
            produced = None  # unknown from here on: nothing more is said about formats
            continue
        if produced is not None and produced not in plugin.accepts:  # type: ignore[attr-defined]
            accepts = " or ".join(plugin.accepts)  # type: ignore[attr-defined]
            hint = "put 'export_onnx' before it" if accepts == "onnx" and produced == "torch_module" else None
            problems.append(Problem(f"'{step.name}' takes {accepts}, and {by} gives {produced}", key=where, hint=hint))
        for role in plugin.needs:  # type: ignore[attr-defined]
            given = getattr(scenario.data, role) is not None or (role == "evaluation" and scenario.data.random)
            if not given:
                hint = f"add 'data: {{{role}: models/file.py:function}}'"
                problems.append(Problem(f"'{step.name}' needs data.{role}, which the scenario does not give", key=where, hint=hint))
        produced, by = plugin.produces, f"the pass '{step.name}'"  # type: ignore[attr-defined]
    runtime = _plugin("runtimes", recipe.runtime, folder, f"{key}.runtime", problems)
    if runtime is not None and produced is not None and produced not in runtime.accepts:  # type: ignore[attr-defined]
        accepts = " or ".join(runtime.accepts)  # type: ignore[attr-defined]
        hint = "add 'passes: [export_onnx]'" if "onnx" in accepts and produced == "torch_module" else None
        problems.append(
            Problem(f"runtime '{recipe.runtime.name}' opens {accepts}, and {by} gives {produced}", key=f"{key}.runtime", hint=hint)
        )
    return problems


def _plugin(family: plugins.Family, ref: PluginRef, folder: Path, key: str, problems: list[Problem]) -> Options | None:
    """A built-in plugin with its options, or None with the problems noted. A plugin of the user's own is described and not run."""
    from harness.engine.read_scenario import spelled_out, translate
    from harness.engine.read_yaml import Document

    try:
        path = plugins.find(family, ref.name, folder)
        plugins.describe(path)
        if ref.is_file:
            return None
        kind = plugins.load(family, ref.name)
        return kind.model_validate(spelled_out(kind, ref))
    except ValidationError as error:
        for problem in translate(error, Document(None, ""), kind):
            inner = f"{key}.{problem.key}" if problem.key else key
            problems.append(Problem(problem.message, key=inner, hint=problem.hint))
    except BadInput as error:
        problems += [Problem(problem.message, key=key, hint=problem.hint) for problem in error.problems]
    return None


def _factory(target: str, folder: Path, root: Path, key: str) -> list[Problem]:
    """``file.py:function``: the file is inside the project and binds the name at its top level, by its syntax tree."""
    file, _, name = target.rpartition(":")
    path = folder / file
    if outside := _path_problem(path, root, key):
        return outside
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        line = getattr(error, "lineno", None)
        return [Problem(f"{file} is not valid Python{f' (line {line})' if line else ''}: {getattr(error, 'msg', error)}", key=key)]
    bound = _top_level_names(tree)
    return [] if name in bound else [_unknown(f"function in {file}", name, bound, key)]


def _top_level_names(tree: ast.Module) -> list[str]:
    names: list[str] = []
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                names.append(node.name)
            case ast.Import() | ast.ImportFrom():
                names += [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
            case ast.Assign():
                names += [target.id for target in node.targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
    return names


def _path_problem(path: Path, root: Path, key: str) -> list[Problem]:
    resolved = path.resolve()
    if not resolved.is_relative_to(root):
        return [Problem(f"'{path.name}' lies outside the project", key=key, hint=f"files of a scenario stay inside {root}")]
    if not resolved.is_file():
        near = difflib.get_close_matches(path.name, [item.name for item in path.parent.glob("*")] if path.parent.is_dir() else [], n=1)
        hint = f"did you mean '{near[0]}'?" if near and near[0] != path.name else f"looked for {path}"
        return [Problem(f"file '{path.name}' does not exist", key=key, hint=hint)]
    return []


def _random(name: str, text: str) -> list[Problem]:
    import numpy as np

    from harness.engine.datasets import random_array

    try:
        random_array(text, 1, np.random.default_rng(0))
    except ValueError as error:
        return [Problem(str(error), key=f"data.random.{name}")]
    return []


def _clauses(scenario: Scenario) -> list[Problem]:
    problems: list[Problem] = []
    for written, text in scenario.sla.items():
        key = f"sla.{written}"
        try:
            clause = parse_clause(written, text)
        except ValueError as error:
            problems.append(Problem(str(error), key=key))
            continue
        if clause.metric not in plugins.names("metrics"):
            problems.append(_unknown("metric", clause.metric, plugins.names("metrics"), key))
        else:
            problems += _unit_problem(clause, key)
        for recipe in (clause.recipe, clause.of):
            if recipe is not None and recipe not in scenario.recipes:
                problems.append(_unknown("recipe", recipe, scenario.recipes, key))
    return problems


def _unit_problem(clause: SlaClause, key: str) -> list[Problem]:
    from harness.engine.evaluate import metric_of

    metric = metric_of(clause.metric)
    if clause.relation == "share" or clause.unit is metric.unit:
        return []
    if metric.unit is Unit.FRACTION and clause.unit is Unit.NUMBER and 0 <= clause.limit <= 1:
        return []
    example = {
        Unit.NANOSECONDS: "at most 50 ms",
        Unit.BYTES: "at most 20 MB",
        Unit.FRACTION: "at least 97 %",
        Unit.PER_SECOND: "at least 200 /s",
    }.get(metric.unit, "at most 0.5")
    return [
        Problem(f"{clause.metric} is not measured in the unit of '{clause.text.partition(': ')[2]}'", key=key, hint=f"write '{example}'")
    ]


def _gate(scenario: Scenario) -> list[Problem]:
    from harness.engine.evaluate import metric_of

    problems: list[Problem] = []
    for name, rule in scenario.gate.items():
        key = f"gate.{name}"
        if name not in plugins.names("metrics"):
            problems.append(_unknown("metric", name, plugins.names("metrics"), key))
            continue
        metric = metric_of(name)
        points = rule.tolerance is not None and rule.tolerance.notation is Notation.POINTS
        if points and metric.kind != "sample":
            problems.append(Problem(f"{name} is compared as a ratio: its tolerance is in percent", key=key, hint="write '3 %'"))
        if rule.tolerance is not None and not points and metric.kind == "sample" and metric.unit is Unit.FRACTION:
            hint = "write '0.5 points'"
            problems.append(Problem(f"{name} is compared as a difference: its tolerance is in points", key=key, hint=hint))
        if rule.tolerance is None and not rule.off and metric.tolerance is None:
            problems.append(Problem(f"{name} has no tolerance by default", key=key, hint="give one: 'tolerance: 5 %'"))
        if rule.floor is not None and rule.floor.unit is not metric.unit:
            problems.append(Problem(f"the floor of {name} is in another unit", key=f"{key}.floor", hint=f"its unit is {metric.unit.value}"))
    return problems


def _unknown(kind: str, name: str, known: Iterable[str], key: str) -> Problem:
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(known))}"
    return Problem(f"unknown {kind} '{name}'", key=key, hint=hint)
