"""See PruneSemiStructured."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _pruning

if TYPE_CHECKING:
    import torch


class PruneSemiStructured(Options):
    """Set two of every four neighbouring weights along the input axis to zero: the 2:4 pattern of sparse tensor cores.

    The two of least magnitude go (Mishra et al. 2021). ``layers`` are the kinds of layer; of a convolution the input axis is that of its
    input channels, at each place of the kernel. A layer whose input axis is no multiple of four stays dense and is named. The artifact
    holds dense weights with that pattern: a CPU, and a GPU that is not told to use it, compute with the zeros.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    layers: tuple[Literal["Linear", "Conv1d", "Conv2d", "Conv3d"], ...] = ("Linear",)
    exclude: tuple[str, ...] = ()

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Zero the weights. Raises CannotMeasure when no layer's input axis divides by four, or all have the pattern already."""
        module = _pruning.open_float("prune_semi_structured", artifact)
        import torch

        layers = _pruning.weighted_layers("prune_semi_structured", module, self.layers, self.exclude)
        fit = {name: layer for name, layer in layers.items() if layer.weight.shape[1] % 4 == 0}
        dense = [f"'{name}' ({layer.weight.shape[1]} inputs)" for name, layer in layers.items() if name not in fit]
        if not fit:
            raise CannotMeasure(f"no layer here has an input axis that divides by four: {', '.join(dense[:5])}")
        changed = 0
        with torch.no_grad():
            for layer in fit.values():
                pruned = two_of_four(layer.weight)
                changed += int((pruned != layer.weight).sum())
                layer.weight.copy_(pruned)
        if not changed:
            raise CannotMeasure(f"'prune_semi_structured' changed nothing: all of {len(fit)} layers have the 2:4 pattern already")
        notes = [f"{len(fit)} of {len(layers)} layers are 2:4", *_pruning.zeros_told({name: layer.weight for name, layer in fit.items()})]
        if dense:
            notes.append(f"left dense: {', '.join(dense[:5])}{' ...' if len(dense) > 5 else ''}")
        notes.append("stored dense: only kernels for 2:4 weights skip the zeros")
        return _pruning.save("prune_semi_structured", self.model_dump_json(), module, artifact, context, notes)


def two_of_four(weight: torch.Tensor) -> torch.Tensor:
    """Of each four neighbours along axis 1 the two of greatest magnitude, and zeros in place of the others; of equals the first stay."""
    import torch

    moved = weight.movedim(1, -1)
    groups = moved.reshape(-1, 4)
    least = groups.abs().argsort(dim=1, descending=True, stable=True)[:, 2:]
    return groups.scatter(1, least, torch.zeros_like(groups)).reshape(moved.shape).movedim(-1, 1)


PLUGIN = PruneSemiStructured
