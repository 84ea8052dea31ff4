"""A recipe written into a scenario's file: its own lines are added, every other stays as it was to the byte.

The text is placed by the marks of the YAML parser and not by dumping the document anew, which would lay out other lines too. What comes out
is read again before it is kept: it must be the old document with this one recipe more.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from harness.core.errors import BadInput, HarnessError, Problem
from harness.engine.read_scenario import read_scenario
from harness.engine.read_yaml import read_text
from harness.store.files import write_atomically

if TYPE_CHECKING:
    from harness.core.allowed import Allowed
    from harness.core.scenario import PluginRef, Recipe

KEY = "recipes"
WIDTH = 1_000_000


@dataclass(frozen=True, slots=True)
class Written:
    """Where a recipe stands now: its file and its first line."""

    path: Path
    line: int


def write_recipe(path: Path, name: str, recipe: Recipe, comment: str, *, allowed: Allowed, force: bool = False) -> Written:
    """Add ``recipe`` as ``name``, with a comment above it; with ``force`` in the place of one that is called so.

    Raises BadInput, and leaves the file as it was, where there is such a recipe already, where the file's form leaves no place for it, and
    where the file would not be the scenario that was meant.
    """
    before = path.read_bytes()
    text = before.decode("utf-8")
    check_name(path, name, text, allowed=allowed, force=force)
    after = _placed(path, text, name, recipe, comment)
    write_atomically(path, after.encode())
    try:
        found = read_scenario(path, allowed=allowed)
        if found.scenario.recipes[name] != recipe.model_copy(update={"name": name}):
            hint = "give it a name that no file has that this one extends"
            raise BadInput(Problem("would take something over from the file that this one extends", path, key=f"{KEY}.{name}", hint=hint))
    except (HarnessError, KeyError):
        write_atomically(path, before)
        raise
    return Written(path, found.lines[f"{KEY}.{name}"])


def check_name(path: Path, name: str, text: str | None = None, *, allowed: Allowed, force: bool) -> None:
    """Whether a recipe may be called so: before a search begins, and again before it is written. Raises BadInput where it may not."""
    from pydantic import TypeAdapter, ValidationError

    from harness.core.scenario import Name

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        hint = "it starts with a letter or a digit, and has at most 64 letters, digits, '-' and '_'"
        raise BadInput(Problem(f"--write {name}: is no name for a recipe", hint=hint)) from error
    file = read_scenario(path, allowed=allowed)
    if name in file.scenario.recipes and not force:
        line = file.lines.get(f"{KEY}.{name}")
        raise BadInput(Problem("is there already", path, line, f"{KEY}.{name}", "choose another name, or replace it with --force"))
    _root(path, file.text if text is None else text)


def _placed(path: Path, text: str, name: str, recipe: Recipe, comment: str) -> str:
    """The text with the recipe in it, checked to be nothing else than that."""
    newline = "\r\n" if "\r\n" in text else "\n"
    recipes = _value_of(_root(path, text), KEY)
    if recipes is None:
        lines = [f"{KEY}:", *_block(name, recipe, comment, "  ")]
        after = text + ("" if not text or text.endswith("\n") else newline) + newline.join(lines) + newline
    elif recipes.flow_style:
        after = _into_braces(path, text, recipes, name, recipe)
    else:
        after = _into_block(text, recipes, name, _block(name, recipe, comment, " " * recipes.start_mark.column), newline)
    before, now = read_text(text, path).value, read_text(after, path).value
    assert isinstance(before, dict) and isinstance(now, dict)
    old, new = before.get(KEY) or {}, now.get(KEY)
    rest = {key: value for key, value in before.items() if key != KEY}
    if rest != {key: value for key, value in now.items() if key != KEY} or not isinstance(new, dict) or not isinstance(old, dict):
        raise _no_place(path)
    if {**old, name: None} != {**new, name: None} or name not in new:
        raise _no_place(path)
    return after


def _into_block(text: str, recipes: MappingNode, name: str, block: list[str], newline: str) -> str:
    """After the last line of the last recipe; of a recipe that is replaced, in its place."""
    lines = text.splitlines(keepends=True)
    for key, value in recipes.value:
        if key.value == name:
            return "".join([*lines[: key.start_mark.line], *(f"{line}{newline}" for line in block), *lines[_last_line(value) + 1 :]])
    last = _last_line(recipes)
    if not lines[last].endswith("\n"):
        lines[last] += newline
    return "".join([*lines[: last + 1], *(f"{line}{newline}" for line in block), *lines[last + 1 :]])


def _into_braces(path: Path, text: str, recipes: MappingNode, name: str, recipe: Recipe) -> str:
    """Into ``{fp32: {runtime: torch}}``: before the closing brace."""
    if any(key.value == name for key, _ in recipes.value):
        raise BadInput(Problem("stands in braces and is not replaced there", path, key=f"{KEY}.{name}", hint="take it out by hand first"))
    end = recipes.end_mark.index - 1
    inner = text[:end].rstrip()
    comma = "" if inner.endswith(("{", ",")) else ","
    return f"{inner}{comma} {name}: {_flow(_plain(recipe), inside=True)}{text[end:]}"


def _block(name: str, recipe: Recipe, comment: str, indent: str) -> list[str]:
    lines = [f"{indent}# {comment}", f"{indent}{name}:"]
    if recipe.passes:
        lines.append(f"{indent}  passes:")
        lines += [f"{indent}    - {_flow(_ref(step))}" for step in recipe.passes]
    lines.append(f"{indent}  runtime: {_flow(_ref(recipe.runtime), inside=True)}")
    if "server" in recipe.model_fields_set and recipe.server.model_dump() != type(recipe).model_fields["server"].default.model_dump():
        lines.append(f"{indent}  server: {_flow(_ref(recipe.server), inside=True)}")
    return lines


def _plain(recipe: Recipe) -> dict[str, object]:
    found: dict[str, object] = {"passes": [_ref(step) for step in recipe.passes]} if recipe.passes else {}
    return {**found, "runtime": _ref(recipe.runtime)}


def _ref(ref: PluginRef) -> object:
    """As a scenario writes it: a name, or a name with its options."""
    if not ref.options:
        return ref.name
    return {ref.name: ref.options[""] if set(ref.options) == {""} else ref.options}


def _flow(value: object, *, inside: bool = False) -> str:
    """One line of YAML: in a list ``quantize_static: {per_channel: true}``, as a key's value in braces."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.width = WIDTH
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # declared as None
    out = io.StringIO()
    yaml.dump(value, out)
    line = out.getvalue().removesuffix("...\n").strip()
    braced = line.startswith("{") and not inside and isinstance(value, dict) and len(value) == 1
    return line[1:-1] if braced else line


def _root(path: Path, text: str) -> MappingNode:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    root = yaml.compose(text)
    recipes = _value_of(root, KEY)
    if recipes is not None and (not isinstance(recipes, MappingNode) or recipes.anchor is not None):
        raise _no_place(path)
    return cast("MappingNode", root)


def _value_of(node: Node, key: str) -> MappingNode | None:
    return next((value for name, value in node.value if name.value == key), None)


def _last_line(node: Node) -> int:
    """The line (from 0) where the last thing of a node ends: a block's own end mark lies behind comments and empty lines."""
    if isinstance(node, MappingNode) and node.value and not node.flow_style:
        return _last_line(node.value[-1][1])
    if isinstance(node, SequenceNode) and node.value and not node.flow_style:
        return _last_line(node.value[-1])
    at_line_start = node.end_mark.column == 0 and node.end_mark.line > node.start_mark.line
    return int(node.end_mark.line) - (1 if at_line_start else 0)


def _no_place(path: Path) -> BadInput:
    hint = "write it by hand: the search's --json has it"
    return BadInput(Problem("is written in a way that no recipe can be added to safely", path, key=KEY, hint=hint))
