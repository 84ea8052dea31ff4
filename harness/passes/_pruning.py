"""What the pruning passes share: which layers they touch, what they leave alone, and how they tell what was done."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import BuildContext

if TYPE_CHECKING:
    import torch


def open_float(name: str, artifact: ModelArtifact) -> torch.nn.Module:
    """The artifact's module. Raises CannotMeasure when a layer of it is quantized: what is pruned are float weights."""
    from harness import plugins
    from harness.formats import torch_module

    plugins.require("torch", plugin=name, extra="torch")
    import torch

    module = torch_module.load(artifact)
    layers = [*torch_module.quantized_layers(module)]
    layers += [key.rpartition(".")[0] for key, value in module.named_parameters() if type(value.data) is not torch.Tensor]
    if layers:
        raise CannotMeasure(f"layer '{layers[0]}' is quantized, and '{name}' works on float weights", hint="put it before what quantizes")
    return module


def save(
    name: str, options: str, module: torch.nn.Module, artifact: ModelArtifact, context: BuildContext, notes: Sequence[str]
) -> ModelArtifact:
    """Write the module as the next artifact. Raises CannotMeasure when it no longer answers in the shapes that it answered in before."""
    from harness.formats import torch_module

    example = context.data("evaluation")
    step = AppliedStep(name, options, tuple(notes))
    made = torch_module.save(module, context.folder, example=example, root=context.root, steps=(*artifact.steps, step))
    if (made.inputs, made.outputs) != (artifact.inputs, artifact.outputs):
        told = ", ".join(f"{spec.name} {list(spec.shape[1:])}" for spec in artifact.outputs)
        raise CannotMeasure(f"'{name}' would change what goes in or comes out of the model, which was: {told}")
    return made


def matches(name: str, exclude: Sequence[str]) -> bool:
    """Whether a module is one of those to leave alone, or inside one."""
    return any(name == left or name.startswith(f"{left}.") for left in exclude)


def check_names(name: str, exclude: Sequence[str], known: Collection[str]) -> None:
    """Raises BadInput for every name to leave alone that the module does not have."""
    problems = []
    listed = [part for part in known if part]  # the whole module is called ''
    for unknown in (left for left in exclude if left not in listed):
        near = difflib.get_close_matches(unknown, listed, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"its modules are {', '.join(listed[:10])}{' ...' if len(listed) > 10 else ''}"
        problems.append(Problem(f"'{name}' excludes '{unknown}', which is not in this module", hint=hint))
    if problems:
        raise BadInput(*problems)


def weighted_layers(name: str, module: torch.nn.Module, kinds: Sequence[str], exclude: Sequence[str]) -> dict[str, torch.nn.Module]:
    """The layers of these kinds (names in torch.nn) whose weights are to be pruned; a weight that two layers share comes once.

    Raises BadInput for an unknown name in ``exclude``; CannotMeasure without such a layer, or when its weight is made of other parameters.
    """
    import torch

    every = dict(module.named_modules())
    check_names(name, exclude, every)
    types = tuple(getattr(torch.nn, kind) for kind in kinds)
    found: dict[str, torch.nn.Module] = {}
    seen: set[int] = set()
    for key, part in every.items():
        if not isinstance(part, types) or matches(key, exclude):
            continue
        weight = part._parameters.get("weight")
        if weight is None:
            hint = f"make that permanent where the model is made, or add 'exclude: [{key}]'"
            raise CannotMeasure(f"the weight of layer '{key}' is computed from other parameters", hint=hint)
        if id(weight) not in seen:
            seen.add(id(weight))
            found[key] = part
    if not found:
        leaves = sorted({type(part).__name__ for part in every.values() if not list(part.children())})
        left = " beside those that are excluded" if exclude else ""
        raise CannotMeasure(f"no {' or '.join(kinds)} layer to prune in this module{left}", hint=f"it has {', '.join(leaves)}")
    return found


def zeros(weights: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """The share of zeros in each weight."""
    return {name: int((weight == 0).sum()) / weight.numel() for name, weight in weights.items()}


def zeros_told(weights: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """The share of zeros over all weights, and the layers that have most and fewest of them."""
    shares = zeros(weights)
    total = sum(weight.numel() for weight in weights.values())
    overall = sum(share * weights[name].numel() for name, share in shares.items()) / total
    told = f"{overall:.1%} of {total:,} weights in {len(weights)} layers are zero"
    if max(shares.values()) - min(shares.values()) < 0.0005:
        return (told,)
    most, least = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    return told, f"most in '{most}' ({shares[most]:.1%}), fewest in '{least}' ({shares[least]:.1%})"


def parameters(module: torch.nn.Module) -> int:
    """How many parameters a module has; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def shrunk(before: int, after: int) -> str:
    """Two counts and what is gone between them."""
    return f"{before:,} parameters before, {after:,} after ({(before - after) / before:.1%} fewer)"
