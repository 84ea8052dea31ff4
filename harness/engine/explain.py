"""pydantic's errors in plain words: the key as it stands in the file, what was expected there, and the nearest right name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import ErrorDetails

from harness.core.errors import Problem
from harness.engine.read_yaml import Document

_EXPECTED = {
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "dict_type": "keys with values",
    "tuple_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}


def explain(
    error: ValidationError, document: Document, model: type[BaseModel], *, path: Path | None = None, prefix: str = ""
) -> list[Problem]:
    """One problem for each thing that is wrong, in the order of the file."""
    problems: dict[tuple[str, str], Problem] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] == "too_short" and detail["input"]:
            continue  # pydantic counts the items that were right; those that were wrong have their own problem
        key, fields = _key_of(detail["loc"], model)
        if document.places and detail["type"] != "missing":
            key = document.known(key)  # a short form such as 'latency_p50: 3 %' has no key 'tolerance'
        message, hint = _words(detail, fields)
        full = ".".join(part for part in (prefix, key) if part)
        place = document.place(key)
        problem = Problem(message, place.path if place else path, place.line if place else None, full or None, hint)
        problems.setdefault((full, message), problem)
    return sorted(problems.values(), key=lambda problem: (str(problem.path), problem.line or 0))


def _key_of(location: tuple[int | str, ...], model: type[BaseModel]) -> tuple[str, list[str]]:
    """The key path of an error, and the keys that are known beside it. Members of unions and '[key]' are no keys."""
    key = ""
    beside: object = model
    below: object = model
    for part in location:
        if part == "[key]":
            continue
        beside = below
        below, is_key = _below(below, part)
        if isinstance(part, int):
            key += f"[{part}]"
        elif is_key:
            key += f".{part}" if key else part
    return key, _keys_of(beside)


def _below(kind: object, part: int | str) -> tuple[object, bool]:
    """What stands under ``part`` of a type, and whether ``part`` is written in the file."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _below(args[0], part)
    if origin in (Union, UnionType):
        inner = [arg for arg in args if arg is not type(None)]
        if len(inner) == 1:
            return _below(inner[0], part)
        return next((arg for arg in inner if part in _tags_of(arg)), None), False
    if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
        return kind.model_fields[str(part)].annotation, True
    if origin is dict:
        return args[1], True
    return (args[0] if origin in (tuple, list) else None), True


def _tags_of(kind: object) -> list[str]:
    """The names that pydantic gives to a member of a union."""
    return [item.tag if isinstance(item, Tag) else getattr(item, "__name__", "") for item in (*get_args(kind), kind)]


def _keys_of(kind: object) -> list[str]:
    """The keys that a model takes in a file."""
    if get_origin(kind) is Annotated:
        return _keys_of(get_args(kind)[0])
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return next((found for arg in get_args(kind) if (found := _keys_of(arg))), [])
    return [name for name, field in kind.model_fields.items() if SkipJsonSchema not in map(type, field.metadata)]


def _words(detail: ErrorDetails, fields: list[str]) -> tuple[str, str | None]:
    kind, context, given = detail["type"], detail.get("ctx", {}), detail.get("input")
    if kind in _EXPECTED:
        return _unexpected(given, _EXPECTED[kind])
    match kind:
        case "extra_forbidden":
            name = str(detail["loc"][-1])
            near = difflib.get_close_matches(name, fields, n=1)
            known = f"known here: {', '.join(fields)}" if fields else "no options are known here"
            return f"unknown key '{name}'", f"did you mean '{near[0]}'?" if near else known
        case "missing":
            return "is missing", None
        case "value_error":
            return str(context.get("error", detail["msg"])), None
        case "literal_error":
            expected = str(context.get("expected", ""))
            near = difflib.get_close_matches(str(given), re.findall(r"'([^']+)'", expected), n=1)
            several = "one of " if " or " in expected else ""
            return f"{_shown(given)} is not {several}{expected}", f"did you mean '{near[0]}'?" if near else None
        case "string_pattern_mismatch":
            pattern = str(context.get("pattern", ""))
            if "py:" in pattern:
                return f"{_shown(given)} is not a factory", "write 'file.py:function', the file relative to this scenario"
            if "cuda" in pattern:
                return f"{_shown(given)} is not a device", "devices are cpu, cuda and cuda:N"
            return f"{_shown(given)} is not a name", "a name starts with a letter or a digit; letters, digits, '-' and '_' follow"
        case "string_too_long":
            return f"is longer than {context['max_length']} characters", None
        case "too_short":
            return "is empty: at least one is needed", None
        case "greater_than_equal" | "greater_than":
            least = f"at least {context['ge']}" if "ge" in context else f"more than {context['gt']:g}"
            return f"{_shown(given)} is too small: {least} is needed", None
        case "less_than_equal" | "less_than":
            most = f"at most {context['le']}" if "le" in context else f"less than {context['lt']}"
            return f"{_shown(given)} is too large: {most} is needed", None
        case _:
            message = detail["msg"][0].lower() + detail["msg"][1:]
            return f"{_shown(given)}: {message}", None


def _unexpected(given: object, expected: str) -> tuple[str, str | None]:
    if expected == "keys with values":
        return f"{'has no value: ' if given is None else ''}keys are needed here{'' if given is None else f', not {_shown(given)}'}", None
    if given is None:
        return f"has no value: {expected} is needed", None
    hint = None
    if expected == "a list" and isinstance(given, str | int | float):
        hint = f"write [{_shown(given).strip(chr(39))}]"
    if expected == "text" and isinstance(given, int | float):
        hint = f'write "{_shown(given)}", in quotes'
    return f"{_shown(given)} is not {expected}", hint


def _shown(value: object) -> str:
    """A value as it stands in YAML; lists and mappings by what they are."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, Mapping):
        return "a mapping"
    return "nothing" if value is None else repr(value)
