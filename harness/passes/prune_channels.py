"""See PruneChannels."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _attention, _pruning, _samples

if TYPE_CHECKING:
    import torch
    import torch_pruning


class PruneChannels(Options):
    """Take out whole channels, with everything that depends on them, by torch-pruning's dependency graph (Fang et al. 2023).

    ``ratio`` is the share of channels that go, of each layer (``scope: layer``) or of all together (``global``, which may leave one layer
    whole and thin another). ``importance`` ranks them: the norm of a layer's own filters (``l1``: Li et al. 2017, ``l2``), or that of all
    weights that would go with them (``group_l2``). ``round_to`` keeps a multiple of so many channels where a layer has that many. What
    decides the outputs' shape is left alone, so is the inside of an attention; ``exclude`` names further modules.
    """

    extra: ClassVar[str | None] = "pruning"
    packages: ClassVar[tuple[str, ...]] = ("torch", "torch-pruning")
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    ratio: float = Field(0.3, gt=0, lt=1)
    importance: Literal["group_l2", "l2", "l1"] = "group_l2"
    scope: Literal["layer", "global"] = "layer"
    round_to: int | None = Field(None, ge=1)
    exclude: tuple[str, ...] = ()

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Trace, rank and cut. Raises CannotMeasure when nothing can be cut, or the module does not run afterwards."""
        from harness import plugins

        plugins.require("torch_pruning", plugin="prune_channels", extra="pruning")
        module = _pruning.open_float("prune_channels", artifact)
        _pruning.check_names("prune_channels", self.exclude, dict(module.named_modules()))
        inputs = _samples.take(_samples.inputs_of(context.data("evaluation"), artifact, "evaluation"), slice(2))
        trained = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
        before, widths, work = _pruning.parameters(module), _widths(module), _macs(module, inputs)
        self._cut(module, inputs)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(trained[name])
        after, changed = _pruning.parameters(module), _changes(widths, _widths(module))
        if not changed:
            raise CannotMeasure("'prune_channels' removed no channel", hint="raise 'ratio', lower 'round_to', or exclude less")
        told = ", ".join(changed[:4])
        notes = (
            _pruning.shrunk(before, after),
            f"{work:,} multiplications a sample in convolutions and linear layers before, {_macs(module, inputs):,} after",
            f"{len(changed)} of {len(widths)} layers give fewer channels: {told}{', ...' if len(changed) > 4 else ''}",
        )
        return _pruning.save("prune_channels", self.model_dump_json(), module, artifact, context, notes)

    def _cut(self, module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> None:
        from harness.formats import torch_module

        for parameter in module.parameters():
            parameter.requires_grad_(parameter.dtype.is_floating_point)  # the graph is read from what autograd records
        shapes = {name: value.shape for name, value in torch_module.call(module, inputs).items()}
        with _quiet():
            try:
                self._pruner(module, inputs).step()
                after = {name: value.shape for name, value in torch_module.call(module, inputs).items()}
            except Exception as error:  # what the library does not foresee comes as whatever its code or the model's stumbles over
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise CannotMeasure(
                    f"torch-pruning cannot take channels out of this module: {reason}",
                    hint="name the layers in 'exclude' whose widths the model's code counts on",
                ) from error
        if after != shapes:
            name = next(name for name in shapes if after.get(name) != shapes[name])
            raise CannotMeasure(f"the output '{name}' would change its shape", hint="name the layers that make it in 'exclude'")

    def _pruner(self, module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch_pruning.pruner.BasePruner:
        """A pruner that leaves alone what is excluded, attentions, and every group of channels that reaches an output."""
        import torch
        import torch_pruning

        ends: set[object] = set()

        def outputs(returned: object) -> list[torch.Tensor]:
            from harness.formats import torch_module

            found = [value for value in torch_module.flatten(returned).values() if value.grad_fn is not None]
            ends.update(value.grad_fn for value in found)
            return found

        importance = torch_pruning.importance.GroupMagnitudeImportance(
            p=1 if self.importance == "l1" else 2, group_reduction="mean" if self.importance == "group_l2" else "first"
        )
        every = dict(module.named_modules())
        left = [every[name] for name in self.exclude]
        left += [layer for each in _attention.find(module) for layer in (each.query, each.key, each.value)]
        left += [every[name] for name in _attention.packed(module)]
        with torch.enable_grad():
            pruner = torch_pruning.pruner.BasePruner(
                module,
                dict(inputs) if len(inputs) > 1 else tuple(inputs.values()),
                importance,
                global_pruning=self.scope == "global",
                pruning_ratio=self.ratio,
                ignored_layers=left,
                round_to=self.round_to,
                output_transform=outputs,
            )
        graph = pruner.DG
        last = {node for node in graph.module2node.values() if node.grad_fn in ends}
        for group in list(graph.get_all_groups(ignored_layers=pruner.ignored_layers, root_module_types=pruner.root_module_types)):
            cut = [item.dep.target for item in group if graph.is_out_channel_pruning_fn(item.dep.handler)]
            if any(node in last for node in cut):
                pruner.ignored_layers += [node.module for node in cut]
        return pruner


def _widths(module: torch.nn.Module) -> dict[str, int]:
    """How many channels each convolution and linear layer gives."""
    return {name: layer.out_channels if hasattr(layer, "out_channels") else layer.out_features for name, layer in _layers(module).items()}


def _changes(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    return [f"'{name}' {before[name]} to {after[name]}" for name in before if after[name] != before[name]]


def _layers(module: torch.nn.Module) -> dict[str, torch.nn.Module]:
    import torch

    kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)
    return {name: part for name, part in module.named_modules() if isinstance(part, kinds)}


def _macs(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> int:
    """Multiply-accumulate operations of one sample in convolutions and linear layers; products of activations do not count."""
    from harness.formats import torch_module

    count = len(next(iter(inputs.values())))
    total = 0

    def note(layer: torch.nn.Module, given: tuple[torch.Tensor, ...], gave: torch.Tensor) -> None:
        nonlocal total
        places = given[0] if getattr(layer, "transposed", False) else gave
        total += places.numel() * layer.weight[0].numel() // count

    handles = [layer.register_forward_hook(note) for layer in _layers(module).values()]
    try:
        torch_module.call(module, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return total


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library warns and prints about what it takes for granted; the checks after it find what would be wrong with that."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


PLUGIN = PruneChannels
