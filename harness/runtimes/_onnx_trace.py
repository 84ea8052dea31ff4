"""What ONNX Runtime really runs of a graph: one call in its profiler, read back kernel by kernel, and told in words."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnxruntime

FLOAT = frozenset(
    {"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "GemmFastGelu", "MatMul", "FusedMatMul", "Einsum"}
    | {"LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention", "GroupQueryAttention"}
)
INTEGER = frozenset(
    {"QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm"}
    | {"QAttention", "DynamicQuantizeLSTM"}
)
"""Operators that multiply by weights, as they are called after the library has fused them: in floating point, and in 8 bits."""
TYPES = {"float": "float32", "double": "float64"}
"""The profiler's names of types that numpy calls otherwise."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One node that ran: its operator after fusion, the provider that ran it, the type of its first input."""

    operator: str
    provider: str
    dtype: str


def trace(
    path: Path, options: onnxruntime.SessionOptions, providers: Sequence[tuple[str, Mapping[str, str]]], feed: Mapping[str, object]
) -> tuple[Kernel, ...]:
    """Open a graph once more, with the profiler on, and run it once. ``options`` are changed. What the library raises passes through.

    The measured session has never had the profiler on, and this one is closed before the answer: neither its time nor its memory is
    that of the measurement, if it is asked for at its end.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as scratch:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "trace")
        session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    ran = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            arguments = event["args"]
            kinds = [next(iter(shape), "") for shape in arguments.get("input_type_shape", ())]
            kernel = Kernel(arguments["op_name"], arguments["provider"], TYPES.get(kinds[0], kinds[0]) if kinds else "")
            ran[event["name"], arguments.get("node_index")] = kernel  # the body of a loop runs more than once
    return tuple(ran.values())


def by_provider(kernels: Sequence[Kernel], in_use: Sequence[str]) -> tuple[str, ...]:
    """How many nodes each provider ran, and how often tensors went between host and device."""
    counts = Counter(kernel.provider for kernel in kernels)
    told = tuple(f"{name} runs {counts[name]} of {len(kernels)} nodes" for name in in_use if counts[name] or len(in_use) == 1)
    idle = tuple(f"{name} runs no node" for name in in_use if not counts[name] and len(in_use) > 1)
    copies = sum(kernel.operator.startswith("Memcpy") for kernel in kernels)
    return (*told, *idle, *((f"{copies} copies between host and device within the graph",) if copies else ()))


def precision(model: onnx.ModelProto, kernels: Sequence[Kernel] | None) -> tuple[str, tuple[str, ...]]:
    """What is computed in, and what is worth telling of it. Without kernels it is what the graph says."""
    from harness.formats.onnx_model import quantized_share, weight_sizes

    done, total, left = quantized_share(model)
    written = next(iter(weight_sizes(model)), "float32")
    if kernels is None:
        if done == 0:
            return written, ()
        return f"int8 ({done} of {total} compute nodes{'' if not left else f'; {len(left)} in {written}'})", ()
    floats = Counter(kernel.dtype for kernel in kernels if kernel.operator in FLOAT and kernel.dtype)
    computed = floats.most_common(1)[0][0] if floats else written
    details = []
    if few := sum(kernel.operator == "MatMulNBits" for kernel in kernels):
        details.append(f"{few} products with weights of few bits, computed in floating point")
    if done:
        integer = min(done, sum(kernel.operator in INTEGER for kernel in kernels))
        if done > integer:
            pairs = sum(kernel.operator in ("QuantizeLinear", "DequantizeLinear") for kernel in kernels)
            details.append(f"{done - integer} of {done} quantized nodes run in {computed}: {pairs} QuantizeLinear and DequantizeLinear run")
        rest = "" if total == integer else f"; {total - integer} in {computed}"
        told = f"int8 ({integer} of {total} compute nodes{rest})" if integer else f"{computed} (0 of {total} compute nodes in int8)"
        return told, tuple(details)
    if len(floats) > 1:
        details.append("compute nodes: " + ", ".join(f"{count} in {name}" for name, count in floats.most_common()))
    if computed != written:
        casts = sum(kernel.operator == "Cast" for kernel in kernels)
        details.append(f"weights are kept in {written} and computed with in {computed}: {casts} Casts run")
        return f"{computed} ({written} in the file)", tuple(details)
    return computed, tuple(details)
