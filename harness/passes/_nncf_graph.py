"""A model of either format as quantize_nncf works with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.plugin import BuildContext

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import openvino
    from numpy.typing import NDArray

Batch: TypeAlias = Mapping[str, "NDArray[np.generic]"]
Answer: TypeAlias = Callable[[Batch], "NDArray[np.generic]"]
"""A model as a function from a batch to its principal output."""
Model: TypeAlias = "openvino.Model | onnx.ModelProto"
ONCE = "a recipe quantizes once: keep one of its quantizing passes"


class Graph(Protocol):
    """``model`` is the one in float, read and not changed; ``quantized`` is what NNCF made of it."""

    model: Model

    def names(self) -> list[str]:
        """Its operators by name, in order."""

    def kinds(self) -> list[str]:
        """The types of its operators, each once."""

    def unfit(self) -> tuple[str, str] | None:
        """Why it cannot be quantized, and what to do about it."""

    def feed(self, batch: Batch) -> object:
        """A batch as NNCF hands it to the model."""

    def answer_of(self, prepared: Model | openvino.CompiledModel) -> Answer:
        """A model, or what NNCF hands to a validation function, as a function."""

    def share(self, quantized: Model) -> tuple[int, int, list[str]]:
        """Operators that compute in int8, all that have weights, and the names of those left in float."""

    def told(self, quantized: Model) -> tuple[str, ...]:
        """What was inserted, and the bytes before and after, for people."""

    def save(self, quantized: Model, context: BuildContext, steps: tuple[AppliedStep, ...]) -> ModelArtifact:
        """Write it into the context's folder."""
