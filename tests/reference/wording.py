"""Docstrings, types and defaults as a page shows them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence

from pydantic_core import PydanticUndefined

Schema = Mapping[str, object]


def paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a docstring, each on one line, names in single quotes of code."""
    cut = re.split(r"\n\s*\n", inspect.cleandoc((text or "").replace("\b", "")))
    return [" ".join(part.split()).replace("``", "`") for part in cut if part.strip()]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; columns that hold nothing are left out."""
    kept = [column for column in range(len(head)) if any(row[column] for row in rows)]
    lines = [[head[column] for column in kept], ["---"] * len(kept), *([row[column] for column in kept] for row in rows)]
    return "\n".join("| " + " | ".join(re.sub(r"(?<!\\)\|", r"\|", cell) for cell in line) + " |" for line in lines)


def code(value: object) -> str:
    return f"`{value}`"


def codes(values: Sequence[object]) -> str:
    return ", ".join(map(code, values))


def default_of(value: object) -> str:
    """A default as YAML has it; nothing where there is none to write."""
    if value is PydanticUndefined:
        return "**required**"
    if value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, str):
        return code(value)
    return code(json.dumps(list(value) if isinstance(value, tuple) else value))


def type_of(schema: Schema, defs: Schema) -> str:
    """What may be written for a field, from its JSON Schema."""
    if "$ref" in schema:
        named = defs[str(schema["$ref"]).rpartition("/")[2]]
        assert isinstance(named, Mapping)
        return type_of(named, defs)
    if "const" in schema:
        return default_of(schema["const"])
    if isinstance(choices := schema.get("enum"), list):
        return " or ".join(code(choice) for choice in choices)
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(forms := schema.get(key), list):
            return " or ".join(dict.fromkeys(type_of(form, defs) for form in forms if form.get("type") != "null"))
    if isinstance(examples := schema.get("examples"), list):
        return f"such as {code(examples[0])}"
    return _plain(schema, defs)


def _plain(schema: Schema, defs: Schema) -> str:
    match schema.get("type"):
        case "boolean":
            return "`true` or `false`"
        case "string":
            return "text"
        case "integer" | "number":
            return ", ".join(["whole number" if schema["type"] == "integer" else "number", *_bounds(schema)])
        case "array":
            items = schema.get("items")
            return f"list of: {type_of(items, defs)}" if isinstance(items, Mapping) else "list"
        case "object" if isinstance(properties := schema.get("properties"), Mapping):
            return f"mapping of {codes(list(properties))}"
        case "object":
            values = schema.get("additionalProperties")
            return f"mapping of names to {type_of(values, defs)}" if isinstance(values, Mapping) and values else "mapping"
    return "any value"


def _bounds(schema: Schema) -> list[str]:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return [f"{word} {schema[key]:,}" for key, word in words.items() if key in schema]
