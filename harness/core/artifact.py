"""A model as a file, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype (numpy's name) and shape of one input or output; None is an axis of any length (axis 0: the batch)."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class AppliedStep:
    """One step that made an artifact: the source first, then each pass, with its options as JSON and what it reports.

    ``notes`` are facts for people: "54 of 54 Linear and Conv nodes quantized", "12 nodes left in float".
    """

    plugin: str
    options: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelArtifact:
    """A model on disk: a folder that needs nothing outside itself but installed packages.

    ``format`` names how to open it: torch_module, torchscript, aot_inductor, onnx, openvino, fake and others (see ``harness/formats``).
    ``main`` is the model's file, relative to ``folder``. ``size_bytes`` counts what a deployment ships: the model's
    own files (weights and graph), not this program's notes. ``sha256`` is over those bytes.
    """

    folder: Path
    format: str
    main: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    size_bytes: int
    sha256: str
    steps: tuple[AppliedStep, ...]

    @property
    def path(self) -> Path:
        return self.folder / self.main


@dataclass(frozen=True, slots=True)
class Dataset:
    """Samples held in memory: each input with the sample axis first, and targets (or None where there are no labels)."""

    inputs: Mapping[str, NDArray[np.generic]]
    targets: NDArray[np.generic] | None

    @property
    def count(self) -> int:
        return len(next(iter(self.inputs.values())))

    def batch(self, start: int, size: int) -> dict[str, NDArray[np.generic]]:
        """``size`` samples from ``start`` on, going round at the end: every batch is full."""
        import numpy as np

        rows = np.arange(start, start + size) % self.count
        return {name: values[rows] for name, values in self.inputs.items()}
