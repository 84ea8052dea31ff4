"""A benchmark file as JSON, and its errors in plain words: the file, the key, what is wrong, the next step."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.core.errors import BadInput, Problem

MOST_BYTES = 2**29
"""Of an unpacked file."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
"""A time or a size: NaN, infinity and zero are no measurement."""


class Part(BaseModel):
    """A part of another tool's document. Keys that nothing here reads are left alone: they are that tool's business."""

    model_config = ConfigDict(extra="ignore", frozen=True)


Read = TypeVar("Read", bound=Part)
_EXPECTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "string_type": "text",
    "model_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
    "tuple_type": "a list",
}


def loaded(data: bytes, path: Path) -> dict[str, object]:
    """The object in the file, unpacked first where the name ends in .gz. Raises BadInput for anything else."""
    try:
        document = json.loads(_unpacked(data, path) if path.suffix == ".gz" else data)
    except json.JSONDecodeError as error:
        raise BadInput(Problem(f"not JSON: {error.msg}", path, error.lineno)) from error
    except UnicodeDecodeError as error:
        raise BadInput(Problem("not JSON: it is not text", path)) from error
    except RecursionError as error:
        raise BadInput(Problem("is nested too deeply: no benchmark tool writes that", path)) from error
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(Problem(f"not gzip: {error}", path)) from error
    if not isinstance(document, dict):
        raise BadInput(Problem(f"holds {_named(document)} where a benchmark tool writes an object", path))
    return document


def _unpacked(data: bytes, path: Path) -> bytes:
    """Bounded: a few bytes can stand for gigabytes."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise BadInput(Problem(f"holds more than {MOST_BYTES // 2**20} MiB when it is unpacked", path))
    return text


def validated(model: type[Read], document: Mapping[str, object], path: Path) -> Read:
    """The document as a tool's model. Raises BadInput with the first thing that is wrong, by its key."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        kind, given = detail["type"], detail.get("input")
        if kind == "missing":
            message = "is missing"
        elif kind in ("greater_than", "finite_number"):
            message = f"{given} is not a measurement: a number above zero is needed"
        elif kind == "too_short":
            message = "is empty"
        elif kind in _EXPECTED:
            message = f"{_EXPECTED[kind]} is needed, not {_named(given)}"
        else:
            message = detail["msg"]
        raise BadInput(Problem(message, path, key=_key(detail["loc"]))) from error


def moment(text: str | None) -> datetime | None:
    """An ISO date as the tools write it; None where it is not one. What has no zone is taken as it stands."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def told(**facts: object) -> dict[str, str]:
    """Facts as text, without those that are missing or empty."""
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _key(location: tuple[int | str, ...]) -> str:
    key = ""
    for part in location:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key


def _named(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"the text '{value[:40]}'"
    return {bool: "true or false", dict: "an object", list: "a list"}.get(type(value), f"the number {value}")
