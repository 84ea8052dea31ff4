"""What bfloat16 and float16 share: casting a module's weights, and keeping it in one piece around the layers that stay in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext
from harness.passes import _torch_layers as layers

if TYPE_CHECKING:
    import torch


def cast(
    dtype: str, artifact: ModelArtifact, context: BuildContext, options: str, keep: tuple[str, ...], keep_norms: bool
) -> ModelArtifact:
    """Cast every floating weight and buffer but those of the layers to keep; inputs and outputs of the module stay float32.

    Raises CannotMeasure where nothing is left to cast, where a value leaves the range of ``dtype``, or where the module does not run.
    """
    from harness import plugins
    from harness.formats import precision, torch_module

    plugins.require("torch", plugin=dtype, extra="torch")
    import numpy as np

    module = torch_module.load(artifact)
    layers.refuse_quantized(dtype, module)
    kept = layers.matching(dtype, "to keep", keep, module) + (layers.norms(module) if keep_norms else [])
    if keep_norms and not layers.norms(module):
        raise CannotMeasure(f"'{dtype}' is told to keep_norms and this module has no normalisation layer", hint="leave the option out")
    data = context.data("evaluation")
    inputs = layers.tensors(data, min(layers.SAMPLES, data.count))
    expected = layers.answers(module, inputs)
    wide = layers.outermost(sorted(set(kept) | _tied_to(module, kept)))
    last = _giving_the_outputs(module, wide, inputs)
    counts = _Counts()
    before = _dtypes_of(module)
    _cast_weights(module, dtype, wide, counts)
    if counts.cast == 0:
        hint = f"kept in float32: {layers.listed(wide)}" if wide else f"its weights are in {before}"
        raise CannotMeasure(f"'{dtype}' found no weights to cast in this module", hint=hint)
    for name in wide:
        precision.cast_around(module.get_submodule(name), "float32", None if name in last else dtype)
    precision.cast_around(module, dtype, "float32")
    got = layers.answers_after(dtype, module, inputs, f"keep that layer in float32: {dtype}: {{keep: [...]}}")
    if not all(np.isfinite(value).all() for value in got if np.issubdtype(value.dtype, np.inexact)):
        raise CannotMeasure(
            f"in {dtype} this module gives NaN or infinity, first in layer '{_first_not_finite(module, inputs)}'",
            hint=f"keep that layer in float32 ({dtype}: {{keep: [...]}})" + ("" if dtype == "bfloat16" else ", or use bfloat16"),
        )
    notes = [counts.told(dtype, wide), f"largest difference {layers.difference(expected, got):.2g} of the largest output"]
    if counts.vanished:
        notes.append(f"{counts.vanished:,} weights became zero: they are below what {dtype} can hold")
    if warning := precision.emulation(dtype):
        notes.append(f"where it was built, {warning}")
    step = AppliedStep(dtype, options, tuple(notes))
    return torch_module.save(module, context.folder, example=data, root=context.root, steps=(*artifact.steps, step))


def _dtypes_of(module: torch.nn.Module) -> str:
    """The dtypes of a module's weights, in words."""
    return ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in module.parameters()})) or "no tensor at all"


class _Counts:
    """What was cast: values, those left in float32, those that became zero, and bytes before and after."""

    def __init__(self) -> None:
        self.cast = self.left = self.vanished = self.before = self.after = 0

    def told(self, dtype: str, kept: list[str]) -> str:
        text = f"{self.cast:,} of {self.cast + self.left:,} values cast to {dtype}, {self.before:,} bytes to {self.after:,}"
        return text + (f"; in float32: {layers.listed(kept)} ({self.left:,} values)" if kept else "")


def _cast_weights(module: torch.nn.Module, dtype: str, kept: list[str], counts: _Counts) -> None:
    """In place, each tensor once, so that tied weights stay tied."""
    import torch

    wanted = getattr(torch, dtype)
    done: set[int] = set()
    for name, part in module.named_modules():
        stays = any(name == top or name.startswith(f"{top}.") for top in kept)
        target = torch.float32 if stays else wanted
        owned = {**dict(part.named_parameters(recurse=False)), **dict(part.named_buffers(recurse=False))}
        for key, tensor in owned.items():
            if id(tensor) in done or not tensor.is_floating_point():
                continue
            done.add(id(tensor))
            counts.before += tensor.nbytes
            old = tensor.detach()
            new = old.to(target)
            if lost := int((old.isfinite() & ~new.isfinite()).sum()):
                raise CannotMeasure(
                    f"{lost} of {old.numel()} values of '{f'{name}.{key}'.strip('.')}' lie beyond the range of {dtype}",
                    hint=f"keep that layer in float32 ({dtype}: {{keep: [{name or key}]}}), or use bfloat16",
                )
            if stays:
                counts.left += old.numel()
            elif old.dtype != wanted:
                counts.cast += old.numel()
                counts.vanished += int(((new == 0) & (old != 0)).sum())
            tensor.data = new
            counts.after += new.nbytes


def _tied_to(module: torch.nn.Module, kept: list[str]) -> set[str]:
    """Other layers that hold a weight of a layer to keep: one tensor has one precision."""
    held = {id(value) for name in kept for value in module.get_submodule(name).parameters()}
    owners = ((name, part.parameters(recurse=False)) for name, part in module.named_modules(remove_duplicate=False))
    return {name for name, own in owners if name and held.intersection(map(id, own))}


def _giving_the_outputs(module: torch.nn.Module, kept: list[str], inputs: dict[str, torch.Tensor]) -> set[str]:
    """Kept layers whose output is the model's: rounding that to half precision would undo what they are kept for."""
    given = _outputs_of(module, kept, inputs) if kept else {"": []}
    final = given.pop("")
    return {name for name, values in given.items() if any(value is other for value in values for other in final)}


def _first_not_finite(module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> str:
    names = [name for name, part in module.named_modules() if name and not list(part.children())]
    given = _outputs_of(module, names, inputs)
    given.pop("")
    bad = (name for name, values in given.items() if any(value.is_floating_point() and not value.isfinite().all() for value in values))
    return next(bad, "the model itself")


def _outputs_of(module: torch.nn.Module, names: list[str], inputs: dict[str, torch.Tensor]) -> dict[str, list[torch.Tensor]]:
    """The tensors that layers give, in the order in which they are called; the model's own under the name ''."""
    import torch
    from torch.utils._pytree import tree_leaves

    from harness.formats import torch_module

    given: dict[str, list[torch.Tensor]] = {}

    def noting(name: str) -> Callable[..., None]:
        def note(_: object, __: object, output: object) -> None:
            given.setdefault(name, []).extend(value for value in tree_leaves(output) if isinstance(value, torch.Tensor))

        return note

    handles = [module.get_submodule(name).register_forward_hook(noting(name)) for name in names]
    try:
        outputs = torch_module.call(module, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {**given, "": list(outputs.values())}
