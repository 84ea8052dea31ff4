"""Data sets and predictions on disk: what a factory returns is checked once, saved, and read by every worker without running it again."""

from __future__ import annotations

import dataclasses
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.measurement import Repeat
from harness.core.plugin import Predictions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.scenario import DataSpec

_RANDOM = re.compile(r"\s*(?P<dtype>[a-z]+\d*)\s*\[(?P<shape>[\d,\s]*)\]\s*(?:below\s+(?P<below>\d+))?\s*")
RANDOM_PATTERN = re.sub(r"\?P<\w+>", "", _RANDOM.pattern)
"""The form of a random input, for the JSON Schema."""
RANDOM_FORM = "write 'float32[3, 224, 224]' or 'int64[128] below 30522': dtype and the shape of one sample"


def make_dataset(spec: DataSpec, role: str, seed: int, folder: Path, root: Path) -> Dataset:
    """Run the factory of ``role``, or draw random inputs, and check what comes.

    Raises BadInput when the factory returns something that is not ``(inputs, targets)`` with the sample axis first.
    """
    if role == "evaluation" and spec.random:
        return _draw(spec, seed)
    target = {"evaluation": spec.evaluation, "calibration": spec.calibration, "training": spec.training}[role]
    if target is None:
        raise CannotMeasure(
            f"data.{role} is needed and the scenario does not give it", hint=f"add 'data: {{{role}: models/file.py:function}}'"
        )
    from harness.formats.user_code import call_factory

    return _checked(call_factory(target, folder=folder, root=root, args=spec.args), f"data.{role} ({target})")


def random_array(text: str, count: int, generator: np.random.Generator) -> NDArray[np.generic]:
    """``count`` samples of a random input such as ``float32[3, 224, 224]`` (standard normal) or ``int64[128] below 30522`` (uniform).

    Raises ValueError with the form to write.
    """
    import numpy as np

    drawn = parse_random(text)
    shape = (count, *drawn.shape)
    if drawn.below is not None:
        return generator.integers(0, drawn.below, shape, dtype=drawn.dtype)
    return generator.standard_normal(shape, dtype=np.float32).astype(drawn.dtype)


@dataclass(frozen=True, slots=True)
class RandomInput:
    """A random input as written: numpy's name of its dtype, the shape of one sample, and the bound of integers."""

    dtype: str
    shape: tuple[int, ...]
    below: int | None


def parse_random(text: str) -> RandomInput:
    """Read the form of a random input and draw nothing. Raises ValueError with the form to write."""
    import numpy as np

    match = _RANDOM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a random input: {RANDOM_FORM}")
    try:
        dtype = np.dtype(match["dtype"])
    except TypeError as error:
        raise ValueError(f"{match['dtype']!r} is not a dtype: {RANDOM_FORM}") from error
    shape = tuple(int(length) for length in match["shape"].split(",") if length.strip())
    if 0 in shape:
        raise ValueError(f"{text!r}: every length of the shape is at least 1")
    if dtype.kind == "f":
        if match["below"] is not None:
            raise ValueError(f"{text!r}: floating point numbers are drawn from a normal distribution, without 'below'")
        return RandomInput(dtype.name, shape, None)
    if dtype.kind not in "iu":
        raise ValueError(f"{text!r}: only integers and floating point numbers can be drawn")
    if match["below"] is None:
        raise ValueError(f"{text!r}: integers need a bound, such as 'int64[128] below 30522'")
    below, most = int(match["below"]), int(np.iinfo(dtype).max) + 1
    if not 1 <= below <= most:
        raise ValueError(f"{text!r}: 'below' is at least 1 and at most {most} for {dtype.name}")
    return RandomInput(dtype.name, shape, below)


def write_dataset(path: Path, data: Dataset) -> None:
    """Save as ``.npz``: ``input.<name>`` for each input, and ``targets`` where there are labels."""
    import numpy as np

    arrays = {f"input.{name}": values for name, values in data.inputs.items()}
    if data.targets is not None:
        arrays["targets"] = data.targets
    np.savez(path, allow_pickle=False, **arrays)


def read_dataset(path: Path) -> Dataset:
    """Read what ``write_dataset`` wrote."""
    arrays = _read(path)
    inputs = {name.removeprefix("input."): values for name, values in arrays.items() if name.startswith("input.")}
    return Dataset(inputs, arrays.get("targets"))


def write_predictions(
    path: Path, outputs: list[NDArray[np.generic]], targets: NDArray[np.generic] | None, repeat: Repeat | None = None
) -> None:
    """Save outputs over an evaluation set as ``.npz``, the principal output first, and beside them what came of asking twice."""
    import numpy as np

    arrays = {f"output.{index}": values for index, values in enumerate(outputs)}
    if targets is not None:
        arrays["targets"] = targets
    if repeat is not None:
        arrays |= {f"repeat.{name}": np.asarray(value) for name, value in dataclasses.asdict(repeat).items()}
    np.savez(path, allow_pickle=False, **arrays)


def read_predictions(path: Path, task: str) -> Predictions:
    """Read what ``write_predictions`` wrote; files that do not say whether anything was asked twice are read too."""
    arrays = _read(path)
    count = sum(1 for name in arrays if name.startswith("output."))
    outputs = tuple(arrays[f"output.{index}"] for index in range(count))
    repeat = None
    if "repeat.samples" in arrays:
        samples, differing, other, greatest = (arrays[f"repeat.{item.name}"].item() for item in dataclasses.fields(Repeat))
        repeat = Repeat(samples, differing, other if task == "classification" else None, greatest)
    return Predictions(outputs, arrays.get("targets"), task, repeat)


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CannotMeasure(f"{path} cannot be read: {error}") from error


def _draw(spec: DataSpec, seed: int) -> Dataset:
    import numpy as np

    generator = np.random.default_rng(seed)
    try:
        return Dataset({name: random_array(text, spec.samples, generator) for name, text in spec.random.items()}, None)
    except ValueError as error:
        raise BadInput(Problem(str(error), key="data.random")) from error


def _checked(returned: object, where: str) -> Dataset:
    import numpy as np

    if not isinstance(returned, tuple) or len(returned) != 2:
        raise BadInput(
            Problem(f"{where} returned {type(returned).__name__}: return (inputs, targets), targets None where there are no labels")
        )
    inputs, targets = returned
    named = dict(inputs) if isinstance(inputs, Mapping) else {"x": inputs}
    arrays = {str(name): _as_array(values, f"{where}, input '{name}'") for name, values in named.items()}
    labels = None if targets is None else _as_array(targets, f"{where}, targets")
    lengths = {name: len(values) for name, values in {**arrays, **({} if labels is None else {"targets": labels})}.items()}
    if not arrays or min(lengths.values()) == 0:
        raise BadInput(Problem(f"{where} returned no samples"))
    if len(set(lengths.values())) != 1:
        raise BadInput(Problem(f"{where}: the sample axis comes first and is equally long everywhere; got {lengths}"))
    for name, values in arrays.items():
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise BadInput(Problem(f"{where}, input '{name}' holds NaN or infinity"))
    return Dataset(arrays, labels)


def _as_array(values: object, where: str) -> NDArray[np.generic]:
    import numpy as np

    needed = f"{where}: an array or tensor with the sample axis first is needed"
    try:
        array = np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)
    except (TypeError, ValueError) as error:  # a dtype that numpy has not (bfloat16), or rows of different lengths
        raise BadInput(Problem(f"{needed}: {error}")) from error
    if array.dtype == object or array.ndim == 0:
        raise BadInput(Problem(f"{needed}, got {type(values).__name__}"))
    return np.ascontiguousarray(array)
