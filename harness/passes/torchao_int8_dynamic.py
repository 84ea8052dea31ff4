"""See TorchaoInt8Dynamic."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.core.artifact import ModelArtifact
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _torchao


class TorchaoInt8Dynamic(Options):
    """Quantize Linear layers by torchao: int8 weights, and activations quantized to int8 in every call.

    It pays under the runtime torch_compile, not in eager torch. ``activations`` are mapped symmetric (zero stays zero) or asymmetric (for
    what is mostly of one sign, as behind a ReLU). ``reduce_range`` gives 7 bits where a CPU without VNNI would overflow. ``exclude`` names
    layers, or blocks of them, that stay in float.
    """

    extra: ClassVar[str | None] = "torchao"
    packages: ClassVar[tuple[str, ...]] = ("torch", "torchao")
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    activations: Literal["symmetric", "asymmetric"] = "symmetric"
    reduce_range: bool = False
    exclude: tuple[str, ...] = ()

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Replace the weights. Raises CannotMeasure when there is no layer to quantize, naming what the module has."""
        return self.quantize("torchao_int8_dynamic", artifact, context, self.model_dump_json())

    def quantize(
        self, name: str, artifact: ModelArtifact, context: BuildContext, options: str, train: _torchao.Train | None = None
    ) -> ModelArtifact:
        """The same for the pass ``name``, whose options are ``options``, after training where it trains."""

        def configure() -> object:
            from torchao.quantization import Int8DynamicActivationInt8WeightConfig, MappingType

            mapping = MappingType[self.activations.upper()]
            return Int8DynamicActivationInt8WeightConfig(
                act_mapping_type=mapping, reduce_range=self.reduce_range, set_inductor_config=False
            )

        return _torchao.quantize(
            name,
            artifact,
            context,
            options,
            kinds=("Linear",),
            exclude=self.exclude,
            unfit=lambda layer: None,
            configure=configure,
            notes=lambda _: (
                f"int8 weights, a scale for each row; int8 activations, {self.activations}, a scale for each token in every call",
            ),
            train=train,
        )


PLUGIN = TorchaoInt8Dynamic
