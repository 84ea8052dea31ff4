"""See Float16."""

from __future__ import annotations

from typing import ClassVar

from harness.core.artifact import ModelArtifact
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _torch_half


class Float16(Options):
    """Cast a torch module's weights to float16; its inputs and outputs stay float32.

    ``keep`` names layers that stay in float32 (``head``, ``encoder.*``), ``keep_norms`` keeps every normalisation layer; each of them costs
    two conversions a call. A weight beyond the range of float16 (65504) is refused with its layer. The model converts its inputs itself,
    inside the timed query.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    keep: tuple[str, ...] = ()
    keep_norms: bool = False

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Cast, call, compare. Raises CannotMeasure when the module does not run in float16 or gives NaN, naming the layer."""
        return _torch_half.cast("float16", artifact, context, self.model_dump_json(), self.keep, self.keep_norms)


PLUGIN = Float16
