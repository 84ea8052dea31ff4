"""How much each attention head matters to a model, told from samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.core.errors import CannotMeasure
from harness.passes import _attention, _losses, _samples
from harness.passes._attention import Attention
from harness.passes._losses import Loss

if TYPE_CHECKING:
    import torch

BATCH = 16


def by_gradient(
    module: torch.nn.Module, attentions: Sequence[Attention], inputs: Mapping[str, torch.Tensor], targets: torch.Tensor, loss: Loss
) -> dict[str, torch.Tensor]:
    """The mean over samples of |dL/dg| for a gate g = 1 on each head, scaled to length 1 in each layer (Michel et al. 2019, section 4.1).

    Raises CannotMeasure when the loss does not depend on any head.
    """
    import torch

    scores = {attention.name: torch.zeros(attention.heads) for attention in attentions}
    for start in range(0, len(targets), BATCH):
        rows = slice(start, start + BATCH)
        count = len(targets[rows])
        gates = {each.name: torch.ones(count, each.heads, dtype=each.out.weight.dtype, requires_grad=True) for each in attentions}
        with torch.enable_grad(), _attention.gated(attentions, gates):
            value = _losses.total(loss, _samples.principal(module, _samples.take(inputs, rows)), targets[rows])
            slopes = torch.autograd.grad(value, list(gates.values()), materialize_grads=True) if value.requires_grad else ()
        for name, slope in zip(gates, slopes, strict=False):
            scores[name] += slope.float().abs().sum(dim=0)
    if not sum(float(score.sum()) for score in scores.values()) > 0:  # zero and NaN alike
        raise CannotMeasure("the loss has no finite gradient with respect to any attention head", hint="use 'importance: output'")
    return _scaled(scores)


def by_output(module: torch.nn.Module, attentions: Sequence[Attention], inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The mean over tokens of the length of what each head adds to the residual stream, scaled to length 1 in each layer.

    Tokens that an input named ``attention_mask`` hides do not count.
    """
    import torch

    sums = {attention.name: torch.zeros(attention.heads) for attention in attentions}
    hidden = inputs.get("attention_mask")
    rows = slice(0)

    def watch(of: Attention) -> torch.utils.hooks.RemovableHandle:
        maps = of.out.weight.detach().float().reshape(of.out.out_features, of.heads, of.size)

        def note(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            context = given[0].detach().float().unflatten(-1, (of.heads, of.size))
            lengths = torch.einsum("...hs,ohs->...ho", context, maps).norm(dim=-1)
            mask = None if hidden is None else hidden[rows]
            if mask is not None and mask.shape == lengths.shape[:-1]:
                lengths = lengths * mask.unsqueeze(-1)
            sums[of.name] += lengths.flatten(0, -2).sum(dim=0)

        return of.out.register_forward_pre_hook(note)

    handles = [watch(attention) for attention in attentions]
    try:
        with torch.no_grad():
            for start in range(0, len(next(iter(inputs.values()))), BATCH):
                rows = slice(start, start + BATCH)
                _samples.principal(module, _samples.take(inputs, rows))
    finally:
        for handle in handles:
            handle.remove()
    return _scaled(sums)


def _scaled(scores: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: score / score.norm().clamp(min=1e-12) for name, score in scores.items()}
