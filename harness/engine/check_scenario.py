"""What a scenario says that only the plugins and the files beside it can confirm."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from harness import plugins
from harness.core.errors import BadInput, Problem
from harness.core.plugin import SAME, Options, ReadsFiles, SourceFiles
from harness.core.scenario import HardwareTarget, PluginRef, Recipe, Scenario
from harness.engine.bounds import Bounds
from harness.engine.check_promises import check_clauses, check_gate, unknown
from harness.engine.check_served import check_served
from harness.engine.explain import explain
from harness.engine.plugin_options import spelled_out
from harness.engine.read_yaml import Document, similar_file
from harness.engine.searching.space import check_space

EXPORTS = {"onnx": "export_onnx", "openvino": "export_openvino"}
"""The pass that gives a format from a torch module."""


def check(scenario: Scenario, targets: Sequence[HardwareTarget], folder: Path, bounds: Bounds) -> list[Problem]:
    """Every problem of a scenario whose form is right; keys are set, places are the caller's."""
    problems: list[Problem] = []
    source = _source(scenario, folder, bounds, problems)
    load = _plugin("loads", scenario.measure.load, folder, bounds, "measure.load", problems)
    if isinstance(load, ReadsFiles):
        problems += _files_problems(load.depends_on(folder), folder, bounds, f"measure.load.{scenario.measure.load.name}")
    problems += check_served(scenario, load)
    for index, name in enumerate(scenario.model.files):
        problems += _path_problem(name, folder, bounds, f"model.files[{index}]", code=False)
    for role in ("evaluation", "calibration", "training"):
        if (factory := getattr(scenario.data, role)) is not None:
            problems += _factory(factory, folder, bounds, f"data.{role}")
    for name, text in scenario.data.random.items():
        problems += _random(name, text)
    for key, recipe in scenario.recipes.items():
        if recipe.name != key:
            message = f"the recipe's name is the key that it stands under, '{key}'"
            problems.append(Problem(message, key=f"recipes.{key}.name", hint="remove this line"))
        problems += _recipe(key, recipe, scenario, source, targets, folder, bounds)
    if scenario.reference is not None and scenario.reference not in scenario.recipes:
        problems.append(unknown("recipe", scenario.reference, scenario.recipes, "reference"))
    return problems + check_clauses(scenario) + check_gate(scenario) + check_space(scenario)


def _source(scenario: Scenario, folder: Path, bounds: Bounds, problems: list[Problem]) -> Options | None:
    """The source with its options, and the files that it says it reads."""
    ref = scenario.model.source
    key = f"model.{ref.name}"
    source = _plugin("sources", ref, folder, bounds, key, problems)
    if source is None:
        return None
    given = [value for value in source.model_dump().values() if isinstance(value, str)]
    if wrong := [found for value in given if (found := _named_file(value, folder, bounds, key))]:
        problems.append(wrong[0])
        return source
    target = getattr(source, "target", None)
    if isinstance(target, str) and (ref.name == "factory" or ".py:" in target):
        problems += _factory(target, folder, bounds, key)
        return source
    try:
        files = source.depends_on(folder)  # type: ignore[attr-defined]  # a source has it by contract
    except BadInput as error:
        problems += [dataclasses.replace(problem, key=key) for problem in error.problems]
        return source
    problems += _files_problems(files, folder, bounds, key)
    return source


def _named_file(value: str, folder: Path, bounds: Bounds, key: str) -> Problem | None:
    """What is wrong with an option's text where it is the path of something that is there, before a source looks into it."""
    path = folder / value
    try:
        is_there = path.exists()
    except (OSError, RuntimeError):  # too long for a path, or links in a circle
        is_there = True
    return bounds.problem(path, value, key, code=False) if is_there else None


def _files_problems(files: SourceFiles, folder: Path, bounds: Bounds, key: str) -> list[Problem]:
    problems: list[Problem] = []
    for file in files.code:
        problems += _path_problem(os.path.relpath(file, folder), folder, bounds, key, code=True)
    for file in files.files:
        problems += _path_problem(os.path.relpath(file, folder), folder, bounds, key, code=False)
    return problems


def _one_of(names: Sequence[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _recipe(
    name: str,
    recipe: Recipe,
    scenario: Scenario,
    source: Options | None,
    targets: Sequence[HardwareTarget],
    folder: Path,
    bounds: Bounds,
) -> list[Problem]:
    """A recipe's passes and runtime exist, take their options, follow each other, and have the data and the device that they need."""
    problems: list[Problem] = []
    key = f"recipes.{name}"
    produced = cast("str | None", getattr(source, "produces", None))
    by = f"the source '{scenario.model.source.name}'"
    for index, step in enumerate(recipe.passes):
        where = f"{key}.passes[{index}]"
        plugin = _plugin("passes", step, folder, bounds, where, problems)
        if plugin is None:
            produced = None  # unknown from here on: nothing more is said about formats
            continue
        if produced is not None and produced not in plugin.accepts:  # type: ignore[attr-defined]
            accepts = _one_of(plugin.accepts)  # type: ignore[attr-defined]
            exports = [f"'{EXPORTS[each]}'" for each in plugin.accepts if each in EXPORTS]  # type: ignore[attr-defined]
            hint = f"put {_one_of(exports)} before it" if exports and produced == "torch_module" else None
            problems.append(Problem(f"'{step.name}' takes {accepts}, and {by} gives {produced}", key=where, hint=hint))
        for role in plugin.needs:  # type: ignore[attr-defined]
            given = getattr(scenario.data, role) is not None or (role == "evaluation" and scenario.data.random)
            if not given:
                hint = f"add 'data: {{{role}: models/file.py:function}}'"
                problems.append(Problem(f"'{step.name}' needs data.{role}, which the scenario does not give", key=where, hint=hint))
        if isinstance(plugin, ReadsFiles):
            problems += _files_problems(plugin.depends_on(folder), folder, bounds, where)
        same = produced if produced in plugin.accepts else None  # type: ignore[attr-defined]
        produced, by = same if plugin.produces == SAME else plugin.produces, f"the pass '{step.name}'"  # type: ignore[attr-defined]
    _plugin("serving", recipe.server, folder, bounds, f"{key}.server", problems)
    where = f"{key}.runtime"
    runtime = _plugin("runtimes", recipe.runtime, folder, bounds, where, problems)
    if runtime is None:
        return problems
    if produced is not None and produced not in runtime.accepts:  # type: ignore[attr-defined]
        accepts = _one_of(runtime.accepts)  # type: ignore[attr-defined]
        hint = "add 'passes: [export_onnx]'" if "onnx" in accepts and produced == "torch_module" else None
        problems.append(Problem(f"runtime '{recipe.runtime.name}' opens {accepts}, and {by} gives {produced}", key=where, hint=hint))
    devices = runtime.devices  # type: ignore[attr-defined]
    for target in targets:
        if target.device.partition(":")[0] not in devices:
            message = f"runtime '{recipe.runtime.name}' does not run on {target.device}, which the hardware '{target.name}' asks for"
            problems.append(Problem(message, key=where, hint=f"it runs on {' and '.join(devices)}"))
    return problems


def _plugin(family: plugins.Family, ref: PluginRef, folder: Path, bounds: Bounds, key: str, problems: list[Problem]) -> Options | None:
    """A built-in plugin with its options, or None with the problems noted. A plugin of the user's own is described and not run."""
    if ref.is_file and (wrong := _path_problem(ref.name, folder, bounds, key, code=True)):
        problems += wrong
        return None
    try:
        path = plugins.find(family, ref.name, folder)
        plugins.describe(path)
        if ref.is_file:
            return None
        kind = plugins.load(family, ref.name)
        return kind.model_validate(spelled_out(kind, ref))
    except ValidationError as error:
        options = key if key == f"model.{ref.name}" else f"{key}.{ref.name}"
        for problem in explain(error, Document(None, ""), kind):
            if problem.key == kind.short and problem.message == "is missing":
                written = re.search(rf"``({ref.name}: [^`{{]+)``", kind.__doc__ or "")
                problems.append(
                    Problem("has no value", key=key, hint=f"write '{written[1] if written else f'{ref.name}: <{kind.short}>'}'")
                )
            else:
                inner = options if problem.key is None or (problem.key == kind.short and "" in ref.options) else f"{options}.{problem.key}"
                problems.append(Problem(problem.message, key=inner, hint=problem.hint))
    except BadInput as error:
        for problem in error.problems:
            file = f"{ref.name}{f' (line {problem.line})' if problem.line else ''}: " if ref.is_file else ""
            problems.append(Problem(f"{file}{problem.message}", key=key, hint=problem.hint))
    return None


def _factory(target: str, folder: Path, bounds: Bounds, key: str) -> list[Problem]:
    """``file.py:function``: the file is inside the project and binds the name at its top level, by its syntax tree."""
    file, _, name = target.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        return [Problem(f"'{target}' is not a factory", key=key, hint="write 'file.py:function', the file relative to this scenario")]
    if wrong := _path_problem(file, folder, bounds, key, code=True):
        return wrong
    try:
        tree = ast.parse((folder / file).read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        return [Problem(f"{file}{f' (line {line})' if line else ''}: not valid Python: {getattr(error, 'msg', error)}", key=key)]
    except (RecursionError, MemoryError):
        return [Problem(f"{file}: is nested too deeply to be looked at", key=key)]
    bound = _top_level_names(tree)
    if name in bound:
        return []
    near = difflib.get_close_matches(name, bound, n=1)
    return [Problem(f"{file} has no function '{name}'", key=key, hint=f"did you mean '{near[0]}'?" if near else None)]


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


def _path_problem(written: str, folder: Path, bounds: Bounds, key: str, *, code: bool) -> list[Problem]:
    """A file of the scenario, by the path written in it, is there and inside the project."""
    path = folder / written
    if wrong := bounds.problem(path, written, key, code=code):
        return [wrong]
    resolved = path.resolve()
    if not resolved.is_file():
        if resolved.is_dir():
            return [Problem(f"'{written}' is a folder, a file is needed", key=key)]
        return [Problem(f"file '{written}' does not exist", key=key, hint=similar_file(path) or f"looked for {path}")]
    return []


def _random(name: str, text: str) -> list[Problem]:
    from harness.engine.datasets import parse_random

    try:
        parse_random(text)
    except ValueError as error:
        return [Problem(str(error), key=f"data.random.{name}")]
    return []
