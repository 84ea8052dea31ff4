"""The format ``onnx``: one ``.onnx`` file, with its external data beside it where it has any."""

from __future__ import annotations

import math
import mmap
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, ModelArtifact, TensorSpec
from harness.formats.files import digest_of, size_of

if TYPE_CHECKING:
    import onnx

MAIN = "model.onnx"
STACK_TRACE = "pkg.torch.onnx.stack_trace"
COMPUTE = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Attention", "Einsum"})
INTEGER = frozenset(
    {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM"}
)
QUANTIZE = frozenset({"QuantizeLinear", "DequantizeLinear"})
FLOATS = {1: "float32", 10: "float16", 16: "bfloat16"}
"""Element types (TensorProto.DataType) of floating-point weights."""
ONE_FILE_BYTES = 2**31 - 2**20
"""Protocol Buffers end at 2 GiB: a model that comes near it keeps its weights in a file beside it."""
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])", re.DOTALL)


def describe(folder: Path, steps: tuple[AppliedStep, ...], main: str = MAIN) -> ModelArtifact:
    """The artifact of an ONNX file: specs from its graph (a symbolic axis is None), size with external data."""
    import onnx

    model = onnx.load(folder / main, load_external_data=False)
    initializers = {tensor.name for tensor in model.graph.initializer}
    files = [folder / main, *external_files(model, folder)]
    return ModelArtifact(
        folder=folder,
        format="onnx",
        main=main,
        inputs=tuple(_spec(value) for value in model.graph.input if value.name not in initializers),
        outputs=tuple(_spec(value) for value in model.graph.output),
        size_bytes=size_of(files),
        sha256=digest_of(files),
        steps=steps,
    )


def save(model: onnx.ModelProto, folder: Path, steps: tuple[AppliedStep, ...]) -> ModelArtifact:
    """Write a model that is whole in memory into a folder, in one file where it is under 2 GB, and describe it."""
    import onnx

    large = model.ByteSize() >= ONE_FILE_BYTES
    onnx.save(model, folder / MAIN, save_as_external_data=large, location=f"{MAIN}.data")
    return describe(folder, steps)


def external_files(model: onnx.ModelProto, folder: Path) -> list[Path]:
    """The data files that a model's tensors name, sorted."""
    locations = {
        entry.value
        for graph in graphs(model)
        for tensor in graph.initializer
        if tensor.data_location == tensor.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [folder / location for location in sorted(locations)]


def external_names(path: Path) -> tuple[str, ...]:
    """What ``external_files`` finds, without the onnx package: the strings that follow the key ``location`` in the file's bytes.

    Protocol Buffers write a short string as its field's tag, its length in one byte, and its text.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return ()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = [content[match.end() : match.end() + match[1][0]] for match in _LOCATION.finditer(content)]
    return tuple(sorted({name.decode(errors="replace") for name in found}))


def forget_places(model: onnx.ModelProto) -> None:
    """Take out what the exporter notes of the model's source: paths and lines would make equal graphs differ in size and digest."""
    for node in nodes(model):
        kept = [entry for entry in node.metadata_props if entry.key != STACK_TRACE]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph, then the bodies of its loops and branches."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            waiting.extend(_subgraphs(node))


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of functions and subgraphs included."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while waiting:
        for node in waiting.pop().node:
            yield node
            waiting.extend(_subgraphs(node))


def operators(model: onnx.ModelProto) -> Counter[str]:
    """How many nodes of each type, functions and subgraphs included."""
    return Counter(node.op_type for node in nodes(model))


def weight_sizes(model: onnx.ModelProto) -> dict[str, int]:
    """How many floating-point weights of each type there are, the most first."""
    sizes: Counter[str] = Counter()
    for graph in graphs(model):
        for tensor in graph.initializer:
            if tensor.data_type in FLOATS:
                sizes[FLOATS[tensor.data_type]] += math.prod(tensor.dims)
    return dict(sizes.most_common())


def quantized_share(model: onnx.ModelProto) -> tuple[int, int, list[str]]:
    """(nodes that compute in int8, all compute nodes, names of those left in float).

    A float operator counts as int8 when its weight input comes through DequantizeLinear: that is the QDQ form, which a runtime fuses.
    """
    dequantized = {output for node in model.graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    weights = {tensor.name for tensor in model.graph.initializer}
    done, total, left = 0, 0, []
    for node in model.graph.node:
        if node.op_type in INTEGER:
            done, total = done + 1, total + 1
        elif node.op_type in COMPUTE and len(node.input) > 1:
            has_weight = node.input[1] in weights or node.input[1] in dequantized
            if not has_weight:
                continue  # a product of two activations, as in attention: not what a quantizer is asked for
            total += 1
            if node.input[0] in dequantized and node.input[1] in dequantized:
                done += 1
            else:
                left.append(node.name or node.op_type)
    return done, total, left


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The bodies that a node holds: one an attribute, or several."""
    return [graph for attribute in node.attribute for graph in ([attribute.g] if attribute.HasField("g") else attribute.graphs)]


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim)
    return TensorSpec(value.name, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape)
