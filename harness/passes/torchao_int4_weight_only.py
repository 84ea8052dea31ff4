"""See TorchaoInt4WeightOnly."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.artifact import ModelArtifact
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _torchao

if TYPE_CHECKING:
    import torch

ROWS = 16
"""torch packs so many output features at a time for its 4-bit kernel on a CPU."""


class TorchaoInt4WeightOnly(Options):
    """Quantize the weights of Linear layers to int4 by torchao, two to a byte, for torch's 4-bit kernel (CPU only).

    ``group_size`` weights of a row share a scale and a zero point: fewer are more accurate and take more bytes. ``algorithm`` hqq looks for
    the scales and zero points that lose least, minmax takes the range as it is. Layers whose row is no multiple of ``group_size``, or whose
    output features are no multiple of 16, stay in float and are named. ``exclude`` names layers, or blocks of them, that do too.
    """

    extra: ClassVar[str | None] = "torchao"
    packages: ClassVar[tuple[str, ...]] = ("torch", "torchao")
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    group_size: Literal[32, 64, 128] = 128
    algorithm: Literal["minmax", "hqq"] = "minmax"
    exclude: tuple[str, ...] = ()

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Replace the weights. Raises CannotMeasure when there is no layer to quantize, naming what the module has."""
        return self.quantize("torchao_int4_weight_only", artifact, context, self.model_dump_json())

    def quantize(
        self, name: str, artifact: ModelArtifact, context: BuildContext, options: str, train: _torchao.Train | None = None
    ) -> ModelArtifact:
        """The same for the pass ``name``, whose options are ``options``, after training where it trains."""

        def configure() -> object:
            from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig
            from torchao.quantization.quantize_.workflows import Int4ChooseQParamsAlgorithm

            chosen = Int4ChooseQParamsAlgorithm.HQQ if self.algorithm == "hqq" else Int4ChooseQParamsAlgorithm.TINYGEMM
            return PrototypeInt4WeightOnlyConfig(
                group_size=self.group_size, int4_choose_qparams_algorithm=chosen, set_inductor_config=False
            )

        def keep(weight: torch.Tensor) -> torch.Tensor:
            from harness.formats.int4_weight import Int4Weight

            return Int4Weight(weight.qdata, weight.scale_and_zero, weight.block_size, weight.shape)

        return _torchao.quantize(
            name,
            artifact,
            context,
            options,
            kinds=("Linear",),
            exclude=self.exclude,
            unfit=self._unfit,
            configure=configure,
            keep=keep,
            notes=self._notes,
            train=train,
        )

    def _notes(self, dtypes: set[str]) -> tuple[str, ...]:
        kind = f"int4 weights, a scale and a zero point for each {self.group_size} of a row ({self.algorithm}); activations in float"
        if dtypes == {"bfloat16"}:
            return (kind,)
        told = "torch's int4 kernel is written for bfloat16: in float32 it is slower than float, so put the pass bfloat16 before this one"
        return kind, told.replace("float32", " and ".join(sorted(dtypes)), 1)

    def _unfit(self, layer: torch.nn.Module) -> str | None:
        rows, width = layer.weight.shape
        if width % self.group_size:
            return f"{width} weights a row are no multiple of {self.group_size}"
        return f"{rows} output features are no multiple of {ROWS}" if rows % ROWS else None


PLUGIN = TorchaoInt4WeightOnly
