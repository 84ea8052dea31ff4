"""See TorchaoInt8WeightOnly."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.core.artifact import ModelArtifact
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _torchao

if TYPE_CHECKING:
    import torch


class TorchaoInt8WeightOnly(Options):
    """Quantize the weights of Linear and Embedding layers to int8 by torchao; activations stay as they are.

    It saves memory and its traffic; the arithmetic stays in float, and it pays under the runtime torch_compile, not in eager torch.
    ``layers`` are the kinds to quantize: Linear, Embedding. ``group_size`` gives each so many weights of a row a scale of their own, in
    place of one for the whole row. ``exclude`` names layers, or blocks of them, that stay in float.
    """

    extra: ClassVar[str | None] = "torchao"
    packages: ClassVar[tuple[str, ...]] = ("torch", "torchao")
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    layers: tuple[Literal["Linear", "Embedding"], ...] = ("Linear",)
    group_size: int | None = Field(default=None, ge=2)
    exclude: tuple[str, ...] = ()

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Replace the weights. Raises CannotMeasure when there is no layer to quantize, naming what the module has."""

        def configure() -> object:
            from torchao.quantization import Int8WeightOnlyConfig, PerGroup, PerRow

            granularity = PerRow() if self.group_size is None else PerGroup(self.group_size)
            return Int8WeightOnlyConfig(granularity=granularity, set_inductor_config=False)

        scales = "row" if self.group_size is None else f"{self.group_size} weights of a row"
        return _torchao.quantize(
            "torchao_int8_weight_only",
            artifact,
            context,
            self.model_dump_json(),
            kinds=self.layers,
            exclude=self.exclude,
            unfit=self._unfit,
            configure=configure,
            notes=lambda _: (f"int8 weights, a scale for each {scales}; activations in float",),
        )

    def _unfit(self, layer: torch.nn.Module) -> str | None:
        if self.group_size is not None and (width := layer.weight.shape[-1]) % self.group_size:
            return f"{width} weights a row are no multiple of {self.group_size}"
        return None


PLUGIN = TorchaoInt8WeightOnly
