"""The format ``tflite``: one FlatBuffers file, as LiteRT (TensorFlow Lite) runs it.

It is read with ``ai-edge-litert`` alone: TensorFlow is only needed to make one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, ModelArtifact, TensorSpec
from harness.core.errors import BadInput, Problem
from harness.formats.files import digest_of, size_of

if TYPE_CHECKING:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from numpy.typing import NDArray

MAIN = "model.tflite"
IDENTIFIER = b"TFL3"
DELEGATE = "DELEGATE"
COMPUTE = frozenset(
    {
        "CONV_2D",
        "CONV_3D",
        "DEPTHWISE_CONV_2D",
        "TRANSPOSE_CONV",
        "FULLY_CONNECTED",
        "BATCH_MATMUL",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        "SVDF",
    }
)
CONVERTS = frozenset({"QUANTIZE", "DEQUANTIZE", "DENSIFY", "CAST"})
"""What only changes how numbers are held."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: its kind, the layer that its first output is named for, dtypes of what goes in and comes out, and these tensors."""

    kind: str
    layer: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def precision(self) -> str:
        """What a product is computed in: ``int8``, ``float32``, or ``dynamic int8`` for int8 weights on float activations."""
        given, weights = self.operands[0], self.operands[1] if len(self.operands) > 1 else self.operands[0]
        if given == weights or weights not in ("int8", "uint8", "int4"):
            return "int8" if given == "uint8" else given
        return "dynamic int8" if given.startswith("float") else f"int8 weights, {given} activations"


def describe(folder: Path, steps: tuple[AppliedStep, ...], order: Sequence[str] = ()) -> ModelArtifact:
    """The artifact of a file: specs from its signature, where it has one, an open batch axis as None.

    ``order`` are the outputs' names in the order of the model that it was made of: a file has them sorted.
    """
    path = folder / MAIN
    interpreter = opened(path)
    inputs, outputs = tensors(interpreter)
    outputs = {name: outputs[name] for name in sorted(outputs, key=lambda name: order.index(name) if name in order else len(order))}
    return ModelArtifact(
        folder=folder,
        format="tflite",
        main=MAIN,
        inputs=tuple(_spec(interpreter, name, index) for name, index in inputs.items()),
        outputs=tuple(_spec(interpreter, name, index) for name, index in outputs.items()),
        size_bytes=size_of([path]),
        sha256=digest_of([path]),
        steps=steps,
    )


def opened(path: Path, *, threads: int = 1, delegates: bool = True) -> Interpreter:
    """An interpreter that has not laid out its tensors. Raises BadInput when the file is no TFLite model, or needs other kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if delegates else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with path.open("rb") as file:
        if file.read(8)[4:] != IDENTIFIER:
            raise BadInput(Problem(f"{path.name} is not a TFLite file"))
    try:
        return Interpreter(model_path=str(path), num_threads=threads, experimental_op_resolver_type=resolver)
    except (ValueError, RuntimeError) as error:
        said = (str(error).strip() or "no message").splitlines()[0]
        raise BadInput(Problem(f"LiteRT cannot open {path.name}: {said}")) from error


def tensors(interpreter: Interpreter) -> tuple[dict[str, int], dict[str, int]]:
    """The places of inputs and of outputs by name: the signature's, else those of the tensors themselves."""
    signatures = interpreter._get_full_signature_list()
    if len(signatures) == 1:
        (signature,) = signatures.values()
        places = [value["index"] for value in interpreter.get_output_details()]
        outputs = sorted(signature["outputs"].items(), key=lambda item: places.index(item[1]))
        return dict(signature["inputs"]), dict(outputs)
    return (
        {value["name"]: value["index"] for value in interpreter.get_input_details()},
        {value["name"]: value["index"] for value in interpreter.get_output_details()},
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """How an integer tensor stands for numbers: (value - zero_point) * scale. ``dtype`` is its own; scale 0 where it is no such tensor."""

    dtype: str
    scale: float
    zero_point: int


def scale_of(interpreter: Interpreter, index: int) -> Scale:
    """The scale of a tensor."""
    import numpy as np

    (details,) = (value for value in interpreter.get_tensor_details() if value["index"] == index)
    scale, zero_point = details["quantization"]
    return Scale(np.dtype(details["dtype"]).name, float(scale), int(zero_point))


def quantized(values: NDArray[np.generic], into: Scale) -> NDArray[np.generic]:
    """Float numbers as a tensor holds them, those out of its range at its ends; what is an integer already, or no such tensor, as it is."""
    import numpy as np

    if not into.scale or values.dtype.kind != "f":
        return values
    limits = np.iinfo(into.dtype)
    steps = np.rint(np.asarray(values, dtype=np.float32) / into.scale) + into.zero_point
    return np.asarray(np.clip(steps, limits.min, limits.max), dtype=into.dtype)


def dequantized(values: NDArray[np.generic], held: Scale) -> NDArray[np.generic]:
    """The numbers that an integer tensor stands for; any other tensor as it is."""
    import numpy as np

    if not held.scale or values.dtype.kind not in "iu":
        return values
    return ((values.astype(np.float32) - held.zero_point) * np.float32(held.scale)).astype(np.float32)


def operators(interpreter: Interpreter) -> tuple[Operator, ...]:
    """Every operator of the main graph as it is in the file, without what a delegate has put in its place."""
    import numpy as np

    names = {value["index"]: value["name"] for value in interpreter.get_tensor_details()}
    found = []
    for node in interpreter._get_ops_details():
        if node["op_name"] == DELEGATE:
            continue
        operands, results = (tuple(np.dtype(kind).name for kind in node[key]) for key in ("operand_types", "result_types"))
        outputs = tuple(int(index) for index in node["outputs"])
        layer = names.get(outputs[0], "?").split(";")[0] if outputs else "?"
        found.append(Operator(node["op_name"], layer, operands, results, tuple(int(index) for index in node["inputs"]), outputs))
    return tuple(found)


def delegated(interpreter: Interpreter, every: Sequence[Operator]) -> tuple[Operator, ...]:
    """The operators that a delegate runs, once the tensors are laid out.

    The interpreter tells which tensors a delegate takes and gives: what lies between them is its part of the graph.
    """
    makers = {index: operator for operator in every for index in operator.outputs}
    taken: set[int] = set()
    for node in interpreter._get_ops_details():
        if node["op_name"] != DELEGATE:
            continue
        given = {int(index) for index in node["inputs"]}
        waiting = [int(index) for index in node["outputs"]]
        while waiting:
            index = waiting.pop()
            operator = makers.get(index)
            if index in given or operator is None or operator.outputs[0] in taken:
                continue
            taken.add(operator.outputs[0])
            waiting += operator.inputs
    return tuple(operator for operator in every if operator.outputs and operator.outputs[0] in taken)


def left_in_float(every: Sequence[Operator]) -> tuple[Operator, ...]:
    """The operators that take or give float numbers, but for those that turn them into integers and back."""
    return tuple(
        operator
        for operator in every
        if operator.kind not in CONVERTS and any(kind.startswith("float") for kind in (*operator.operands, *operator.results))
    )


def weight_bytes(path: Path) -> Counter[str]:
    """Bytes of the constants by element type, those that are stored sparsely as ``sparse float32``."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    sizes: Counter[str] = Counter()
    seen: set[int] = set()
    for graph in (model.Subgraphs(index) for index in range(model.SubgraphsLength())):
        for tensor in (graph.Tensors(index) for index in range(graph.TensorsLength())):
            buffer, size = tensor.Buffer(), model.Buffers(tensor.Buffer()).DataLength()
            if size and buffer not in seen:
                seen.add(buffer)
                sizes[f"{'sparse ' if tensor.Sparsity() is not None else ''}{kinds[tensor.Type()]}"] += size
    return sizes


def _spec(interpreter: Interpreter, name: str, index: int) -> TensorSpec:
    """An integer tensor with a scale is told as the float numbers that it stands for: those are what callers give and get."""
    import numpy as np

    (details,) = (value for value in interpreter.get_tensor_details() if value["index"] == index)
    shape = tuple(None if length == -1 else int(length) for length in details["shape_signature"])
    return TensorSpec(name, "float32" if scale_of(interpreter, index).scale else np.dtype(details["dtype"]).name, shape)
