"""``--set key.path=value``: one value of a scenario replaced for one run, the file left as it is."""

from __future__ import annotations

import re
from pathlib import Path

from harness.core.errors import BadInput, Problem
from harness.engine.read_yaml import Document, Place, Plain, read_text

DOTTED = ("sla",)
"""Where all that follows is one key, dots and all: ``sla.int8.accuracy``."""
_NAME = re.compile(r"[^.\[\]]+")
_INDEX = re.compile(r"\[(\d+)\]")


def set_override(document: Document, override: str) -> Document:
    """The document with one value replaced. It is read as YAML, and errors about it name the option and not the file.

    A name that stands alone is opened to take options: ``recipes.int8.passes[1].quantize_static.per_channel=false``.
    """
    key, equals, text = override.partition("=")
    key, origin = key.strip(), Path(f"--set {override}")
    if not equals or not key:
        raise _misspelt(origin)
    try:
        given = read_text(text, origin)
    except BadInput as error:
        raise BadInput(*(Problem(problem.message, origin, hint=problem.hint) for problem in error.problems)) from error
    value = _changed(document.value, "", key, given.value, origin)
    below = (f"{key}.", f"{key}[")
    places = {name: place for name, place in document.places.items() if not name.startswith(below)}
    made = [key[: mark.start()] for mark in re.finditer(r"[.\[]", key) if key[: mark.start()] not in places]
    names = (*made, key, *(f"{key}{name}" if name.startswith("[") else f"{key}.{name}" for name in given.places if name))
    return Document(value, document.text, places | {name: Place(origin, 0) for name in names})


def _changed(node: Plain, where: str, rest: str, value: Plain, origin: Path) -> Plain:
    """``node``, which stands at ``where``, with the value at ``rest`` below it."""
    if not rest:
        return value
    if isinstance(node, str) and rest.startswith(f"{node}."):
        node = {node: {}}
    if isinstance(node, list) and (found := _INDEX.match(rest)):
        index = int(found[1])
        if index >= len(node):
            raise BadInput(Problem(f"'{where}' holds {len(node)} items, the first is [0]: there is no [{index}]", path=origin))
        item = _changed(node[index], f"{where}[{index}]", _after(rest, found.end(), origin), value, origin)
        return [*node[:index], item, *node[index + 1 :]]
    if node is None or isinstance(node, dict):
        node = node or {}
        if name := _first_key(node, where, rest):
            inner = f"{where}.{name}" if where else name
            return {**node, name: _changed(node.get(name), inner, _after(rest, len(name), origin), value, origin)}
    what = "is a list" if isinstance(node, list) else "is not a list" if rest.startswith("[") else f"is '{node}'"
    raise BadInput(Problem(f"'{where}' {what}: '{rest}' cannot be set in it", path=origin)) if where else _misspelt(origin)


def _first_key(node: dict[str, Plain], where: str, rest: str) -> str | None:
    """The key that ``rest`` begins with; one that is there may itself have dots."""
    there = [name for name in node if rest == name or rest.startswith((f"{name}.", f"{name}["))]
    if there or where in DOTTED:
        return max(there, key=len, default=rest)
    match = _NAME.match(rest)
    return None if match is None else match[0]


def _after(rest: str, end: int, origin: Path) -> str:
    left = rest[end:]
    if left == "." or left[:1] not in ("", ".", "["):
        raise _misspelt(origin)
    return left.removeprefix(".")


def _misspelt(origin: Path) -> BadInput:
    return BadInput(Problem("write --set key.path=value, such as --set measure.duration='2 s'", path=origin))
