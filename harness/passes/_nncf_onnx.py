"""An ONNX graph as quantize_nncf works with it: what comes out has Q/DQ pairs and int8 initializers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.plugin import BuildContext
from harness.formats import onnx_model
from harness.passes import _onnx_graph
from harness.passes._nncf_graph import ONCE, Answer, Batch

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

OLDEST = 10
"""The first opset with QuantizeLinear."""
BY_CHANNEL = 13
"""The first whose DequantizeLinear takes a scale for each channel."""
_MOVES = frozenset({"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split", "Gather", "MaxPool", "Expand"})
"""What passes quantized values on as they are."""


class OnnxGraph:
    """See ``_nncf_graph.Graph``; NNCF hands models to a validation function, and runs them in ONNX Runtime's CPU provider."""

    def __init__(self, artifact: ModelArtifact) -> None:
        import onnx

        self.model: onnx.ModelProto = onnx.load(artifact.path)
        self.input_names = [spec.name for spec in artifact.inputs]
        self.bytes = _bytes(self.model)
        self.opset = next((entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), 0)

    def names(self) -> list[str]:
        return [node.name for node in self.model.graph.node if node.name]

    def kinds(self) -> list[str]:
        return sorted({node.op_type for node in self.model.graph.node})

    def unfit(self) -> tuple[str, str] | None:
        counts = onnx_model.operators(self.model)
        if there := [f"{counts[kind]} {kind}" for kind in sorted({*onnx_model.QUANTIZE, *onnx_model.INTEGER}) if counts[kind]]:
            return f"this graph is already quantized: it has {', '.join(there)}", ONCE
        if self.opset < OLDEST:
            return (
                f"this graph is of opset {self.opset}, and QuantizeLinear came with opset {OLDEST}",
                f"export it with opset {BY_CHANNEL} or later, or convert the file by onnx.version_converter",
            )
        if self.model.ByteSize() >= onnx_model.ONE_FILE_BYTES:
            return "NNCF takes no ONNX graph of 2 GB or more with data", "use export_openvino and quantize_nncf, or quantize_dynamic"
        return None

    def feed(self, batch: Batch) -> object:
        return {self.input_names[0]: next(iter(batch.values()))} if len(batch) == len(self.input_names) == 1 else dict(batch)

    def answer_of(self, prepared: onnx.ModelProto) -> Answer:
        import numpy as np
        import onnxruntime

        session = onnxruntime.InferenceSession(prepared.SerializeToString(), _onnx_graph.options(), providers=["CPUExecutionProvider"])

        def answer(batch: Batch) -> NDArray[np.generic]:
            return np.asarray(session.run(None, self.feed(batch))[0])

        return answer

    def share(self, quantized: onnx.ModelProto) -> tuple[int, int, list[str]]:
        """An operator counts as int8 when its weights are stored so, and what it is given was rounded, as it is or before it was moved."""
        makers = {output: node for node in quantized.graph.node for output in node.output}
        stored = {tensor.name for tensor in quantized.graph.initializer}

        def root(name: str) -> str:
            while (maker := makers.get(name)) is not None and maker.op_type in _MOVES:
                name = maker.input[0]
            return name

        def is_dequantized(name: str) -> bool:
            return (maker := makers.get(name)) is not None and maker.op_type == "DequantizeLinear"

        done, left = 0, []
        for node in quantized.graph.node:
            if node.op_type not in onnx_model.COMPUTE or len(node.input) < 2:
                continue
            given, weight = root(node.input[0]), root(node.input[1])
            narrow = is_dequantized(weight) and makers[weight].input[0] in stored
            if narrow and is_dequantized(given):
                done += 1
            elif narrow or weight in stored:  # else a product of two activations, as in attention
                left.append(node.name or node.op_type)
        return done, done + len(left), left

    def told(self, quantized: onnx.ModelProto) -> tuple[str, ...]:
        counts, after = onnx_model.operators(quantized), _bytes(quantized)
        pairs = f"{counts['QuantizeLinear']} QuantizeLinear and {counts['DequantizeLinear']} DequantizeLinear"
        whole, small, narrow = sum(self.bytes.values()), sum(after.values()), after["INT8"] + after["UINT8"]
        sizes = f"{pairs}; initializers {whole:,} to {small:,} bytes, {narrow:,} of them int8"
        if self.opset >= BY_CHANNEL:
            return (sizes,)
        return sizes, f"opset {self.opset}: one scale for each weight, where opset {BY_CHANNEL} has one for each channel"

    def save(self, quantized: onnx.ModelProto, context: BuildContext, steps: tuple[AppliedStep, ...]) -> ModelArtifact:
        return onnx_model.save(quantized, context.folder, steps)


def _bytes(model: onnx.ModelProto) -> Counter[str]:
    """Bytes of the initializers by element type."""
    import math

    import onnx

    sizes: Counter[str] = Counter()
    for graph in onnx_model.graphs(model):
        for tensor in graph.initializer:
            kind = onnx.TensorProto.DataType.Name(tensor.data_type)
            width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            sizes[kind] += math.prod(tensor.dims) * width
    return sizes
