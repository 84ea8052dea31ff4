"""The format ``endpoint``: no model but the place where one answers, as a small JSON file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.core.artifact import TensorSpec
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.serving import Endpoint
from harness.kserve.codec import DTYPES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "endpoint"
MAIN = "endpoint.json"
KEY = "model.endpoint"
_PATH = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?")
_FORM = "write 'endpoint: http://host:port/v2/models/NAME', or 'endpoint: {url: http://host:port, name: NAME}'"


def place(url: str, name: str, version: str) -> Endpoint:
    """The endpoint that a scenario names; the model may stand in the URL's path. Raises BadInput with the form to write."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _wrong(f"'{url}' is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _wrong(f"'{url}' does not say where a server answers")
    if parts.username or parts.query or parts.fragment:
        raise _wrong("a name, a query or a fragment has no place in an endpoint's URL")
    in_path = _PATH.fullmatch(parts.path.rstrip("/"))
    if in_path is None and parts.path not in ("", "/"):
        raise _wrong(f"the path '{parts.path}' is not one of the Open Inference Protocol")
    found = in_path.groupdict() if in_path else {}
    for given, told, key in ((name, found.get("name"), "name"), (version, found.get("version"), "version")):
        if given and told and given != told:
            raise _wrong(f"the URL says {key} '{told}', and '{key}' is '{given}'")
    model = name or found.get("name") or ""
    if not model:
        raise _wrong("the model's name is missing")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Endpoint(f"{parts.scheme}://{host}" + (f":{port}" if port else ""), model, version or found.get("version") or "")


def write(folder: Path, endpoint: Endpoint, told: Mapping[str, object]) -> Path:
    """Save the place with what its server told of the model. Of a header that is a secret the variable's name is saved, not its value."""
    file = folder / MAIN
    said = {"platform": told.get("platform"), "versions": told.get("versions")}
    where = {"url": endpoint.url, "model": endpoint.model, "version": endpoint.version}
    how = {"authorities": endpoint.authorities, "headers": endpoint.headers}
    file.write_text(json.dumps({**where, **how, "server": said}, indent=2))
    return file


def read(file: Path) -> Endpoint:
    """The place that ``write`` saved."""
    saved = json.loads(file.read_text())
    headers = tuple((str(name), str(value)) for name, value in saved["headers"])
    return Endpoint(saved["url"], saved["model"], saved["version"], saved["authorities"], headers)


def specs(told: Mapping[str, object], field: str) -> tuple[TensorSpec, ...]:
    """The tensors under ``inputs`` or ``outputs`` of a model's metadata; -1 is an axis of any length. Empty where a server lists none.

    Raises CannotMeasure for a datatype that numpy has not, or metadata of another form.
    """
    found = []
    try:
        for tensor in told.get(field) or ():  # type: ignore[attr-defined]  # whatever else it is, is caught below
            shape = tuple(None if length < 0 else int(length) for length in tensor["shape"])
            found.append(TensorSpec(str(tensor["name"]), DTYPES[tensor["datatype"]], shape))
    except KeyError as error:
        known = ", ".join(DTYPES)
        raise CannotMeasure(f"the server's metadata, {field}: {error} is missing or not one of {known}") from error
    except (TypeError, ValueError) as error:
        raise CannotMeasure(f"the server's metadata, {field}: not a list of tensors with name, datatype and shape") from error
    return tuple(found)


def fitted(batch: Mapping[str, NDArray[np.generic]], inputs: tuple[TensorSpec, ...]) -> dict[str, NDArray[np.generic]]:
    """A batch under the model's input names; a single input is matched by position, floating point goes in the width that is asked for.

    Raises BadInput where names, dtypes or shapes do not fit.
    """
    if len(batch) == 1 and len(inputs) == 1:
        batch = {inputs[0].name: next(iter(batch.values()))}
    if set(batch) != {spec.name for spec in inputs}:
        wanted = ", ".join(spec.name for spec in inputs)
        raise BadInput(Problem(f"the model's inputs are {wanted}; the data gives {', '.join(batch)}", key=KEY))
    arrays = {}
    for spec in inputs:
        values = batch[spec.name]
        floats = values.dtype.kind == "f" and spec.dtype.startswith("float")
        fits = len(spec.shape) == values.ndim and all(one in (None, other) for one, other in zip(spec.shape, values.shape, strict=True))
        if not fits or not (floats or spec.dtype in (str(values.dtype), "object")):
            wanted, given = _form(spec.dtype, spec.shape), _form(str(values.dtype), values.shape)
            raise BadInput(Problem(f"the model's input '{spec.name}' is {wanted}; the data gives {given}", key=KEY))
        arrays[spec.name] = values.astype(spec.dtype, copy=False) if floats else values
    return arrays


def _form(dtype: str, shape: tuple[int | None, ...]) -> str:
    return f"{dtype}[{', '.join('any' if length is None else str(length) for length in shape)}]"


def _wrong(message: str) -> BadInput:
    return BadInput(Problem(message, key=KEY, hint=_FORM))
