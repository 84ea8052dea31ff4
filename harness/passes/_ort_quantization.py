"""What both ONNX Runtime quantization passes share."""

from __future__ import annotations

import contextlib
import difflib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import BuildContext


def quantize(
    name: str, artifact: ModelArtifact, context: BuildContext, options: str, exclude: Sequence[str], work: Callable[[Path, Path], None]
) -> ModelArtifact:
    """Pre-process (shape inference, folding), let ``work(prepared, into)`` quantize, and prove that something was quantized.

    Raises CannotMeasure when no operator was (that was not before), naming those that the graph has; BadInput when a node to ``exclude``
    is not in the graph.
    """
    from harness import plugins
    from harness.formats import onnx_model

    for package in ("onnx", "onnxruntime"):
        plugins.require(package, plugin=name, extra="onnx")
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(artifact.path, load_external_data=False)
    _check_names(name, exclude, [node.name for node in model.graph.node])
    before, compute, _ = onnx_model.quantized_share(model)
    already = f"{before} of {compute} Conv, Gemm and MatMul nodes were int8 before" if before else None
    into = context.folder / onnx_model.MAIN
    with tempfile.TemporaryDirectory(dir=context.folder) as scratch, _quiet():
        prepared = Path(scratch) / "prepared.onnx"
        try:
            quant_pre_process(str(artifact.path), str(prepared), skip_symbolic_shape=True)
            work(prepared, into)
        except Exception as error:  # the library's errors share no base class below Exception
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CannotMeasure(f"ONNX Runtime cannot quantize this graph: {reason}", hint=already) from error
    model = onnx.load(into, load_external_data=False)
    done, total, left = onnx_model.quantized_share(model)
    if done <= before:
        counts = ", ".join(sorted(onnx_model.operators(model)))
        raise CannotMeasure(f"'{name}' quantized nothing in this graph", hint=already or f"its operators are {counts}")
    note = f"{done} of {total} Conv, Gemm and MatMul nodes quantized"
    if left:
        note += f"; in float: {', '.join(left[:5])}{' ...' if len(left) > 5 else ''}"
    return onnx_model.describe(context.folder, (*artifact.steps, AppliedStep(name, options, (note,))))


def _check_names(name: str, exclude: Sequence[str], known: Sequence[str]) -> None:
    """The library itself ignores a name that it does not find."""
    problems = []
    for unknown in (node for node in exclude if node not in known):
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"its nodes are {', '.join(known[:10])}{' ...' if len(known) > 10 else ''}"
        problems.append(Problem(f"'{name}' excludes the node '{unknown}', which is not in this graph", hint=hint))
    if problems:
        raise BadInput(*problems)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer warns through the root logger about advice that is already taken."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
