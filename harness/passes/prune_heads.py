"""See PruneHeads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.core.artifact import Dataset, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _attention, _head_importance, _losses, _pruning, _samples
from harness.passes._attention import Attention
from harness.passes._losses import Loss

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-3
"""What rounding may make of a removed head against one that is only silenced; for half precision 30 times as much."""


class PruneHeads(Options):
    """Take out the attention heads that matter least: queries, keys, values and outputs really become smaller.

    ``ratio`` is the share of heads that go, of all layers together (``scope: global``) or of each (``layer``); ``heads`` is how many each
    layer keeps, in place of it. At least one stays everywhere. How much a head matters is found on the first ``samples`` of the scenario's
    ``data.calibration``: by the gradient of the loss with respect to a gate on the head where there are targets (Michel et al. 2019), by
    the length of what the head adds to the residual stream where there are none. ``importance`` chooses one, ``loss`` the loss.
    Encoders of transformers are known (BERT, DistilBERT, ViT and those built alike); ``exclude`` names modules to leave alone.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation", "calibration")

    ratio: float = Field(0.25, gt=0, lt=1)
    heads: int | None = Field(None, ge=1)
    scope: Literal["global", "layer"] = "global"
    importance: Literal["auto", "gradient", "output"] = "auto"
    loss: Loss = "auto"
    samples: int = Field(256, ge=1)
    exclude: tuple[str, ...] = ()

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Score, choose, remove, and prove the module equal to the one whose heads are only silenced.

        Raises CannotMeasure without a known attention, with nothing to remove, or when that proof fails.
        """
        module = _pruning.open_float("prune_heads", artifact)
        attentions = _attentions(module, self.exclude)
        scores, how = self._scores(module, attentions, artifact, context.data("calibration"))
        kept = self._chosen(attentions, scores)
        inputs = _samples.take(_samples.inputs_of(context.data("evaluation"), artifact, "evaluation"), slice(4))
        before, total = _pruning.parameters(module), sum(attention.heads for attention in attentions)
        expected = _silenced(module, attentions, kept, inputs)
        for attention in attentions:
            _attention.keep(attention, kept[attention.name])
        _check_equal(module, inputs, expected)
        told = ", ".join(f"{name or 'the module'} {len(heads)}" for name, heads in list(kept.items())[:12])
        notes = (
            f"{sum(map(len, kept.values()))} of {total} heads kept ({told}{', ...' if len(kept) > 12 else ''})",
            _pruning.shrunk(before, _pruning.parameters(module)),
            f"importance: {how}",
        )
        return _pruning.save("prune_heads", self.model_dump_json(), module, artifact, context, notes)

    def _scores(
        self, module: torch.nn.Module, attentions: Sequence[Attention], artifact: ModelArtifact, data: Dataset
    ) -> tuple[dict[str, torch.Tensor], str]:
        inputs, targets = _samples.inputs_of(data, artifact, "calibration"), _samples.targets_of(data)
        inputs = _samples.take(inputs, slice(self.samples))
        count = min(self.samples, data.count)
        if self.importance == "output" or (self.importance == "auto" and targets is None):
            return _head_importance.by_output(module, attentions, inputs), f"length of each head's output over {count} samples"
        if targets is None:
            raise CannotMeasure(
                "data.calibration has no targets, which the gradient needs", hint="give targets, or use 'importance: output'"
            )
        targets = targets[: self.samples]
        few = slice(2)
        outputs = _samples.answers(module, _samples.take(inputs, few), 2)
        loss = _losses.choose(self.loss, outputs, targets[few])
        _losses.check_labels(loss, outputs.shape[-1], targets)
        return _head_importance.by_gradient(module, attentions, inputs, targets, loss), f"gradient of {loss} over {count} samples"

    def _chosen(self, attentions: Sequence[Attention], scores: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
        """The heads that stay, by attention. Of equal scores the later head goes first."""
        points = {each.name: scores[each.name].tolist() for each in attentions}
        ranked = {name: sorted(range(len(given)), key=lambda head: (given[head], -head)) for name, given in points.items()}
        if self.heads is not None:
            gone = {name: order[: max(0, len(order) - self.heads)] for name, order in ranked.items()}
        elif self.scope == "layer":
            gone = {name: order[: min(round(self.ratio * len(order)), len(order) - 1)] for name, order in ranked.items()}
        else:
            spare = [(points[name][head], place, head) for place, (name, order) in enumerate(ranked.items()) for head in order[:-1]]
            count = round(self.ratio * sum(map(len, ranked.values())))
            names = list(ranked)
            gone = {name: [] for name in names}
            for _, place, head in sorted(spare)[:count]:
                gone[names[place]].append(head)
        if not any(gone.values()):
            total = sum(each.heads for each in attentions)
            raise CannotMeasure(
                f"'prune_heads' would remove none of {total} heads in {len(attentions)} layers", hint="raise 'ratio', or lower 'heads'"
            )
        return {name: [head for head in range(len(order)) if head not in gone[name]] for name, order in ranked.items()}


def _attentions(module: torch.nn.Module, exclude: Sequence[str]) -> list[Attention]:
    _pruning.check_names("prune_heads", exclude, dict(module.named_modules()))
    found = [each for each in _attention.find(module) if not _pruning.matches(each.name, exclude)]
    if found:
        return found
    if packed := [name for name in _attention.packed(module) if not _pruning.matches(name, exclude)]:
        raise CannotMeasure(
            f"'{packed[0]}' is a torch.nn.MultiheadAttention, whose heads always fill its whole width: none can be removed",
            hint="build the model with a linear layer each for queries, keys, values and the output, as transformers does",
        )
    kinds = sorted({type(part).__name__ for part in module.modules() if "attention" in type(part).__name__.lower()})
    told = f"its attentions are {', '.join(kinds)}" if kinds else "it has no module that calls itself an attention"
    raise CannotMeasure("no attention of a known layout in this module", hint=told)


def _silenced(
    module: torch.nn.Module, attentions: Sequence[Attention], kept: Mapping[str, Sequence[int]], inputs: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """What the whole module answers when the heads that are to go give zero."""
    import torch

    gates = {}
    for each in attentions:
        gates[each.name] = torch.zeros(each.heads, dtype=each.out.weight.dtype)
        gates[each.name][list(kept[each.name])] = 1
    with torch.no_grad(), _attention.gated(attentions, gates):
        return _samples.principal(module, inputs)


def _check_equal(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], expected: torch.Tensor) -> None:
    import torch

    advice = "this attention does more with its heads than split and join them: name it in 'exclude'"
    try:
        with torch.no_grad():
            got = _samples.principal(module, inputs)
    except (RuntimeError, ValueError, AttributeError) as error:
        raise CannotMeasure(f"the module does not run without the heads: {str(error).splitlines()[0]}", hint=advice) from error
    difference = float((got - expected).abs().max() / expected.abs().max().clamp(min=1)) if got.shape == expected.shape else float("inf")
    if not difference <= (TOLERANCE if expected.dtype is torch.float32 else 30 * TOLERANCE):
        raise CannotMeasure(f"without the heads the module differs by {difference:.3g} from one whose heads are silenced", hint=advice)


PLUGIN = PruneHeads
