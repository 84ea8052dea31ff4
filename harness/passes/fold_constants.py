"""See FoldConstants."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _onnx_graph

if TYPE_CHECKING:
    import onnx


class FoldConstants(Options):
    """Compute what is constant in an ONNX graph, drop dead nodes, inline functions, infer shapes (the optimizer of onnxscript).

    A tensor of more than ``input_size_limit`` elements is not folded, nor one of more than ``output_size_limit`` written into the file.
    What export_onnx gives is folded already, and refused here; graphs of other exporters often are not. Outputs are compared on
    evaluation samples before and after, and a difference beyond ``tolerance`` is refused.
    """

    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnx_ir")
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    input_size_limit: int = 8192
    output_size_limit: int = 512 * 512
    tolerance: float = 1e-4

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Fold, infer, compare. Raises CannotMeasure when the graph was folded already."""
        _onnx_graph.require("fold_constants", "onnx", "onnxscript", "onnxruntime")
        import onnx
        import onnxscript.optimizer

        from harness.formats import onnx_model

        before = onnx.load(artifact.path)
        with _onnx_graph.quiet():
            try:
                after = onnxscript.optimizer.optimize(
                    before, input_size_limit=self.input_size_limit, output_size_limit=self.output_size_limit
                )
                if after.ByteSize() < onnx_model.ONE_FILE_BYTES:  # the in-memory inference ends there
                    after = onnx.shape_inference.infer_shapes(after, data_prop=True)
            except Exception as error:  # the library's errors share no base class below Exception
                raise CannotMeasure(f"onnxscript cannot fold this graph: {_onnx_graph.first_line(error)}") from error
        old, new = onnx_model.operators(before), onnx_model.operators(after)
        shapes = _shaped(before), _shaped(after)
        if old == new and shapes[0] >= shapes[1]:
            raise CannotMeasure(
                f"'fold_constants' changed nothing in this graph of {old.total()} nodes", hint="it was folded before: leave the pass out"
            )
        result = onnx_model.save(after, context.folder, artifact.steps)
        worst = _onnx_graph.checked(artifact, result.path, context.data("evaluation"), "fold_constants", self.tolerance)
        notes = [f"{old.total()} nodes before, {new.total()} after"]
        if gone := old - new:
            notes.append(f"gone: {_onnx_graph.told(gone)}")
        if shapes[1] > shapes[0]:
            notes.append(f"shapes known of {shapes[0]} inner tensors before, of {shapes[1]} after")
        notes.append(f"largest difference {worst:.2g}")
        step = AppliedStep("fold_constants", self.model_dump_json(), tuple(notes))
        return onnx_model.describe(context.folder, (*artifact.steps, step))


def _shaped(model: onnx.ModelProto) -> int:
    """How many tensors between nodes have a type with a shape."""
    return sum(value.type.tensor_type.HasField("shape") for value in model.graph.value_info)


PLUGIN = FoldConstants
