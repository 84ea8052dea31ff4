"""See PruneMagnitude."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _pruning

Kind = Literal["Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Embedding"]


class PruneMagnitude(Options):
    """Set the weights of least magnitude to zero, one by one, and keep every shape.

    ``amount`` is the share of the weights that becomes zero: of all layers together (``scope: global``) or of each (``layer``). ``layers``
    are the kinds of layer, ``exclude`` names modules to leave alone, with all that is in them. Dense kernels multiply zeros as they
    multiply anything else: the model is no faster for it, and its file no smaller until something compresses it.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    amount: float = Field(0.5, gt=0, lt=1)
    scope: Literal["global", "layer"] = "global"
    layers: tuple[Kind, ...] = ("Linear", "Conv1d", "Conv2d", "Conv3d")
    exclude: tuple[str, ...] = ()

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Zero the weights for good. Raises CannotMeasure when no layer fits, or when none of its weights became zero."""
        module = _pruning.open_float("prune_magnitude", artifact)
        from torch.nn.utils import prune

        layers = _pruning.weighted_layers("prune_magnitude", module, self.layers, self.exclude)
        weights = {name: layer.weight for name, layer in layers.items()}
        before = _pruning.zeros(weights)
        if self.scope == "global":
            prune.global_unstructured([(layer, "weight") for layer in layers.values()], prune.L1Unstructured, amount=self.amount)
        else:
            for layer in layers.values():
                prune.l1_unstructured(layer, "weight", amount=self.amount)
        for layer in layers.values():
            prune.remove(layer, "weight")
        weights = {name: layer.weight for name, layer in layers.items()}
        if _pruning.zeros(weights) == before:
            raise CannotMeasure(
                f"'prune_magnitude' changed nothing: {self.amount:g} of these weights were zero before, or the layers are too small for it",
                hint="raise its 'amount'",
            )
        notes = (*_pruning.zeros_told(weights), "every shape as before: dense kernels compute with the zeros")
        return _pruning.save("prune_magnitude", self.model_dump_json(), module, artifact, context, notes)


PLUGIN = PruneMagnitude
