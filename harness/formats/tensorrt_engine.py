"""The format ``tensorrt``: a serialized engine, ``model.engine``, and ``engine.json``, what it was built with and for.

An engine holds for one version of TensorRT and one model of GPU: both are kept and compared before it is opened. Written by the
documentation of TensorRT 10 and 11; unverified until a run on a GPU is recorded in docs/measurements.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.core.artifact import AppliedStep, ModelArtifact, TensorSpec
from harness.core.errors import CannotMeasure, MissingPackage
from harness.formats.files import digest_of, size_of

MAIN = "model.engine"
PLATE = "engine.json"
TIMING = "timing.cache"


@dataclass(frozen=True, slots=True)
class Plate:
    """What an engine was built with and for, as it stands beside it. ``batches`` are the least, the best and the most (0: fixed)."""

    tensorrt: str
    gpu: str
    compute_capability: str
    precision: str
    batches: tuple[int, int, int]

    def differs(self, tensorrt: str, gpu: Gpu) -> str | None:
        """Why the engine does not hold here; None where it does."""
        if self.tensorrt != tensorrt:
            return f"it was built with TensorRT {self.tensorrt}, and {tensorrt} is installed"
        if (self.gpu, self.compute_capability) != (gpu.name, gpu.compute_capability):
            built = f"{self.gpu} (compute capability {self.compute_capability})"
            return f"it was built for {built}, and this is {gpu.name} ({gpu.compute_capability})"
        return None


@dataclass(frozen=True, slots=True)
class Gpu:
    """A CUDA device as its driver tells it."""

    name: str
    compute_capability: str


def library(plugin: str) -> ModuleType:
    """The tensorrt package. Raises MissingPackage with the install line, or CannotMeasure where its libraries do not load."""
    with _loading("tensorrt", plugin, "its libraries are packages of their own, which 'pip install tensorrt' fetches from NVIDIA's index"):
        import tensorrt  # type: ignore[import-not-found,unused-ignore]

    return tensorrt  # type: ignore[no-any-return,unused-ignore]


def cuda(plugin: str) -> ModuleType:
    """CUDA's runtime as Python has it (cuda-bindings, which torch for CUDA brings along)."""
    with _loading("cuda", plugin, "it needs NVIDIA's driver and CUDA runtime"):
        from cuda.bindings import runtime  # type: ignore[import-not-found,unused-ignore]

    return runtime  # type: ignore[no-any-return,unused-ignore]


@contextlib.contextmanager
def _loading(package: str, plugin: str, hint: str) -> Iterator[None]:
    from harness import plugins

    if package not in sys.modules:
        plugins.require(package, plugin=plugin, extra="tensorrt")
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or package, extra="tensorrt", needed_by=f"'{plugin}'") from error
    except (ImportError, OSError) as error:
        raise CannotMeasure(f"the package '{package}' is installed and does not load: {error}", hint=hint) from error


def done(result: tuple[Any, ...]) -> Any:
    """What a call of CUDA's gave, without its status. Raises CannotMeasure with the name of the error."""
    status, *values = result
    if int(status) != 0:
        raise CannotMeasure(f"CUDA answers {getattr(status, 'name', status)}")
    return values[0] if len(values) == 1 else tuple(values)


def gpu_at(runtime: ModuleType, index: int) -> Gpu:
    """A device by its number. Raises CannotMeasure when there is none."""
    status, count = runtime.cudaGetDeviceCount()
    if int(status) != 0 or index >= count:
        seen = f"only {count} of them" if int(status) == 0 and count else "no CUDA device"
        raise CannotMeasure(f"'cuda:{index}' was asked for and CUDA sees {seen}")
    properties = done(runtime.cudaGetDeviceProperties(index))
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    return Gpu(name.rstrip("\0"), f"{properties.major}.{properties.minor}")


def numpy_name(dtype: object) -> str:
    """numpy's name of a TensorRT type. Raises CannotMeasure for one that numpy does not hold (bfloat16, 8-bit and 4-bit floats)."""
    known = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "BOOL": "bool", "UINT8": "uint8"}
    name = getattr(dtype, "name", str(dtype)).rpartition(".")[2]
    if name not in known:
        raise CannotMeasure(
            f"an input or output of type {name} cannot be handed over", hint="keep inputs and outputs in float32 or float16"
        )
    return known[name]


def specs_of(engine: Any, inputs: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of an engine; ``inputs`` is ``tensorrt.TensorIOMode.INPUT``. An axis of any length is None."""
    found: tuple[list[TensorSpec], list[TensorSpec]] = ([], [])
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(None if length < 0 else int(length) for length in engine.get_tensor_shape(name))
        spec = TensorSpec(name, numpy_name(engine.get_tensor_dtype(name)), shape)
        found[0 if engine.get_tensor_mode(name) == inputs else 1].append(spec)
    return tuple(found[0]), tuple(found[1])


def write(folder: Path, engine: bytes, plate: Plate) -> None:
    """Write a serialized engine with its plate."""
    (folder / MAIN).write_bytes(engine)
    (folder / PLATE).write_text(json.dumps(dataclasses.asdict(plate), indent=1, sort_keys=True))


def describe(
    folder: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], steps: tuple[AppliedStep, ...]
) -> ModelArtifact:
    """The artifact of a written engine: its size is the engine's alone."""
    files = [folder / MAIN]
    return ModelArtifact(folder, "tensorrt", MAIN, inputs, outputs, size_of(files), digest_of(files), steps)


def plate_of(artifact: ModelArtifact) -> Plate:
    """What stands beside an engine. Raises CannotMeasure where nothing does: such an engine could be anyone's."""
    try:
        document = json.loads((artifact.folder / PLATE).read_text())
        return Plate(**{**document, "batches": tuple(document["batches"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotMeasure(f"{PLATE} beside the engine cannot be read: {error}", hint="build it again with 'build_tensorrt'") from error
