"""See OnnxFloat16."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _onnx_graph

if TYPE_CHECKING:
    import onnx

LARGEST = 65504.0
SMALLEST = 5.96e-08
"""Of float16 (IEEE 754 binary16): the largest finite value, and the smallest above zero (subnormal), as the library rounds it."""

CONTROL_FLOW = ("If", "Loop", "Scan")


class OnnxFloat16(Options):
    """Weights and activations of an ONNX graph in float16 (onnxruntime.transformers.float16): half the bytes, quick on GPUs.

    ``keep_io`` leaves the graph's inputs and outputs in float32. ``keep_operators`` (types) and ``keep_nodes`` (names) stay in float32, as
    do, with ``default_operators``, those that the library knows to have no float16 form or to lose too much by it. The CPU provider has
    few float16 kernels: it computes most nodes in float32 between Casts, which the notes count, and says nothing of a GPU's accuracy.
    Outputs are compared there on evaluation samples, and a difference beyond ``tolerance`` is refused.
    """

    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    keep_io: bool = True
    keep_operators: tuple[str, ...] = ()
    keep_nodes: tuple[str, ...] = ()
    default_operators: bool = True
    tolerance: float = 0.05

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Convert, compare, count the Casts. Raises CannotMeasure when no weight was in float32 or none became float16."""
        _onnx_graph.require("onnx_float16", "onnx", "onnxruntime")
        import onnx

        from harness.formats import onnx_model

        model = onnx.load(artifact.path)
        before = onnx_model.weight_sizes(model)
        if not before.get("float32"):
            found = ", ".join(before) or "none in floating point"
            raise CannotMeasure("'onnx_float16' finds no float32 weights in this graph", hint=f"its weights are {found}")
        _onnx_graph.check_known("onnx_float16", "node", self.keep_nodes, [node.name for node in onnx_model.nodes(model)])
        _onnx_graph.check_known("onnx_float16", "operator", self.keep_operators, sorted(onnx_model.operators(model)))
        outside = _outside(model)
        kept = self._kept(model)
        result = onnx_model.save(self._convert(model), context.folder, artifact.steps)
        after = onnx_model.weight_sizes(onnx.load(result.path, load_external_data=False))
        if not after.get("float16", 0) > before.get("float16", 0):
            raise CannotMeasure("'onnx_float16' turned no weight into float16", hint=f"in float32 were to stay: {', '.join(kept)}")
        worst = self._checked(artifact, result.path, context.data("evaluation"), model)
        notes = [f"{after['float16']:,} of {sum(after.values()):,} weights in float16"]
        if kept:
            notes.append(f"in float32 by its operator or name: {', '.join(kept[:5])}{' ...' if len(kept) > 5 else ''} ({len(kept)} nodes)")
        if any(outside):
            notes.append(f"{outside[0]:,} weights were beyond float16's range and cut to it, {outside[1]:,} too small and raised to it")
        notes += [_on_cpu(result, context.folder), f"largest difference on the CPU provider {worst:.2g}"]
        step = AppliedStep("onnx_float16", self.model_dump_json(), tuple(notes))
        return onnx_model.describe(context.folder, (*artifact.steps, step))

    def _checked(self, artifact: ModelArtifact, path: Path, data: Dataset, model: onnx.ModelProto) -> float:
        """The largest difference. The library converts what is inside of a loop and not what it declares to give: that is told as such."""
        from harness.formats import onnx_model

        try:
            return _onnx_graph.checked(artifact, path, data, "onnx_float16", self.tolerance)
        except CannotMeasure as error:
            inside = [f"{node.op_type} '{node.name}'" for node in onnx_model.nodes(model) if node.op_type in CONTROL_FLOW]
            if inside and error.__cause__ is not None:  # onnxruntime does not open the graph, where a difference has no cause
                message = f"onnxruntime's float16 conversion does not reach into loops and branches, and this graph has {', '.join(inside)}"
                hint = "torch exports an EmbeddingBag as a loop: look rows up by Embedding, or leave 'onnx_float16' out"
                raise CannotMeasure(message, hint=hint) from error
            raise

    def _kept(self, model: onnx.ModelProto) -> list[str]:
        from harness.formats import onnx_model

        kinds = set(self._blocked())
        names = (node.name or node.op_type for node in onnx_model.nodes(model) if node.op_type in kinds or node.name in self.keep_nodes)
        return list(names)

    def _blocked(self) -> list[str]:
        with _onnx_graph.quiet():
            from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

        return sorted({*(DEFAULT_OP_BLOCK_LIST if self.default_operators else ()), *self.keep_operators})

    def _convert(self, model: onnx.ModelProto) -> onnx.ModelProto:
        from harness.formats import onnx_model

        _forget_types_of_weights(model)
        with _onnx_graph.quiet():
            from onnxruntime.transformers.float16 import convert_float_to_float16

            try:
                converted: onnx.ModelProto = convert_float_to_float16(
                    model,
                    keep_io_types=self.keep_io,
                    disable_shape_infer=model.ByteSize() >= onnx_model.ONE_FILE_BYTES,  # the in-memory inference ends there
                    op_block_list=self._blocked(),
                    node_block_list=list(self.keep_nodes),
                )
            except Exception as error:  # the library's errors share no base class below Exception
                raise CannotMeasure(f"onnxruntime cannot turn this graph into float16: {_onnx_graph.first_line(error)}") from error
        return converted


def _forget_types_of_weights(model: onnx.ModelProto) -> None:
    """torch's exporter notes a type for each weight, as for a computed tensor: the library then casts float32 weights to float32."""
    weights = {tensor.name for tensor in model.graph.initializer}
    computed = [value for value in model.graph.value_info if value.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(computed)


def _outside(model: onnx.ModelProto) -> tuple[int, int]:
    """How many float32 weights float16 cannot hold: too large, too small."""
    import numpy as np
    import onnx

    from harness.formats import onnx_model

    large = small = 0
    for graph in onnx_model.graphs(model):
        for tensor in graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                values = np.abs(onnx.numpy_helper.to_array(tensor))
                large += int(((values > LARGEST) & np.isfinite(values)).sum())
                small += int(((values > 0) & (values < SMALLEST)).sum())
    return large, small


def _on_cpu(artifact: ModelArtifact, folder: Path) -> str:
    """What the CPU provider makes of a float16 graph, from the graph that it would run."""
    import onnx

    from harness.formats import onnx_model

    own = onnx_model.operators(onnx.load(artifact.path, load_external_data=False))["Cast"]
    large = artifact.size_bytes * 2 >= onnx_model.ONE_FILE_BYTES  # it may widen every weight
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        cpu = _onnx_graph.save_optimized(artifact.path, Path(scratch) / "cpu.onnx", "all", providers=["CPUExecutionProvider"], large=large)
    sizes, casts = onnx_model.weight_sizes(cpu), onnx_model.operators(cpu)["Cast"]
    wide = sizes.get("float32", 0) / (sum(sizes.values()) or 1)
    return (
        f"the CPU provider runs it with {casts} Casts ({own} in the file) and widens {wide:.0%} of the weights to float32 as it opens it"
        f"{': do not expect it to be quicker there' if wide > 0.5 or casts > own else ''}"
    )


PLUGIN = OnnxFloat16
