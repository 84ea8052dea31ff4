"""See OptimizeOnnx."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, Literal

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _onnx_graph

NCHWC = "com.microsoft.nchwc"


class OptimizeOnnx(Options):
    """ONNX Runtime's own graph optimization, done once and saved: opening the model need not repeat it.

    ``level`` is basic (folding, redundant nodes; any runtime opens the result), extended (also fusions into ONNX Runtime's own
    operators) or all (also layouts: the file is then for CPUs like the one that it was made on, so leave it out of a cache that other
    machines share). ``provider`` is whose kernels it is made for; cuda is unverified until a run on a GPU is recorded. ``disabled`` names
    optimizers of the library to leave out, such as MatMulAddFusion. Outputs are compared on evaluation samples before and after, and a
    difference beyond ``tolerance`` is refused.
    """

    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    level: Literal["basic", "extended", "all"] = "extended"
    provider: Literal["cpu", "cuda"] = "cpu"
    disabled: tuple[str, ...] = ()
    tolerance: float = 1e-3

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Optimize, save, compare. Raises CannotMeasure when nothing changed or the provider is not there."""
        _onnx_graph.require("optimize_onnx", "onnx", "onnxruntime")
        import onnx
        import onnxruntime

        from harness.formats import onnx_model

        providers = ["CPUExecutionProvider"] if self.provider == "cpu" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
        if missing := [name for name in providers if name not in (offered := onnxruntime.get_available_providers())]:
            hint = f"this build of onnxruntime {onnxruntime.__version__} offers {', '.join(offered)}"
            raise CannotMeasure(f"execution provider {', '.join(missing)} is not available", hint=hint)
        before = onnx.load(artifact.path, load_external_data=False)
        path = context.folder / onnx_model.MAIN
        large = artifact.size_bytes >= onnx_model.ONE_FILE_BYTES
        after = _onnx_graph.save_optimized(artifact.path, path, self.level, providers=providers, disabled=self.disabled, large=large)
        old, new = _onnx_graph.domain_counts(before), _onnx_graph.domain_counts(after)
        if old == new and onnx_model.weight_sizes(before) == onnx_model.weight_sizes(after):
            raise CannotMeasure(
                f"'optimize_onnx' at level '{self.level}' changed nothing in this graph of {old.total()} nodes",
                hint="leave it out, or try a higher level",
            )
        worst = _onnx_graph.checked(artifact, path, context.data("evaluation"), "optimize_onnx", self.tolerance)
        notes = [f"{old.total()} nodes before, {new.total()} after", *_changes(old, new), f"largest difference {worst:.2g}"]
        step = AppliedStep("optimize_onnx", self.model_dump_json(), tuple(notes))
        return onnx_model.describe(context.folder, (*artifact.steps, step))


def _changes(old: Counter[tuple[str, str]], new: Counter[tuple[str, str]]) -> list[str]:
    """What came, and what that binds the file to."""
    came, went = new - old, old - new
    notes = []
    if fused := Counter({name: count for (domain, name), count in came.items() if domain and domain != NCHWC}):
        notes.append(f"fused into {_onnx_graph.told(fused)}: ONNX Runtime's own operators, which no other runtime opens")
    if plain := Counter({name: count for (domain, name), count in went.items() if not domain}):
        notes.append(f"gone: {_onnx_graph.told(plain)}")
    if layout := sum(count for (domain, _), count in new.items() if domain == NCHWC):
        notes.append(f"{layout} nodes in the blocked layout of this machine's CPU: not for another kind of CPU")
    return notes


PLUGIN = OptimizeOnnx
