"""What both ONNX Runtime quantization passes share."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext
from harness.passes import _onnx_graph
from harness.passes._onnx_loss import Loss

if TYPE_CHECKING:
    import onnx

REPORT = "quantization_loss.json"
"""Beside the model, not part of it: ``size_bytes`` and ``sha256`` are of the model alone."""


@dataclass(frozen=True, slots=True)
class Quantizing:
    """One pass at work. ``exclude`` names nodes that stay in float, ``exclude_operators`` types of them."""

    plugin: str
    options: str
    exclude: Sequence[str]
    exclude_operators: Sequence[str]

    def excluded(self, prepared: onnx.ModelProto) -> list[str]:
        """The names of all nodes that are to stay in float."""
        kinds = set(self.exclude_operators)
        return [*self.exclude, *(node.name for node in prepared.graph.node if node.op_type in kinds)]


def quantize(
    quantizing: Quantizing,
    artifact: ModelArtifact,
    context: BuildContext,
    work: Callable[[Path, list[str], Path], Sequence[str]],
    losses: Callable[[Path, Path], list[Loss]] | None = None,
) -> ModelArtifact:
    """Pre-process (shape inference, folding), let ``work(prepared, excluded, into)`` quantize, and prove that something was quantized.

    ``work`` gives its own notes; ``losses(prepared, into)``, where it is given, what each tensor lost: written down as a report. Raises
    CannotMeasure when no operator was quantized (that was not before), naming those that the graph has; BadInput when what is to be
    excluded is not in the graph.
    """
    from harness.formats import onnx_model

    name = quantizing.plugin
    _onnx_graph.require(name, "onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(artifact.path, load_external_data=False)
    _onnx_graph.check_known(name, "node", quantizing.exclude, [node.name for node in model.graph.node])
    _onnx_graph.check_known(name, "operator", quantizing.exclude_operators, sorted(onnx_model.operators(model)))
    before, compute, _ = onnx_model.quantized_share(model)
    already = f"{before} of {compute} Conv, Gemm and MatMul nodes were int8 before" if before else None
    into = context.folder / onnx_model.MAIN
    found: list[Loss] = []
    with tempfile.TemporaryDirectory(dir=context.folder) as scratch, _onnx_graph.quiet():
        prepared = Path(scratch) / "prepared.onnx"
        try:
            quant_pre_process(str(artifact.path), str(prepared), skip_symbolic_shape=True)
            notes = work(prepared, quantizing.excluded(_named(prepared)), into)
            found = losses(prepared, into) if losses else []
        except Exception as error:  # the library's errors share no base class below Exception
            raise CannotMeasure(f"ONNX Runtime cannot quantize this graph: {_onnx_graph.first_line(error)}", hint=already) from error
    model = onnx.load(into, load_external_data=False)
    done, total, left = onnx_model.quantized_share(model)
    if done <= before:
        counts = ", ".join(sorted(onnx_model.operators(model)))
        raise CannotMeasure(f"'{name}' quantized nothing in this graph", hint=already or f"its operators are {counts}")
    share = f"{done} of {total} Conv, Gemm and MatMul nodes quantized"
    if left:
        share += f"; in float: {', '.join(left[:5])}{' ...' if len(left) > 5 else ''}"
    told = [share, *notes]
    if found:
        (context.folder / REPORT).write_text(json.dumps({"unit": "dB", "tensors": [loss.row() for loss in found]}, indent=1))
        worst = ", ".join(f"{loss.tensor} ({loss.kind}) {loss.own_db:.1f} dB" for loss in found[:5])
        told.append(f"loses most (signal to quantization noise): {worst}; all {len(found)} tensors in {REPORT}")
    return onnx_model.describe(context.folder, (*artifact.steps, AppliedStep(name, quantizing.options, tuple(told))))


def _named(prepared: Path) -> onnx.ModelProto:
    """The prepared graph with a name for every node: the library excludes by name."""
    import onnx

    model = onnx.load(prepared)
    nameless = [node for node in model.graph.node if not node.name]
    for number, node in enumerate(nameless):
        node.name = f"{node.op_type}_nameless_{number}"
    if nameless:
        onnx.save(model, prepared)
    return model
