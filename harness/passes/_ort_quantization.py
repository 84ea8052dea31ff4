"""What both ONNX Runtime quantization passes share."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext


def quantize(name: str, artifact: ModelArtifact, context: BuildContext, options: str, work: Callable[[Path, Path], None]) -> ModelArtifact:
    """Pre-process (shape inference, folding), let ``work(prepared, into)`` quantize, and prove that something was quantized.

    Raises CannotMeasure when no operator was, naming those that the graph has.
    """
    from harness import plugins
    from harness.formats import onnx_model

    for package in ("onnx", "onnxruntime"):
        plugins.require(package, plugin=name, extra="onnx")
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    into = context.folder / onnx_model.MAIN
    with tempfile.TemporaryDirectory(dir=context.folder) as scratch, _quiet():
        prepared = Path(scratch) / "prepared.onnx"
        try:
            quant_pre_process(str(artifact.path), str(prepared), skip_symbolic_shape=True)
            work(prepared, into)
        except (ValueError, RuntimeError, TypeError, KeyError) as error:
            raise CannotMeasure(f"ONNX Runtime cannot quantize this graph: {str(error).strip().splitlines()[0]}") from error
    model = onnx.load(into, load_external_data=False)
    done, total, left = onnx_model.quantized_share(model)
    if done == 0:
        counts = ", ".join(sorted(onnx_model.operators(model)))
        raise CannotMeasure(f"'{name}' quantized nothing in this graph", hint=f"its operators are {counts}")
    note = f"{done} of {total} Conv, Gemm and MatMul nodes quantized"
    if left:
        note += f"; in float: {', '.join(left[:5])}{' ...' if len(left) > 5 else ''}"
    return onnx_model.describe(context.folder, (*artifact.steps, AppliedStep(name, options, (note,))))


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
