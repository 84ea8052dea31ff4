"""The format ``openvino``: OpenVINO's intermediate representation, ``model.xml`` (the graph) and ``model.bin`` (its weights)."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, ModelArtifact, TensorSpec
from harness.formats.files import digest_of, size_of

if TYPE_CHECKING:
    import openvino

MAIN = "model.xml"
WEIGHTS = "model.bin"
COMPUTE = frozenset(
    {
        "Convolution",
        "GroupConvolution",
        "ConvolutionBackpropData",
        "GroupConvolutionBackpropData",
        "MatMul",
        "LSTMSequence",
        "GRUSequence",
        "RNNSequence",
        "LSTMCell",
        "GRUCell",
        "RNNCell",
    }
)
_DECODES = frozenset({"Convert", "Multiply", "Subtract", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "FakeQuantize"})
"""What stands between a weight as it is stored and the operator that uses it."""
_MOVES = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Split", "VariadicSplit", "Slice", "StridedSlice", "Gather", "MaxPool", "Tile"}
)
"""What passes quantized values on as they are."""
_UNNAMED = re.compile(r"[A-Z][A-Za-z]*_\d+")


def framework() -> ModuleType:
    """The openvino package, imported without its telemetry.

    That reports every import to its maker from a thread of its own and writes into the home folder: neither has a place in a process that
    is measured.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # the import system's mark for "not there"
    import openvino

    package: ModuleType = openvino
    return package


def save(
    model: openvino.Model, folder: Path, steps: tuple[AppliedStep, ...], *, half: bool = False, names: Collection[str] = ()
) -> ModelArtifact:
    """Write a model and describe it; ``half`` stores its float weights in 16 bits.

    Operators without a name of their own are numbered by their place in the graph, but for those in ``names``: the library's numbers count
    what the process has made before, so that equal models would differ.
    """
    model.set_friendly_name("model")
    _settle_names(model, names)
    framework().save_model(model, folder / MAIN, compress_to_fp16=half)
    return describe(folder, steps)


def read(path: Path) -> openvino.Model:
    """The model of an ``.xml`` file with its weights beside it; what the library raises passes through."""
    return framework().Core().read_model(path)


def reason(error: BaseException) -> str:
    """What an error of the library's says, in one line: they begin with the places in its source that checked."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Caught exception: Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[0]


def describe(folder: Path, steps: tuple[AppliedStep, ...]) -> ModelArtifact:
    """The artifact of a saved model: specs from its graph (an axis of any length is None), size with the weights."""
    model = read(folder / MAIN)
    files = [folder / MAIN, folder / WEIGHTS]
    return ModelArtifact(
        folder=folder,
        format="openvino",
        main=MAIN,
        inputs=tuple(_spec(value, index) for index, value in enumerate(model.inputs)),
        outputs=tuple(_spec(value, index) for index, value in enumerate(model.outputs)),
        size_bytes=size_of(files),
        sha256=digest_of(files),
        steps=steps,
    )


def operators(model: openvino.Model) -> Counter[str]:
    """How many operators of each type, without constants, inputs and outputs."""
    return Counter(kind for node in model.get_ops() if (kind := node.get_type_name()) not in ("Constant", "Parameter", "Result"))


def weight_bytes(model: openvino.Model) -> Counter[str]:
    """Bytes of the constants by element type (``f32``, ``f16``, ``i8``)."""
    sizes: Counter[str] = Counter()
    for node in model.get_ops():
        if node.get_type_name() == "Constant":
            sizes[node.get_output_element_type(0).get_type_name()] += node.get_byte_size()
    return sizes


def quantized_share(model: openvino.Model) -> tuple[int, int, list[str]]:
    """(operators that compute in int8, all operators with weights, names of those left in float).

    An operator counts as int8 when its weights are stored in 8 bits or fewer, or go through FakeQuantize, and what it is given comes from
    FakeQuantize: that is what the CPU plugin makes an integer kernel of.
    """
    done, left = 0, []
    for node in model.get_ordered_ops():
        if node.get_type_name() not in COMPUTE:
            continue
        weights = [index for index in range(1, node.get_input_size()) if _root(node.input_value(index)).get_type_name() == "Constant"]
        if not weights:
            continue  # a product of two activations, as in attention
        if any(_narrow(node.input_value(index)) for index in weights) and _is_quantized(node.input_value(0)):
            done += 1
        else:
            left.append(node.get_friendly_name())
    return done, done + len(left), left


def _root(output: openvino.Output) -> openvino.Node:
    return _upwards(output)[-1]


def _upwards(output: openvino.Output) -> list[openvino.Node]:
    """The nodes from what uses a weight up to its constant, along the first inputs."""
    nodes = [output.get_node()]
    while nodes[-1].get_type_name() in _DECODES:
        nodes.append(nodes[-1].input_value(0).get_node())
    return nodes


def _narrow(output: openvino.Output) -> bool:
    """Whether a weight is stored in 8 bits or fewer, or rounded to as many."""
    nodes = _upwards(output)
    if nodes[-1].get_type_name() != "Constant":
        return False
    return nodes[-1].get_output_element_type(0).get_bitwidth() <= 8 or any(node.get_type_name() == "FakeQuantize" for node in nodes)


def _is_quantized(output: openvino.Output) -> bool:
    """Whether what an operator is given is rounded to 8 bits, as it is or before it was moved; rows of an int8 table are."""
    node = output.get_node()
    kind = node.get_type_name()
    if kind == "Concat":
        return all(_is_quantized(node.input_value(index)) for index in range(node.get_input_size()))
    if kind in _MOVES:
        return _is_quantized(node.input_value(0))
    return bool(kind == "FakeQuantize") or _narrow(output)


def _settle_names(model: openvino.Model, names: Collection[str]) -> None:
    counts: Counter[str] = Counter()
    taken = {*names, *(node.get_friendly_name() for node in model.get_ops())}
    for node in model.get_ordered_ops():
        if node.get_friendly_name() in names or not _UNNAMED.fullmatch(node.get_friendly_name()):
            continue
        kind = node.get_type_name()
        while (name := f"{kind}.{counts[kind]}") in taken:
            counts[kind] += 1
        counts[kind] += 1
        node.set_friendly_name(name)


def _spec(value: openvino.Output, index: int) -> TensorSpec:
    import numpy as np

    kind = value.get_element_type()
    dtype = "bfloat16" if kind.get_type_name() == "bf16" else str(np.dtype(kind.to_dtype()))
    shape = tuple(axis.get_length() if axis.is_static else None for axis in value.get_partial_shape())
    names = sorted(value.get_names())
    return TensorSpec(names[0] if names else f"output_{index}", dtype, shape)
