"""See FuseTransformer."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _onnx_graph

if TYPE_CHECKING:
    import onnx

ATTENTION = ("Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention")
Fusion = Literal["attention", "gelu", "layer_norm", "skip_layer_norm", "embed_layer_norm", "bias_gelu", "bias_skip_layer_norm"]


class FuseTransformer(Options):
    """Fuse a transformer's attention, normalization and activation nodes (onnxruntime.transformers.optimizer).

    ``model_type`` names the family whose patterns are looked for; ``num_heads`` and ``hidden_size`` are found in the graph where 0.
    ``disabled`` leaves fusions out. ``multi_head`` makes MultiHeadAttention of attention, with the projections apart.
    ``gelu_approximation`` allows the tanh form, which is quicker and changes the outputs. The result opens in ONNX Runtime only. Outputs
    are compared on evaluation samples before and after, and a difference beyond ``tolerance`` is refused.
    """

    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "sympy")
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    model_type: Literal["bert", "bart", "clip", "gpt2", "gpt_neox", "phi", "swin", "t5", "tnlr", "vit", "conformer"] = "bert"
    num_heads: int = 0
    hidden_size: int = 0
    disabled: tuple[Fusion, ...] = ()
    multi_head: bool = False
    gelu_approximation: bool = False
    tolerance: float = 1e-3

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Fuse, compare. Raises CannotMeasure when no pattern was found, with what the graph has."""
        _onnx_graph.require("fuse_transformer", "onnx", "onnxruntime", "sympy")
        import onnx

        from harness.formats import onnx_model

        before = onnx.load(artifact.path, load_external_data=False)
        after, shapes_known = self._fuse(artifact)
        old, new = _onnx_graph.domain_counts(before), _onnx_graph.domain_counts(after)
        fused = Counter({name: count for (domain, name), count in (new - old).items() if domain or name == "LayerNormalization"})
        if not fused:
            counts = _onnx_graph.told(onnx_model.operators(before))
            hint = f"its operators are {counts}; try another 'model_type', or fold_constants before it"
            raise CannotMeasure(f"'fuse_transformer' found no pattern of '{self.model_type}' in this graph", hint=hint)
        result = onnx_model.save(after, context.folder, artifact.steps)
        worst = _onnx_graph.checked(artifact, result.path, context.data("evaluation"), "fuse_transformer", self.tolerance)
        notes = [f"{old.total()} nodes before, {new.total()} after", f"fused into {_onnx_graph.told(fused)}"]
        left = onnx_model.operators(after)["Softmax"]
        if left and not any(name in fused for name in ATTENTION) and "attention" not in self.disabled:
            notes.append(f"attention itself was not fused: {left} Softmax nodes stay, in a pattern that '{self.model_type}' does not have")
        if not shapes_known:
            notes.append("the library's shape inference failed on this graph: what needs shapes (SkipLayerNormalization) is not fused")
        notes.append(f"largest difference {worst:.2g}")
        step = AppliedStep("fuse_transformer", self.model_dump_json(), tuple(notes))
        return onnx_model.describe(context.folder, (*artifact.steps, step))

    def _fuse(self, artifact: ModelArtifact) -> tuple[onnx.ModelProto, bool]:
        """The fused graph, and whether the library's symbolic shape inference got through it: it only prints where it did not."""
        with _onnx_graph.quiet(), _neighbours():
            try:
                from onnxruntime.transformers.fusion_options import FusionOptions
                from onnxruntime.transformers.optimizer import optimize_model

                wanted = FusionOptions(self.model_type)
                for name in self.disabled:
                    setattr(wanted, f"enable_{name}", False)
                wanted.use_multi_head_attention = self.multi_head
                wanted.enable_gelu_approximation = self.gelu_approximation
                # level 0: its patterns alone. What ONNX Runtime would do besides is optimize_onnx's to do and to tell.
                found = optimize_model(str(artifact.path), self.model_type, self.num_heads, self.hidden_size, wanted, opt_level=0)
            except Exception as error:  # the library's errors share no base class below Exception
                raise CannotMeasure(f"onnxruntime's transformer optimizer fails on this graph: {_onnx_graph.first_line(error)}") from error
        return found.model, bool(found.enable_shape_infer)


@contextlib.contextmanager
def _neighbours() -> Iterator[None]:
    """The library's modules import each other by bare names, from its own folder: it is on the path for as long as they work."""
    import onnxruntime

    before = list(sys.path)
    sys.path.append(str(Path(onnxruntime.__file__).parent / "transformers"))
    try:
        yield
    finally:
        sys.path[:] = before


PLUGIN = FuseTransformer
