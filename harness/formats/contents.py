"""Which weights a model's file stores, by the layer that they belong to and the type that they are kept in."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.inspection import Contents, StoredWeights

if TYPE_CHECKING:
    import onnx
    import torch

MOST_NAMES = 3
OPENVINO_TYPES = {"f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "i8": "int8", "u8": "uint8"}


@dataclass(slots=True)
class _Tally:
    """Values by kind and type: (name, bytes, zeros, values) of each tensor."""

    found: dict[tuple[str, str], list[tuple[str, int, int, int]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, kind: str, dtype: str, stored_bytes: int, zeros: int, values: int) -> None:
        self.found[kind, dtype].append((name, stored_bytes, zeros, values))

    def weights(self) -> tuple[StoredWeights, ...]:
        told = []
        for (kind, dtype), tensors in self.found.items():
            largest = sorted(tensors, key=lambda tensor: -tensor[1])
            names = tuple(dict.fromkeys(name for name, *_ in largest))[:MOST_NAMES]
            zeros = sum(zeros for _, _, zeros, _ in tensors) / (sum(values for *_, values in tensors) or 1)
            told.append(StoredWeights(kind, dtype, sum(size for _, size, _, _ in tensors), zeros, names))
        return tuple(sorted(told, key=lambda one: (-one.stored_bytes, one.kind, one.dtype)))


def contents_of(artifact: ModelArtifact) -> Contents:
    """What an artifact's file stores. Raises CannotMeasure for a format that cannot be looked into."""
    readers = {"torch_module": _torch_module, "exported_program": _exported_program, "onnx": _onnx, "openvino": _openvino}
    if artifact.format not in readers:
        known = ", ".join(sorted(readers))
        raise CannotMeasure(f"what a file of the format '{artifact.format}' stores cannot be told", hint=f"that of {known} can")
    return readers[artifact.format](artifact)


def _torch_module(artifact: ModelArtifact) -> Contents:
    from harness.formats import torch_module

    module, tally = torch_module.load(artifact), _Tally()
    seen: set[int] = set()
    for name, part in module.named_modules():
        kept = {key: value for key, value in part._buffers.items() if key not in part._non_persistent_buffers_set}
        for value in (*part._parameters.values(), *kept.values()):
            if value is not None and id(value) not in seen:
                seen.add(id(value))
                _add_tensor(tally, name, type(part).__name__, value)
    for name, part in torch_module.quantized_layers(module).items():
        for weight in torch_module.packed_weights(part):
            _add_tensor(tally, name, type(part).__name__, weight.int_repr())
    return Contents(tally.weights())


def _exported_program(artifact: ModelArtifact) -> Contents:
    from harness.formats import exported_program

    program, tally = exported_program.read(artifact), _Tally()
    stored = {**program.state_dict, **program.constants}
    signature = program.graph_signature
    held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    for node in program.graph.nodes:
        if node.name in held and held[node.name] in stored:
            reader = node
            while reader.users and (reader is node or "dequantize" in str(reader.target)):
                reader = next(iter(reader.users))
            kind = str(reader.target).removeprefix("aten.").partition(".")[0]
            _add_tensor(tally, held[node.name], kind, stored[held[node.name]])
    return Contents(tally.weights())


def _add_tensor(tally: _Tally, name: str, kind: str, tensor: torch.Tensor) -> None:
    """One tensor, or the plain tensors that a quantized one of torchao's is made of."""
    from harness.formats.torchao_tensors import data_of

    parts = data_of(tensor).values() if hasattr(tensor, "__tensor_flatten__") else (tensor,)
    for part in parts:
        dtype = str(part.dtype).removeprefix("torch.")
        tally.add(name, kind, dtype, part.numel() * part.element_size(), int((part == 0).sum()), part.numel())


def _onnx(artifact: ModelArtifact) -> Contents:
    import onnx

    from harness.formats import onnx_model

    model, tally = onnx.load(artifact.path), _Tally()
    readers: dict[str, onnx.NodeProto] = {}
    for node in onnx_model.nodes(model):
        for name in node.input:
            readers.setdefault(name, node)
    late = []
    for name, tensor in _tensors(model):
        reader = readers.get(name)
        first = reader
        while reader is not None and reader.op_type in onnx_model.QUANTIZE | {"Cast", "Transpose"}:
            reader = readers.get(reader.output[0])
        kind = "no operator" if reader is None else reader.op_type
        array = onnx.numpy_helper.to_array(tensor)
        dtype, bits = _type_of(tensor)
        tally.add(name, kind, dtype, math.ceil(array.size * bits / 8), int((array == 0).sum()), array.size)
        if first is not None and first.op_type == "QuantizeLinear" and first.input[0] == name and array.ndim > 1:
            late.append(name)
    bare = onnx.load(artifact.path, load_external_data=False)
    beside = sum(path.stat().st_size for path in onnx_model.external_files(bare, artifact.folder) if path.is_file())
    return Contents(tally.weights(), max(0, beside - _named_bytes(bare)), tuple(late))


def _tensors(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Initializers and constants of every graph, by the name that operators know them by."""
    from harness.formats import onnx_model

    for graph in onnx_model.graphs(model):
        yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in onnx_model.nodes(model):
        if node.op_type == "Constant":
            yield from ((node.output[0], attribute.t) for attribute in node.attribute if attribute.HasField("t"))


def _type_of(tensor: onnx.TensorProto) -> tuple[str, int]:
    """A tensor's type in lower case (``float32``, ``int4``), and the bits of one value."""
    import onnx

    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    if name in ("INT4", "UINT4"):
        return name.lower(), 4
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return ("bfloat16" if name == "BFLOAT16" else str(dtype)), 8 * dtype.itemsize


def _named_bytes(model: onnx.ModelProto) -> int:
    """How much of the data files beside a model its tensors name; the rest is there for nothing."""
    from harness.formats import onnx_model

    spans: dict[tuple[str, int], int] = {}
    for graph in onnx_model.graphs(model):
        for tensor in graph.initializer:
            if tensor.data_location == tensor.EXTERNAL:
                place = {entry.key: entry.value for entry in tensor.external_data}
                size = int(place.get("length") or math.ceil(math.prod(tensor.dims) * _type_of(tensor)[1] / 8))
                spans[place["location"], int(place.get("offset") or 0)] = size
    return sum(spans.values())


def _openvino(artifact: ModelArtifact) -> Contents:
    from harness.formats import openvino_model

    tally = _Tally()
    openvino_model.framework()
    for node in openvino_model.read(artifact.path).get_ops():
        if node.get_type_name() != "Constant":
            continue
        short = node.get_output_element_type(0).get_type_name()
        reader = node
        while reader is node or reader.get_type_name() in ("Convert", "Subtract", "Multiply", "Reshape", "FakeQuantize", "Transpose"):
            readers = reader.output(0).get_target_inputs()
            if not readers:
                break
            reader = next(iter(readers)).get_node()
        values = math.prod(node.get_output_shape(0))
        zeros = int((node.data == 0).sum()) if short in OPENVINO_TYPES and short != "bf16" else 0
        tally.add(node.get_friendly_name(), reader.get_type_name(), OPENVINO_TYPES.get(short, short), node.get_byte_size(), zeros, values)
    return Contents(tally.weights())
