"""YAML to plain values, remembering for every key path the file and line that it stands in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.tokens import AliasToken

from harness.core.errors import BadInput, Problem

MAX_BYTES = 2**20
MAX_ALIASES = 100

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
        while key and key not in self.places:
            cut = max(key.rfind("."), key.rfind("["))
            key = key[:cut] if cut > 0 else ""
        return self.places.get(key)


def read_yaml(path: Path) -> Document:
    """Read one file. Raises BadInput with file and line when it is missing, not UTF-8, too large or not YAML."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BadInput(Problem("does not exist", path=path)) from error
    except OSError as error:
        raise BadInput(Problem(f"cannot be read: {error.strerror}", path=path)) from error
    if len(data) > MAX_BYTES:
        raise BadInput(Problem(f"is larger than {MAX_BYTES // 2**20} MiB: not a scenario", path=path))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInput(Problem("is not UTF-8 text", path=path, line=line, hint="save the file as UTF-8")) from error
    yaml = YAML(typ="rt", pure=True)
    yaml.version = (1, 2)
    yaml.allow_duplicate_keys = False
    try:
        if sum(isinstance(token, AliasToken) for token in YAML(typ="rt", pure=True).scan(text)) > MAX_ALIASES:
            raise BadInput(Problem(f"uses more than {MAX_ALIASES} aliases", path=path, hint="write the values out, or use 'extends'"))
        loaded = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"is not valid YAML: {(error.problem or error.context or 'cannot be parsed').strip()}"
        raise BadInput(Problem(message, path=path, line=None if mark is None else mark.line + 1)) from error
    except (YAMLError, ValueError) as error:
        raise BadInput(Problem(f"is not valid YAML: {str(error).splitlines()[0]}", path=path)) from error
    document = Document(None, text)
    document.value = _plain(loaded, "", Place(path, 1), document.places)
    return document


def _plain(value: object, key: str, place: Place, places: dict[str, Place]) -> Plain:
    places[key] = place
    if isinstance(value, CommentedMap):
        result: dict[str, Plain] = {}
        for name in value:
            try:
                line = value.lc.key(name)[0] + 1
            except (KeyError, AttributeError):  # a key that came in through a merge ('<<') has no line of its own
                line = place.line
            child = f"{key}.{name}" if key else str(name)
            result[str(name)] = _plain(value[name], child, Place(place.path, line), places)
        return result
    if isinstance(value, CommentedSeq):
        return [_plain(item, f"{key}[{index}]", Place(place.path, value.lc.item(index)[0] + 1), places) for index, item in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return str(value)  # dates and other tagged scalars stay text


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
