"""Layers of an ONNX graph before and after its passes: every layer of the later graph is fed with what the earlier graph computed.

The later graph is cut in front of each layer, and what was an intermediate tensor becomes an input. Tensors keep their names through
quantization and through the library's own fusions, so they say which layer is which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.formats import onnx_model
from harness.formats.layers import Sums

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import onnxruntime
    from numpy.typing import NDArray

MOVED = "_as_made"
"""What a tensor that is fed is called where the later graph makes it itself."""
ROUNDS = onnx_model.QUANTIZE | {"DynamicQuantizeLinear", "Cast"}
AFTER_PRODUCT = ROUNDS | {"Mul", "Add", "Relu", "Clip"}
"""What may stand between the product of a quantized layer and the layer's own output."""
QUANTIZED_SUFFIX = "_quant"
FARTHEST = 8


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the later graph: its name and operator in the earlier one, and the tensors, known to both, that it takes and gives."""

    name: str
    kind: str
    taken: str
    given: str


def compared(before: ModelArtifact, after: ModelArtifact, batches: Iterable[Mapping[str, NDArray[np.generic]]]) -> Sums:
    """Sums of squares for each layer. Raises CannotMeasure when ONNX Runtime opens one of the graphs not, or both share no layer."""
    import onnx

    earlier, later = (onnx.load(one.path, load_external_data=False) for one in (before, after))
    layers = shared_layers(earlier, later)
    if not layers:
        raise CannotMeasure("the graphs before and after the passes share no layer by the names of its tensors")
    types = _types(later)
    fed = list(dict.fromkeys(layer.taken for layer in layers))
    given = list(dict.fromkeys(layer.given for layer in layers))
    _watch(earlier, [*fed, *given])
    made = _cut(later, fed, given, types)
    sums = Sums()
    reference, recipe = _opened(earlier, before.folder), _opened(later, after.folder)
    inputs = {value.name for value in reference.get_inputs()}
    wanted = [name for name in dict.fromkeys([*fed, *given]) if name not in inputs]
    for batch in batches:
        feed = _feed(reference, batch)
        exact = dict(zip(wanted, reference.run(wanted, feed), strict=True)) | feed
        answers = dict(zip(given, recipe.run([made[name] for name in given], _feed_of(recipe, exact)), strict=True))
        for layer in layers:
            sums.add(layer.name, layer.kind, exact[layer.given], answers[layer.given])
    return sums


def shared_layers(earlier: onnx.ModelProto, later: onnx.ModelProto) -> list[Layer]:
    """Every operator with weights of the later graph whose input and output are tensors of the earlier one too."""
    known = {value.name for value in earlier.graph.input} | {name for node in earlier.graph.node for name in node.output}
    kinds = {node.name: node.op_type for node in earlier.graph.node}
    makers = {name: node for node in earlier.graph.node for name in node.output}
    sources = {name: node for node in later.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in later.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    weights = {tensor.name for tensor in later.graph.initializer}
    found = []
    for node in later.graph.node:
        if node.op_type not in onnx_model.COMPUTE | onnx_model.INTEGER or len(node.input) < 2:
            continue
        taken, given = _upwards(node.input[0], known, sources), _downwards(node, known, readers)
        of_weights = _upwards(node.input[1], weights, sources) is not None
        if taken is None or given is None or not of_weights:
            continue
        name = node.name.removesuffix(QUANTIZED_SUFFIX)
        name = name if name in kinds else makers[given].name if given in makers else node.name
        found.append(Layer(name, kinds.get(name, node.op_type), taken, given))
    return found


def _upwards(name: str, wanted: set[str], sources: Mapping[str, onnx.NodeProto]) -> str | None:
    """The first tensor that is wanted, from a node's input up through what only rounds or turns it."""
    for _ in range(FARTHEST):
        if name in wanted:
            return name
        source = sources.get(name)
        if source is None or source.op_type not in ROUNDS | {"Transpose"}:
            return None
        name = source.input[0]
    return None


def _downwards(node: onnx.NodeProto, known: set[str], readers: Mapping[str, list[onnx.NodeProto]]) -> str | None:
    """The first tensor that the earlier graph has too, from a node's output down to where its product is scaled and its bias added."""
    for _ in range(FARTHEST):
        name = str(node.output[0])
        if name in known:
            return name
        following = readers.get(name, [])
        if len(following) != 1 or following[0].op_type not in AFTER_PRODUCT:
            return None
        node = following[0]
    return None


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of each tensor as far as it can be inferred."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def _watch(model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Let a graph give these tensors too."""
    import onnx

    already = {value.name for value in (*model.graph.output, *model.graph.input)}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names) if name not in already)


def _cut(model: onnx.ModelProto, fed: Iterable[str], given: Iterable[str], types: Mapping[str, int]) -> dict[str, str]:
    """Make inputs of the tensors to feed and outputs of those to give; what each of these is called now."""
    import onnx

    inputs = {value.name for value in model.graph.input}
    moved = {name: f"{name}{MOVED}" for name in fed if name not in inputs}
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            node.output[index] = moved.get(name, name)
    kept = [value for value in model.graph.value_info if value.name not in moved]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    for name in moved:
        kind = types.get(name) or onnx.TensorProto.FLOAT
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
    made = {name: _rounded(model, name, moved.get(name, name)) for name in given}
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(made.values()))
    return made


def _rounded(model: onnx.ModelProto, name: str, made: str) -> str:
    """The tensor that holds what a layer gives: behind its rounding to int8 where there is one, which also does what a Relu did before.

    The layer then runs on the integer kernel that it runs on in the model.
    """
    rounds = _reader(model, "QuantizeLinear", name)
    back = None if rounds is None else _reader(model, "DequantizeLinear", rounds.output[0])
    if rounds is None or back is None:
        return made
    if made == name:
        return str(back.output[0])
    copies = []
    for node, taken, given in ((rounds, made, f"{made}_rounded"), (back, f"{made}_rounded", f"{made}_restored")):
        copies.append(type(node)())
        copies[-1].CopyFrom(node)
        copies[-1].name = f"{node.name}{MOVED}"
        copies[-1].input[0], copies[-1].output[0] = taken, given
    model.graph.node.extend(copies)
    return f"{made}_restored"


def _reader(model: onnx.ModelProto, operator: str, name: str) -> onnx.NodeProto | None:
    return next((node for node in model.graph.node if node.op_type == operator and node.input[0] == name), None)


def _opened(model: onnx.ModelProto, folder: Path) -> onnxruntime.InferenceSession:
    """A changed graph in memory, with the data files that lie where it came from."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's errors share no base class below Exception
        raise CannotMeasure(f"onnxruntime cannot open this graph layer by layer: {str(error).splitlines()[0]}") from error


def _feed(session: onnxruntime.InferenceSession, batch: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """A batch under the graph's names; a single input is matched by its position."""
    names = [value.name for value in session.get_inputs()]
    named = {names[0]: next(iter(batch.values()))} if len(names) == len(batch) == 1 else dict(batch)
    return _feed_of(session, named)


def _feed_of(session: onnxruntime.InferenceSession, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """What a graph takes of these arrays, in half precision where it wants that."""
    import numpy as np

    types = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
    taken = {}
    for value in session.get_inputs():
        array = arrays[value.name]
        wanted = types.get(value.type)
        taken[value.name] = array.astype(wanted) if wanted is not None and np.issubdtype(array.dtype, np.floating) else array
    return taken
