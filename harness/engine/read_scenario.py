"""Scenario files from disk: all errors of a file at once, each with file, line, key and the nearest right name.

Reading runs no code of a scenario: factories are looked for in the syntax tree, plugins of the user's own are described and not imported.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from harness.core.allowed import Allowed
from harness.core.errors import BadInput, Problem
from harness.core.scenario import BUILT_IN_TARGETS, HardwareTarget, Model, Name, Scenario, ScenarioFile
from harness.engine.bounds import Bounds, allowed_here
from harness.engine.check_scenario import check
from harness.engine.explain import explain
from harness.engine.read_yaml import Document, Place, Plain, merge, read_yaml, similar_file
from harness.engine.set_overrides import set_override

HARDWARE_FILE = "hardware.yaml"
WAIVERS_FILE = "waivers.yaml"
NO_SCENARIOS = (HARDWARE_FILE, WAIVERS_FILE)
"""What lies beside scenarios and is none."""


class HardwareFile(Model):
    """``hardware.yaml`` beside the scenarios: named targets."""

    version: Literal[1]
    """The version of this language."""
    targets: dict[Name, HardwareTarget]
    """By name; one called cpu or cuda takes the place of the built-in target."""


def read_scenarios(
    paths: Sequence[Path], *, overrides: Sequence[str] = (), root: Path | None = None, allowed: Allowed | None = None
) -> tuple[ScenarioFile, ...]:
    """Read scenario files, and all of the scenarios in folders (``_*.yaml`` are bases for ``extends``, not scenarios).

    ``allowed`` is what the environment says where it is None. Raises BadInput with every problem of every file.
    """
    problems: list[Problem] = []
    found: list[ScenarioFile] = []
    for path in _files(paths):
        try:
            found.append(read_scenario(path, overrides=overrides, root=root, allowed=allowed))
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
        raise BadInput(*dict.fromkeys(problems))  # scenarios that share a base or a hardware.yaml share its problems
    return tuple(found)


def read_scenario(path: Path, *, overrides: Sequence[str] = (), root: Path | None = None, allowed: Allowed | None = None) -> ScenarioFile:
    """Read one file with what it extends and with ``--set key.path=value`` overrides. Raises BadInput with all its problems.

    What is wrong with the form (keys, types) is told first; what only plugins and files can confirm, once the form is right.
    """
    root = (root or project_root(path)).resolve()
    allowed = allowed or allowed_here()
    document, scenario = _formed(path, root, overrides)
    targets, problems = _targets(scenario, path, document, root)
    problems += [_placed(problem, document, path) for problem in check(scenario, targets, path.parent, Bounds(root, allowed.outside))]
    if problems:
        raise BadInput(*dict.fromkeys(problems))
    return ScenarioFile(scenario, path, root, document.text, targets, _lines(document, path), allowed)


def read_form(path: Path, root: Path) -> ScenarioFile:
    """Read one file as ``read_scenario`` does, without the plugins and files that it names: those of a bundle are elsewhere."""
    document, scenario = _formed(path, root.resolve(), ())
    targets, problems = _targets(scenario, path, document, root.resolve())
    if problems:
        raise BadInput(*dict.fromkeys(problems))
    return ScenarioFile(scenario, path, root, document.text, targets, _lines(document, path))


def _formed(path: Path, root: Path, overrides: Sequence[str]) -> tuple[Document, Scenario]:
    if wrong := Bounds(root).problem(path, str(path), None, code=True):
        raise BadInput(wrong)
    document = _extended(path, root, ())
    for override in overrides:
        document = set_override(document, override)
    try:
        return document, Scenario.model_validate(document.value)
    except ValidationError as error:
        raise BadInput(*explain(error, document, Scenario)) from error


def _lines(document: Document, path: Path) -> dict[str, int]:
    return {key: place.line for key, place in document.places.items() if key and place.path == path}


def files_read(path: Path) -> tuple[Path, ...]:
    """A scenario's own file, those that it extends, and the hardware.yaml beside it where there is one."""
    found = [path]
    while isinstance(value := read_yaml(found[-1]).value, dict) and isinstance(name := value.get("extends"), str):
        found.append(_beside(found[-1], name))
    hardware = path.parent / HARDWARE_FILE
    return (*found, hardware) if hardware.is_file() else tuple(found)


def project_root(path: Path) -> Path:
    """The enclosing git work tree; without one the present folder where the file lies in it, else the file's own folder.

    Nothing outside it is read.
    """
    folder, present = path.parent.resolve(), Path.cwd()
    outside_git = present if folder.is_relative_to(present) else folder
    return next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), outside_git)


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [file for file in sorted(path.glob("*.yaml")) if file.name not in NO_SCENARIOS and not file.name.startswith("_")]
            if not inside:
                raise BadInput(Problem("holds no scenario (*.yaml)", path=path, hint="'harness init' writes a first one"))
            files += inside
        else:
            files.append(path)
    return list(dict.fromkeys(files))


def _extended(path: Path, root: Path, above: tuple[Path, ...]) -> Document:
    """A file laid over what it extends; ``above`` are the files that led here."""
    document = read_yaml(path)
    value = document.value
    if not isinstance(value, dict):
        what = "is empty" if value is None else "holds a list, not keys" if isinstance(value, list) else "holds one value, not keys"
        raise BadInput(Problem(what, path=path, hint="a scenario starts with 'version: 1' and 'name:'; 'harness init' writes one"))
    if "extends" not in value:
        return document
    name = value.pop("extends")
    place = document.places["extends"]

    def wrong(message: str, hint: str | None = None) -> BadInput:
        return BadInput(Problem(message, path, place.line, "extends", hint))

    if not isinstance(name, str):
        raise wrong("the path of one file is needed, relative to this one")
    base = _beside(path, name)
    if beyond := Bounds(root).problem(base, name, "extends", code=True):
        raise wrong(beyond.message, beyond.hint)
    if not base.is_file():
        raise wrong(f"file '{name}' does not exist", similar_file(base))
    chain = (*above, path.resolve())
    if base.resolve() in chain:
        raise wrong(f"extends itself: {' -> '.join(item.name for item in (*chain, base))}")
    under = _extended(base, root, chain)
    assert isinstance(under.value, dict)
    _forget_replaced(under.value, value)
    return merge(under, document)


def _beside(path: Path, name: str) -> Path:
    """A path relative to a file, without the detours ('a/../b') that a reader would stumble over."""
    joined = path.parent / name
    short = Path(os.path.normpath(joined))
    return short if short.resolve() == joined.resolve() else joined


def _forget_replaced(base: dict[str, Plain], over: dict[str, Plain]) -> None:
    """Where the upper file names another source, load or runtime, the base's name goes with its options instead of standing beside it."""
    choices = [(base.get("model"), over.get("model"))]
    pairs = [(base.get("measure"), over.get("measure"), "load")]
    recipes, others = base.get("recipes"), over.get("recipes")
    if isinstance(recipes, dict) and isinstance(others, dict):
        pairs += [(recipes[name], others[name], key) for name in recipes.keys() & others.keys() for key in ("runtime", "server")]
    choices += [(one.get(key), other.get(key)) for one, other, key in pairs if isinstance(one, dict) and isinstance(other, dict)]
    for one, other in choices:
        if isinstance(one, dict) and isinstance(other, dict):
            named = other.keys() - {"args", "files"}
            if named and not named <= one.keys():
                for name in one.keys() - {"args", "files"}:
                    del one[name]


def _targets(scenario: Scenario, path: Path, document: Document, root: Path) -> tuple[tuple[HardwareTarget, ...], list[Problem]]:
    """The targets that ``hardware`` names, and what is wrong with it or with hardware.yaml."""
    known, problems = _known_targets(path.parent / HARDWARE_FILE, root)
    if problems:
        return (), problems
    targets: list[HardwareTarget] = []
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
    doubled = sorted({target.name for target in targets if target.name and [other.name for other in targets].count(target.name) > 1})
    problems += [Problem(f"'{name}' is listed twice: two trials would have one identity", key="hardware") for name in doubled]
    sizes = scenario.measure.batch_sizes
    if len(set(sizes)) != len(sizes):
        problems.append(Problem("a batch size is listed twice: two trials would have one identity", key="measure.batch_sizes"))
    return tuple(targets), [_placed(problem, document, path) for problem in problems]


def _known_targets(path: Path, root: Path) -> tuple[dict[str, HardwareTarget], list[Problem]]:
    """The built-in targets and those of hardware.yaml, with its problems."""
    known = dict(BUILT_IN_TARGETS)
    if wrong := Bounds(root).problem(path, str(path), None, code=True):
        return known, [wrong]
    if not path.is_file():
        return known, []
    try:
        document = read_yaml(path)
        listed = HardwareFile.model_validate(document.value)
    except BadInput as error:
        return known, list(error.problems)
    except ValidationError as error:
        return known, explain(error, document, HardwareFile, path=path)
    problems = []
    for name, target in listed.targets.items():
        if target.name not in ("", name):
            key = f"targets.{name}.name"
            place = document.place(key)
            line = None if place is None else place.line
            problems.append(Problem(f"the target's name is the key that it stands under, '{name}'", path, line, key, "remove this line"))
        known[name] = target.model_copy(update={"name": name})
    return known, problems


def _placed(problem: Problem, document: Document, path: Path) -> Problem:
    place = document.place(problem.key or "") or Place(path, 0)
    return Problem(problem.message, place.path, place.line, problem.key, problem.hint)
