"""An OpenVINO model as quantize_nncf works with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.plugin import BuildContext
from harness.formats import openvino_model
from harness.passes import _openvino_check
from harness.passes._nncf_graph import ONCE, Answer, Batch

if TYPE_CHECKING:
    import numpy as np
    import openvino
    from numpy.typing import NDArray


class OpenvinoGraph:
    """See ``_nncf_graph.Graph``; NNCF hands compiled models to a validation function."""

    def __init__(self, artifact: ModelArtifact) -> None:
        self.model: openvino.Model = openvino_model.read(artifact.path)
        self.own_names = {node.get_friendly_name() for node in self.model.get_ops()}
        self.bytes = openvino_model.weight_bytes(self.model)

    def names(self) -> list[str]:
        kinds = openvino_model.operators(self.model)
        return [node.get_friendly_name() for node in self.model.get_ordered_ops() if node.get_type_name() in kinds]

    def kinds(self) -> list[str]:
        return sorted(openvino_model.operators(self.model))

    def unfit(self) -> tuple[str, str] | None:
        if count := openvino_model.operators(self.model)["FakeQuantize"]:
            return f"this model is already quantized: it has {count} FakeQuantize operators", ONCE
        return None

    def feed(self, batch: Batch) -> object:
        return _openvino_check.feed_of(batch)

    def answer_of(self, prepared: openvino.Model | openvino.CompiledModel) -> Answer:
        is_compiled = isinstance(prepared, openvino_model.framework().CompiledModel)
        runnable = prepared if is_compiled else _openvino_check.compiled(prepared)

        def answer(batch: Batch) -> NDArray[np.generic]:
            first: NDArray[np.generic] = runnable(self.feed(batch))[0]
            return first

        return answer

    def share(self, quantized: openvino.Model) -> tuple[int, int, list[str]]:
        return openvino_model.quantized_share(quantized)

    def told(self, quantized: openvino.Model) -> tuple[str, ...]:
        after = openvino_model.weight_bytes(quantized)
        inserted = openvino_model.operators(quantized)["FakeQuantize"]
        whole, small, narrow = sum(self.bytes.values()), sum(after.values()), after["i8"] + after["u8"]
        return (f"{inserted} FakeQuantize; constants {whole:,} to {small:,} bytes, {narrow:,} of them int8",)

    def save(self, quantized: openvino.Model, context: BuildContext, steps: tuple[AppliedStep, ...]) -> ModelArtifact:
        return openvino_model.save(quantized, context.folder, steps, names=self.own_names)
