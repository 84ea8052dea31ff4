"""YAML to plain values, remembering for every key path the file and line that it stands in."""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from harness.core.errors import BadInput, Problem

MAX_BYTES = 2**20
MAX_VALUES = 20_000
"""Values of a file with its aliases written out: a few lines of nested aliases can stand for billions."""

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: file and line (1-based)."""

    path: Path
    line: int


@dataclass(slots=True)
class Document:
    """A YAML file as plain values; ``places`` maps key paths such as ``recipes.int8.passes[1]`` to where they stand."""

    value: Plain
    text: str
    places: dict[str, Place] = field(default_factory=dict)

    def place(self, key: str) -> Place | None:
        """Where a key path stands, or the nearest one above it that is known."""
        return self.places.get(self.known(key))

    def known(self, key: str) -> str:
        """The key path, or the nearest one above it that stands in the file."""
        while key and key not in self.places:
            cut = max(key.rfind("."), key.rfind("["))
            key = key[:cut] if cut > 0 else ""
        return key


def read_yaml(path: Path) -> Document:
    """Read one file. Raises BadInput with file and line when it is missing, not UTF-8, too large or not plain YAML 1.2."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BadInput(Problem("does not exist", path=path, hint=similar_file(path))) from error
    except OSError as error:
        raise BadInput(Problem(f"cannot be read: {error.strerror}", path=path)) from error
    if len(data) > MAX_BYTES:
        raise BadInput(Problem(f"is larger than {MAX_BYTES // 2**20} MiB: not a scenario", path=path))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInput(Problem("is not UTF-8 text", path=path, line=line, hint="save the file as UTF-8")) from error
    return read_text(text, path)


def read_text(text: str, path: Path) -> Document:
    """Read text as the content of ``path``. Raises BadInput with every problem of its structure."""
    reader = _Reader(path)
    node = _composed(text, path)
    value = None if node is None else reader.plain(node, "", 1)
    if reader.problems:
        raise BadInput(*reader.problems)
    return Document(value, text, reader.places)


def similar_file(path: Path) -> str | None:
    """A hint that names the file beside ``path`` whose name is nearest to it."""
    found = {item.stem: item for item in sorted(path.parent.glob("*")) if item.name != path.name} if path.parent.is_dir() else {}
    near = difflib.get_close_matches(path.stem, found, n=1)
    return f"did you mean '{found[near[0]]}'?" if near else None


def _composed(text: str, path: Path) -> Node | None:
    """The tree of nodes, no value made yet; None for an empty file."""
    if old := re.match(r"\ufeff?(?:[ \t]*(?:#[^\n]*)?\r?\n)*%YAML[ \t]+(?!1\.2\b)(\S+)", text):
        line = text[: old.start(1)].count("\n") + 1
        raise BadInput(Problem(f"asks for YAML {old[1]}: scenarios are YAML 1.2", path=path, line=line, hint="remove the %YAML line"))
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor may be used again
            node: Node | None = yaml.compose(text)
    except MarkedYAMLError as error:
        raise BadInput(_syntax_problem(error, path)) from error
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise BadInput(Problem(f"holds a character that is not allowed: {ord(text[error.position]):#04x}", path=path, line=line)) from error
    except (YAMLError, ValueError) as error:
        raise BadInput(Problem(f"is not valid YAML: {str(error).splitlines()[0]}", path=path)) from error
    except RecursionError as error:
        raise BadInput(Problem("is nested too deeply: not a scenario", path=path)) from error
    return node


_HINTS = {
    "character '\\t'": "indent with spaces, not with tabs",
    "that cannot start any token": "put the value in quotes",
    "mapping values are not allowed here": "put a value that holds ': ' in quotes, or check the indentation",
    "does not fit the block": "check the indentation, and close every quote and bracket",
    "found undefined alias": "put a value that starts with '*' in quotes",
}


def _syntax_problem(error: MarkedYAMLError, path: Path) -> Problem:
    """The parser's words, placed where the reader can mend it: an open bracket is told where it opens, not where the file ends."""
    if error.problem == "but found another document":
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        return Problem("holds more than one document", path, line, hint="write one scenario to a file")
    message = (error.problem or error.context or "cannot be parsed").strip()
    if message.startswith("expected <block end>") and error.context_mark is not None:
        message = f"this does not fit the block that begins in line {error.context_mark.line + 1}"
    hint = next((hint for sign, hint in _HINTS.items() if sign in message), None)
    mark = error.problem_mark or error.context_mark
    opening = error.context_mark if re.search("flow (sequence|mapping)|quoted", error.context or "") else None
    what = "quote" if "quoted" in str(error.context) else "bracket"
    if opening is not None and re.search("end of stream|stream end", message):
        return Problem(f"is not valid YAML: this {what} is never closed", path, opening.line + 1)
    if opening is not None and mark is not None and opening.line != mark.line:
        message += f" (the {what} opens in line {opening.line + 1})"
    elif "stream end" in message:
        message = "the file ends inside a bracket"
    return Problem(f"is not valid YAML: {message}", path, None if mark is None else mark.line + 1, hint=hint)


class _Reader:
    """Makes plain values of nodes, notes where each stands, and collects what is wrong with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[str, Place] = {}
        self.problems: list[Problem] = []
        self.open: list[Node] = []
        self.count = 0

    def plain(self, node: Node, key: str, line: int) -> Plain:
        """The value of a node that stands at ``key``; ``line`` is that of its key or list item."""
        self.places[key] = Place(self.path, line)
        self._count(1)
        if node in self.open:
            self._wrong("an alias stands inside what it names", key, node)
            return None
        tag = str(node.tag)
        if tag not in _TAGS:
            hint = "to build on another file, write 'extends: other.yaml'" if "include" in tag else "remove it"
            self._wrong(f"the tag '{_short_tag(tag)}' is not known here", key, node, hint)
            return None
        if isinstance(node, ScalarNode):
            return self._scalar(node, key)
        self.open.append(node)
        value: Plain
        if isinstance(node, SequenceNode):
            value = [self.plain(item, f"{key}[{index}]", item.start_mark.line + 1) for index, item in enumerate(node.value)]
        else:
            value = {
                name: self.plain(item, f"{key}.{name}" if key else name, line) for name, (item, line) in self._pairs(node, key, []).items()
            }
        self.open.pop()
        return value

    def _pairs(self, node: Node, key: str, within: list[Node]) -> dict[str, tuple[Node, int]]:
        """A mapping's own keys, then those of what it merges ('<<'); the first to name a key wins."""
        self._count(len(node.value))
        own: dict[str, tuple[Node, int]] = {}
        merged: list[Node] = []
        for name, item in node.value:
            line = name.start_mark.line + 1
            if name.tag == _MERGE:
                merged += item.value if isinstance(item, SequenceNode) else [item]
            elif not isinstance(name, ScalarNode) or name.tag not in _TAGS:
                self._wrong("a key is plain text", key, name)
            elif name.value in own:
                self._wrong(f"is written twice, first in line {own[name.value][1]}", f"{key}.{name.value}" if key else name.value, name)
            else:
                own[name.value] = item, line
        for other in merged:
            if not isinstance(other, MappingNode) or other in (*self.open, *within):
                self._wrong("'<<' takes a mapping, or a list of mappings", key, other)
                continue
            for name, found in self._pairs(other, key, [*within, node]).items():
                own.setdefault(name, found)
        return own

    def _scalar(self, node: ScalarNode, key: str) -> Plain:
        """A scalar by the tag that its form or its author gave it. Dates stay text; NaN and infinity are no numbers."""
        text: str = node.value
        kind = str(node.tag).removeprefix(_STANDARD)
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                digits = text.replace("_", "")
                return int(digits, 0 if re.match(r"[+-]?0[xob]", digits) else 10)
            if kind == "float":
                number = float(text.replace("_", ""))
                if math.isfinite(number):
                    return number
                raise ValueError
            text.encode()  # an escape such as "\ud800" makes text that no file can hold
            if "\0" in text:
                raise ValueError
        except (KeyError, ValueError):
            words = {"bool": "true or false", "int": "a whole number of reasonable length", "float": "a finite number"}
            self._wrong(f"{_shortened(text)!r} is not {words.get(kind, 'text that a file can hold')}", key, node)
            return None
        return text

    def _count(self, more: int) -> None:
        self.count += more
        if self.count > MAX_VALUES:
            raise BadInput(Problem(f"holds more than {MAX_VALUES:,} values with its aliases written out: not a scenario", path=self.path))

    def _wrong(self, message: str, key: str, node: Node, hint: str | None = None) -> None:
        self.problems.append(Problem(message, self.path, node.start_mark.line + 1, key or None, hint))


_STANDARD = "tag:yaml.org,2002:"
_MERGE = f"{_STANDARD}merge"
_TAGS = {f"{_STANDARD}{kind}" for kind in ("null", "bool", "int", "float", "str", "timestamp", "value", "map", "seq")}


def _short_tag(tag: str) -> str:
    return f"!!{tag.removeprefix(_STANDARD)}" if tag.startswith(_STANDARD) else tag


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def merge(base: Document, over: Document) -> Document:
    """``over`` laid over ``base``: mappings key by key, everything else replaced; places follow the value that won."""
    places = dict(base.places)
    value = _merge(base.value, over.value, "", over.places, places)
    return Document(value, over.text, places)


def _merge(base: Plain, over: Plain, key: str, origin: Mapping[str, Place], places: dict[str, Place]) -> Plain:
    if isinstance(base, dict) and isinstance(over, dict):
        result = dict(base)
        for name, item in over.items():
            child = f"{key}.{name}" if key else name
            if child in origin:
                places[child] = origin[child]
            result[name] = _merge(base[name], item, child, origin, places) if name in base else _copied(item, child, origin, places)
        return result
    return _copied(over, key, origin, places)


def _copied(value: Plain, key: str, origin: Mapping[str, Place], places: dict[str, Place]) -> Plain:
    for name in [name for name in places if name.startswith((f"{key}.", f"{key}["))]:
        del places[name]
    places.update({name: place for name, place in origin.items() if name == key or name.startswith((f"{key}.", f"{key}["))})
    return value
