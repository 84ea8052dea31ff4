"""How much each tensor of a graph loses by quantization: signal to quantization noise, in dB, by ONNX Runtime's qdq_loss_debug."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from harness.passes._onnx_calibration import Reader

QUANTIZED = "_quantized"
TRANSPOSED = "_Transposed"


@dataclass(frozen=True, slots=True)
class Loss:
    """What one tensor loses: ``own_db`` by its own rounding; ``whole_db`` against the float graph, with all that was lost before it.

    The ratio is 20 log10(|x| / |x - y|) over Frobenius norms: 20 dB is noise of a tenth, 40 dB of a hundredth; less is worse. ``nodes`` are
    the float graph's, in words that a pass's ``exclude`` takes: a weight's readers, an activation's maker (the readers of an input).
    """

    tensor: str
    kind: Literal["weight", "activation"]
    own_db: float
    whole_db: float | None
    nodes: tuple[str, ...]

    def row(self) -> dict[str, object]:
        return {"tensor": self.tensor, "kind": self.kind, "own_db": self.own_db, "whole_db": self.whole_db, "nodes": list(self.nodes)}


def losses(prepared: Path, quantized: Path, reader: Callable[[], Reader] | None) -> list[Loss]:
    """Weights and, where there are samples to run, activations; the worst first. What is zero everywhere has no ratio and is left out."""
    import onnx

    before, after = onnx.load(prepared), onnx.load(quantized)
    found = [*_weights(before, after), *(_activations(before, prepared, quantized, reader) if reader else ())]
    return sorted(found, key=lambda loss: (loss.own_db, loss.tensor))


def _weights(before: onnx.ModelProto, after: onnx.ModelProto) -> Iterable[Loss]:
    from onnx.numpy_helper import to_array
    from onnxruntime.quantization.qdq_loss_debug import compute_signal_to_quantization_noice_ratio as ratio

    originals = {tensor.name: tensor for tensor in before.graph.initializer}
    values = {tensor.name: tensor for tensor in after.graph.initializer}
    axes = _axes(after)
    for name in values:
        base = name.removesuffix(QUANTIZED)
        source = base.removesuffix(TRANSPOSED)
        if base == name or source not in originals or f"{base}_scale" not in values:
            continue
        exact = to_array(originals[source])
        exact = exact if source == base else exact.T
        scale, zero = to_array(values[f"{base}_scale"]), to_array(values[f"{base}_zero_point"])
        restored = _dequantized(to_array(values[name]), scale, zero, axes.get(name, exact.ndim - 1))
        if exact.any():
            yield Loss(source, "weight", float(ratio(exact, restored)), None, _readers(before, source))


def _dequantized(
    values: NDArray[np.floating[Any]], scale: NDArray[np.floating[Any]], zero: NDArray[np.floating[Any]], axis: int
) -> NDArray[np.floating[Any]]:
    """(values - zero) * scale in float32: the library's own subtracts in 8 bits, where uint8 goes round."""
    import numpy as np

    shape = [1] * values.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    wide: NDArray[np.floating[Any]] = (values.astype(np.float32) - zero.astype(np.float32).reshape(shape)) * scale.reshape(shape)
    return wide


def _axes(model: onnx.ModelProto) -> dict[str, int]:
    """The axis of the channels of each quantized weight: told by its DequantizeLinear, the first for a ConvInteger."""
    axes = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            axes[node.input[0]] = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        elif node.op_type == "ConvInteger":
            axes[node.input[1]] = 0
    return axes


def _activations(before: onnx.ModelProto, prepared: Path, quantized: Path, reader: Callable[[], Reader]) -> Iterable[Loss]:
    from onnxruntime.quantization import qdq_loss_debug as library

    collected = []
    for path in (quantized, prepared):
        watched = prepared.with_name(f"watched-{path.name}")
        library.modify_model_output_intermediate_tensors(path, watched)
        collected.append(library.collect_activations(str(watched), iter(reader())))
    makers = {output: (node.name,) for node in before.graph.node for output in node.output}
    ratio = library.compute_signal_to_quantization_noice_ratio
    for name, match in library.create_activation_matching(*collected).items():
        if not any(array.any() for array in match["pre_qdq"]):
            continue
        own = float(ratio(match["pre_qdq"], match["post_qdq"]))
        whole = float(ratio(match["float"], match["post_qdq"])) if match.get("float") else None
        yield Loss(name, "activation", own, whole, makers.get(name) or _readers(before, name))


def _readers(model: onnx.ModelProto, tensor: str) -> tuple[str, ...]:
    return tuple(node.name for node in model.graph.node if tensor in node.input)
