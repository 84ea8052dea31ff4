"""What the torchao passes share: which layers to quantize, the proof that they are, and what is told about it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import BuildContext

if TYPE_CHECKING:
    import torch

Train = Callable[["torch.nn.Module", Sequence["torch.nn.Module"]], Sequence[str]]
"""Trains a module whose layers named second are to be quantized, in place, and tells what was done."""
ONCE = "a recipe quantizes once: keep one of its quantizing passes"


def quantize(
    name: str,
    artifact: ModelArtifact,
    context: BuildContext,
    options: str,
    *,
    kinds: Sequence[str],
    exclude: Sequence[str],
    unfit: Callable[[torch.nn.Module], str | None],
    configure: Callable[[], object],
    notes: Callable[[set[str]], Sequence[str]],
    keep: Callable[[torch.Tensor], torch.Tensor] | None = None,
    train: Train | None = None,
) -> ModelArtifact:
    """Quantize the weights of the layers of some ``kinds`` as a configuration of torchao's says, save, and tell what was done.

    ``unfit`` tells why a layer cannot be quantized, ``notes`` what to say of the float types that were; ``keep`` makes of a quantized
    weight the one that is saved, ``train`` comes before any is quantized. Raises CannotMeasure when no layer can be quantized, or when the
    module is already.
    """
    from harness import plugins
    from harness.formats import torch_module
    from harness.formats.torchao_tensors import bytes_of, import_quietly, quantized_weights, quiet

    for package in ("torch", "torchao"):
        plugins.require(package, plugin=name, extra="torchao")
    import_quietly()
    import torch

    module = torch_module.load(artifact)
    refuse_quantized(module)
    every = layers_of(module, [getattr(torch.nn, kind) for kind in kinds])
    if not every:
        raise CannotMeasure(f"no {' or '.join(kinds)} layer to quantize in this module", hint=f"it has {', '.join(kinds_in(module))}")
    unwanted = excluded(name, exclude, every)
    reasons = {layer: "excluded" if layer in unwanted else _unusual(module, part) or unfit(part) for layer, part in every.items()}
    left = {layer: why for layer, why in reasons.items() if why is not None}
    wanted = {layer: part for layer, part in every.items() if layer not in left}
    if not wanted:
        told = "; ".join(f"{layer}: {why}" for layer, why in left.items())
        raise CannotMeasure(f"'{name}' can quantize none of the {len(every)} {' and '.join(kinds)} layers of this module", hint=told)
    before = sum(bytes_of(part.weight) for part in wanted.values())
    dtypes = {part: part.weight.dtype for part in wanted.values()}
    trained = train(module, list(wanted.values())) if train else ()
    chosen = set(wanted.values())
    with quiet(), torch.no_grad():
        from torchao.quantization import quantize_

        quantize_(module, configure(), filter_fn=lambda part, _: part in chosen)
        for part in chosen:
            part.__dict__.pop("extra_repr", None)  # torchao's own words for print(module), which cannot be pickled
            if keep is not None:
                part.weight = torch.nn.Parameter(keep(part.weight).to(dtypes[part]), requires_grad=False)
    done = quantized_weights(module)
    assert len(done) == len(wanted), "torchao left a weight as it was"
    after = sum(bytes_of(weight) for weight in done.values())
    done_share, weights = share(kinds, len(wanted), len(every), left), f"their weights: {before:,} bytes before, {after:,} after"
    names = {str(dtype).removeprefix("torch.") for dtype in dtypes.values()}
    step = AppliedStep(name, options, (done_share, weights, *notes(names), *trained, *unreached(module)))
    with quiet():
        example = context.data("evaluation")
        return torch_module.save(module, context.folder, example=example, root=context.root, steps=(*artifact.steps, step))


def refuse_quantized(module: torch.nn.Module) -> None:
    """Raises CannotMeasure, naming the first layer, when torch or torchao has quantized this module before."""
    from harness.formats import torch_module
    from harness.formats.torchao_tensors import quantized_weights

    names = [*torch_module.quantized_layers(module), *(weight.removesuffix(".weight") for weight in quantized_weights(module))]
    if names:
        raise CannotMeasure(f"this module is already quantized (layer '{names[0]}')", hint=ONCE)


def layers_of(module: torch.nn.Module, kinds: Sequence[type[torch.nn.Module]]) -> dict[str, torch.nn.Module]:
    """The layers of some kinds by name, subclasses too: what a quantized weight does, it does in whatever forward uses it."""
    return {name: part for name, part in module.named_modules() if isinstance(part, tuple(kinds))}


def kinds_in(module: torch.nn.Module) -> list[str]:
    """The classes of a module's layers, for a refusal to name."""
    return sorted({type(part).__name__ for part in module.modules() if not list(part.children())})


def excluded(plugin: str, names: Iterable[str], layers: Mapping[str, object]) -> set[str]:
    """The layers that are named, or that are in a block that is. Raises BadInput for a name that fits none of them."""
    found: set[str] = set()
    problems = []
    for name in names:
        fitting = {layer for layer in layers if layer == name or layer.startswith(f"{name}.")}
        found |= fitting
        if not fitting:
            near = difflib.get_close_matches(name, layers, n=1)
            known = ", ".join(list(layers)[:10]) + (" ..." if len(layers) > 10 else "")
            hint = f"did you mean '{near[0]}'?" if near else f"its layers are {known}"
            problems.append(Problem(f"'{plugin}' excludes '{name}', which is none of the layers that it quantizes", hint=hint))
    if problems:
        raise BadInput(*problems)
    return found


def share(kinds: Sequence[str], done: int, total: int, left: Mapping[str, str]) -> str:
    """How many layers are quantized, and which are not, each with its reason."""
    text = f"{done} of {total} {' and '.join(kinds)} layers quantized"
    if left:
        named = [f"{name} ({why})" for name, why in list(left.items())[:5]]
        text += f"; in float: {', '.join(named)}{f' and {len(left) - 5} more' if len(left) > 5 else ''}"
    return text


def unreached(module: torch.nn.Module) -> tuple[str, ...]:
    """A note about the convolutions that stay in float."""
    import torch

    count = len(layers_of(module, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)))
    return (f"{count} convolutions left in float: pt2e_static_int8 reaches them",) if count else ()


def _unusual(module: torch.nn.Module, layer: torch.nn.Module) -> str | None:
    """Why a layer's weight is not its own to replace."""
    if "weight" not in layer._parameters:
        return "its weight is computed from other parameters"
    owners = [part for part in module.modules() for value in part._parameters.values() if value is layer.weight]
    return "shares its weight with another layer" if len(owners) > 1 else None
