"""Scenario files from disk: all errors of a file at once, each with file, line, key and the nearest right name.

Reading runs no code of a scenario: factories are looked for in the syntax tree, plugins of the user's own are described and not imported.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness import plugins
from harness.core.errors import BadInput, Problem
from harness.core.plugin import Options
from harness.core.scenario import BUILT_IN_TARGETS, HardwareTarget, Model, PluginRef, Scenario, ScenarioFile
from harness.engine.check_scenario import check
from harness.engine.read_yaml import Document, Plain, merge, read_yaml

HARDWARE_FILE = "hardware.yaml"
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class HardwareFile(Model):
    """``hardware.yaml`` beside the scenarios: named targets."""

    version: int
    targets: dict[str, HardwareTarget]


def read_scenarios(paths: Sequence[Path], *, overrides: Sequence[str] = (), root: Path | None = None) -> tuple[ScenarioFile, ...]:
    """Read scenario files, and all of the scenarios in folders (``_*.yaml`` are bases for ``extends``, not scenarios).

    Raises BadInput with every problem of every file.
    """
    problems: list[Problem] = []
    found: list[ScenarioFile] = []
    for path in _files(paths):
        try:
            found.append(read_scenario(path, overrides=overrides, root=root))
        except BadInput as error:
            problems.extend(error.problems)
    names: dict[str, Path] = {}
    for file in found:
        if file.scenario.name in names:
            hint = "baselines belong to a name: give each scenario its own"
            other = names[file.scenario.name]
            problems.append(Problem(f"'{file.scenario.name}' is also the name of {other}", file.path, file.lines.get("name"), "name", hint))
        names[file.scenario.name] = file.path
    if problems:
        raise BadInput(*problems)
    return tuple(found)


def read_scenario(path: Path, *, overrides: Sequence[str] = (), root: Path | None = None) -> ScenarioFile:
    """Read one file with what it extends and with ``--set key.path=value`` overrides. Raises BadInput with all its problems."""
    root = (root or project_root(path)).resolve()
    document = _extended(path, root, ())
    if not isinstance(document.value, dict):
        what = "is empty" if document.value is None else "holds a list, not keys"
        raise BadInput(Problem(what, path=path, hint="a scenario starts with 'version: 1' and 'name:'; 'harness init' writes one"))
    for override in overrides:
        document = _overridden(document, override, path)
    assert isinstance(document.value, dict)
    try:
        scenario = Scenario.model_validate(document.value)
    except ValidationError as error:
        raise BadInput(*translate(error, document, Scenario)) from error
    targets, problems = _targets(scenario, path, document)
    problems += check(scenario, path.parent, root)
    if problems:
        raise BadInput(*(_placed(problem, document, path) for problem in problems))
    lines = {key: place.line for key, place in document.places.items() if key and place.path == path}
    return ScenarioFile(scenario, path, root, document.text, targets, lines)


def project_root(path: Path) -> Path:
    """The enclosing git work tree, else the folder of the file: nothing outside it is read."""
    folder = path.resolve().parent
    return next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), folder)


def plugin_of(family: plugins.Family, ref: PluginRef, folder: Path) -> Options:
    """The validated instance of a plugin as a scenario names it. Imports the plugin's file: for trusted scenarios only."""
    kind = plugins.load(family, ref.name, folder)
    try:
        return kind.model_validate(spelled_out(kind, ref))
    except ValidationError as error:
        raise BadInput(*translate(error, Document(None, ""), kind, prefix=ref.name)) from error


def spelled_out(kind: type[Options], ref: PluginRef) -> dict[str, object]:
    """A reference's options with the plain string after the name under the field that it sets."""
    options: dict[str, object] = {key: value for key, value in ref.options.items() if key}
    if "" in ref.options:
        if kind.short is None:
            raise BadInput(Problem(f"'{ref.name}' takes options as 'key: value' pairs, not a plain value"))
        options[kind.short] = ref.options[""]
    return options


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [file for file in sorted(path.glob("*.yaml")) if file.name != HARDWARE_FILE and not file.name.startswith("_")]
            if not inside:
                raise BadInput(Problem("holds no scenario (*.yaml)", path=path, hint="'harness init' writes a first one"))
            files += inside
        else:
            files.append(path)
    return list(dict.fromkeys(files))


def _extended(path: Path, root: Path, above: tuple[Path, ...]) -> Document:
    if path.resolve() in above:
        chain = " -> ".join(str(item.name) for item in (*above, path))
        raise BadInput(Problem(f"extends itself: {chain}", path=path, key="extends"))
    document = read_yaml(path)
    if not isinstance(document.value, dict) or "extends" not in document.value:
        return document
    name = document.value.pop("extends")
    place = document.places.get("extends")
    base = (path.parent / str(name)).resolve()
    if not isinstance(name, str) or not base.is_file() or not base.is_relative_to(root):
        why = "is outside the project" if not base.is_relative_to(root) else "does not exist"
        raise BadInput(Problem(f"'{name}' {why}", path=path, line=None if place is None else place.line, key="extends"))
    return merge(_extended(base, root, (*above, path.resolve())), document)


def _overridden(document: Document, override: str, path: Path) -> Document:
    """Apply one ``key.path=value``; the value is read as YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    key, equals, text = override.partition("=")
    steps = [int(index) if index else name for name, index in _STEP.findall(key)]
    if not equals or not steps:
        raise BadInput(Problem(f"--set {override}: write --set key.path=value"))
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise BadInput(Problem(f"--set {override}: the value is not valid YAML")) from error
    node: Plain = document.value
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        if isinstance(step, int):
            if not isinstance(node, list) or step >= len(node):
                raise BadInput(Problem(f"--set {override}: there is no item [{step}]", path=path))
            if last:
                node[step] = value
            elif isinstance(node[step], str) and isinstance(steps[depth + 1], str):
                node[step] = {cast("str", node[step]): {}}
            node = node[step]
        elif isinstance(node, dict):
            if last:
                node[step] = value
            elif not isinstance(node.get(step), dict | list):
                node[step] = {}
            node = node[step]
        else:
            raise BadInput(Problem(f"--set {override}: '{step}' has no place there", path=path))
    return document


def _targets(scenario: Scenario, path: Path, document: Document) -> tuple[tuple[HardwareTarget, ...], list[Problem]]:
    known = dict(BUILT_IN_TARGETS)
    file = path.parent / HARDWARE_FILE
    if file.is_file():
        hardware = read_yaml(file)
        try:
            listed = HardwareFile.model_validate(hardware.value)
        except ValidationError as error:
            raise BadInput(*translate(error, hardware, HardwareFile, path=file)) from error
        known |= {name: target.model_copy(update={"name": name}) for name, target in listed.targets.items()}
    targets: list[HardwareTarget] = []
    problems: list[Problem] = []
    for index, item in enumerate(scenario.hardware):
        key = f"hardware[{index}]"
        if isinstance(item, HardwareTarget):
            if not item.name:
                problems.append(Problem("a target written in place needs a 'name'", key=key))
            targets.append(item)
        elif item in known:
            targets.append(known[item])
        else:
            near = difflib.get_close_matches(item, known, n=1)
            hint = f"known are {', '.join(known)}; others go into {HARDWARE_FILE} beside the scenario"
            problems.append(Problem(f"unknown hardware '{item}'", key=key, hint=f"did you mean '{near[0]}'? {hint}" if near else hint))
    doubled = sorted({target.name for target in targets if [other.name for other in targets].count(target.name) > 1})
    problems += [Problem(f"'{name}' is listed twice: two trials would have one identity", key="hardware") for name in doubled]
    sizes = scenario.measure.batch_sizes
    if len(set(sizes)) != len(sizes):
        problems.append(Problem("a batch size is listed twice: two trials would have one identity", key="measure.batch_sizes"))
    return tuple(targets), problems


def _placed(problem: Problem, document: Document, path: Path) -> Problem:
    place = document.place(problem.key or "")
    if place is None:
        return Problem(problem.message, path, problem.line, problem.key, problem.hint)
    return Problem(problem.message, place.path, place.line, problem.key, problem.hint)


def translate(
    error: ValidationError, document: Document, model: type[BaseModel], *, path: Path | None = None, prefix: str = ""
) -> list[Problem]:
    """pydantic's errors in plain words, with the place of the key and the nearest right name."""
    problems: dict[tuple[str, str], Problem] = {}
    for detail in error.errors(include_url=False):
        key, fields = _key_of(detail["loc"], model)
        message, hint = _words(detail, fields)
        full = ".".join(part for part in (prefix, key) if part)
        place = document.place(key)
        problem = Problem(message, place.path if place else path, place.line if place else None, full or None, hint)
        problems.setdefault((full, message), problem)
    return list(problems.values())


def _key_of(location: tuple[int | str, ...], model: type[BaseModel]) -> tuple[str, list[str]]:
    """The key path of an error, and the fields that are known where it happened. Names of union members are not keys."""
    key, current = "", cast("object", model)
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
            continue
        if part[:1].isupper() or "[" in part or part in ("str", "constrained-str"):
            continue
        key += f".{part}" if key else part
    parents = [part for part in location[:-1] if isinstance(part, str)]
    for part in parents:
        current = _inner(current, part)
    fields = list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []
    return key, fields


def _inner(kind: object, part: str) -> object:
    """The model that a field holds, through tuples, dicts and unions; the kind itself where ``part`` is a key of a dict."""
    if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
        found = _models(kind.model_fields[part].annotation)
        return found[0] if found else None
    return kind


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for item in getattr(annotation, "__args__", ()) for model in _models(item)]


def _words(detail: ErrorDetails, fields: list[str]) -> tuple[str, str | None]:
    kind, context = detail["type"], detail.get("ctx", {})
    given = detail.get("input")
    shown = repr(given) if isinstance(given, str | int | float | bool) else None
    match kind:
        case "extra_forbidden":
            name = str(detail["loc"][-1])
            near = difflib.get_close_matches(name, fields, n=1)
            known = f"known here: {', '.join(fields)}" if fields else None
            return f"unknown key '{name}'", f"did you mean '{near[0]}'?" if near else known
        case "missing":
            return "is missing", None
        case "value_error":
            return str(context.get("error", detail["msg"])), None
        case "literal_error":
            expected = str(context.get("expected", ""))
            near = difflib.get_close_matches(str(given), re.findall(r"'([^']+)'", expected), n=1)
            return f"{shown} is not one of {expected}", f"did you mean '{near[0]}'?" if near else None
        case "string_pattern_mismatch":
            pattern = str(context.get("pattern", ""))
            if ".py:" in pattern or "py:" in pattern:
                return f"{shown} is not a factory", "write 'file.py:function', the file relative to this scenario"
            if "cuda" in pattern:
                return f"{shown} is not a device", "devices are cpu, cuda and cuda:N"
            return f"{shown} is not a name: use letters, digits, '-' and '_'", None
        case _:
            message = detail["msg"][0].lower() + detail["msg"][1:]
            message = message.replace("input should be", "should be").replace("valid dictionary", "mapping of keys to values")
            return (f"{shown} {message}" if shown else message), None
