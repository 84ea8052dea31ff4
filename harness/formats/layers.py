"""Which layers of a model answer otherwise after its passes: each layer is given what it was given before, and its output compared.

What the layers before it have lost is so not held against it. Nothing is kept of the outputs but sums of squares.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.core.artifact import Dataset, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.inspection import LayerDifference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COMPARABLE = {
    ("torch_module", "torch_module"),
    ("torch_module", "exported_program"),
    ("onnx", "onnx"),
}
SAMPLES, AT_ONCE, LONGEST_S = 16, 4, 3.0
"""So many samples are looked at, few at once, and fewer where they have taken so many seconds: the outputs of every layer of a batch lie in
memory together."""
ROOM = 3
"""Both models are opened only where this many times their size is free: their weights, a copy of these, and what one batch needs."""


@dataclass(slots=True)
class Sums:
    """Squares by layer, channel by channel over all batches: (its kind, of the outputs before, of the differences)."""

    found: dict[str, tuple[str, NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)

    def add(self, name: str, kind: str, before: NDArray[np.generic], after: NDArray[np.generic]) -> None:
        """One more output of a layer, before and after; arrays of other shapes, or of whole numbers, tell nothing and are left out.

        Channels are the second axis of what has four or more (images), else the last.
        """
        import numpy as np

        if before.shape != after.shape or before.ndim < 2 or not np.issubdtype(before.dtype, np.inexact):
            return
        channels = 1 if before.ndim > 3 else before.ndim - 1
        others = tuple(axis for axis in range(before.ndim) if axis != channels)
        wide = before.astype(np.float64)
        squares = np.square(wide).sum(axis=others), np.square(after.astype(np.float64) - wide).sum(axis=others)
        _, square, lost = self.found.get(name, (kind, 0.0, 0.0))
        self.found[name] = (kind, square + squares[0], lost + squares[1])

    def differences(self) -> list[LayerDifference]:
        """The worst first. A layer that gave nothing but zeros, or no finite number before, has no ratio and is left out."""
        import numpy as np

        told = []
        for name, (kind, square, lost) in self.found.items():
            alive = square > 0
            if alive.any() and np.isfinite(square).all():
                ratios = np.minimum(lost[alive] / square[alive], 1.0)  # a channel cannot be more than lost
                told.append(LayerDifference(name, kind, float(np.sqrt(ratios.mean())) if np.isfinite(lost).all() else None))
        return sorted(told, key=lambda one: -math.inf if one.relative is None else -one.relative)


def layer_differences(before: ModelArtifact, after: ModelArtifact, data: Dataset, batch_size: int) -> list[LayerDifference]:
    """The layers that both have, by the names that they had before; those whose outputs differ most first.

    Raises CannotMeasure where the formats keep no layers that could be compared, where no layer is left of what was, or where there is no
    room for both models.
    """
    import psutil

    if (before.format, after.format) not in COMPARABLE:
        hint = "those of torch modules, exported programs and ONNX graphs are, each with what it was made from"
        raise CannotMeasure(f"layers of '{before.format}' and '{after.format}' are not compared", hint=hint)
    if psutil.virtual_memory().available < ROOM * (before.size_bytes + after.size_bytes):
        raise CannotMeasure("too little memory is free to open the model before and after its passes at once")
    if after.format == "onnx":
        from harness.formats import onnx_layers

        sums = onnx_layers.compared(before, after, _few(data, before, batch_size))
    else:
        from harness.formats import torch_layers

        sums = torch_layers.compared(before, after, _few(data, before, batch_size))
    if not (told := sums.differences()):
        raise CannotMeasure("no layer is left with the name and the shape of output that it had before")
    return told


def _few(data: Dataset, artifact: ModelArtifact, batch_size: int) -> Iterator[dict[str, NDArray[np.generic]]]:
    """Batches of the first samples, as small as the model takes them."""
    fixed = artifact.inputs[0].shape[0] if artifact.inputs else None
    size = fixed or min(batch_size, AT_ONCE)
    begin = time.monotonic()
    for start in range(0, SAMPLES, size):
        if start and time.monotonic() - begin > LONGEST_S:
            return
        yield data.batch(start, size)
