"""What the passes that change a torch module's precision or compile it share: naming layers, calling, comparing."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure, Problem

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

FAILURES = (RuntimeError, TypeError, ValueError, NotImplementedError)
"""What torch raises where dtypes or operators do not fit."""
SAMPLES = 8
"""How many evaluation samples a changed module is compared with the unchanged one on."""


def matching(plugin: str, option: str, patterns: Sequence[str], module: torch.nn.Module) -> list[str]:
    """The layers that patterns (``encoder.*``) name, with all below them. Raises BadInput for one that matches none."""
    known = [name for name, _ in module.named_modules() if name]
    found: set[str] = set()
    problems = []
    for pattern in patterns:
        hits = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
        found.update(hits)
        if not hits:
            near = difflib.get_close_matches(pattern, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"its layers are {listed(known)}"
            problems.append(Problem(f"'{plugin}' is told {option} '{pattern}', which names no layer of this module", hint=hint))
    if problems:
        raise BadInput(*problems)
    return [name for name in known if name in found]


def norms(module: torch.nn.Module) -> list[str]:
    """Normalisation layers, of torch or not: those without layers of their own whose class says so."""
    return [
        name
        for name, part in module.named_modules()
        if name and not list(part.children()) and re.search(r"norm", type(part).__name__, re.IGNORECASE)
    ]


def outermost(names: Sequence[str]) -> list[str]:
    """Names that do not lie below another of them."""
    every = set(names)
    return [name for name in names if not any(".".join(name.split(".")[:end]) in every for end in range(1, name.count(".") + 1))]


def refuse_quantized(plugin: str, module: torch.nn.Module) -> None:
    """Raise CannotMeasure where a layer's weights are no longer plain tensors."""
    import torch

    from harness.formats import torch_module

    packed = list(torch_module.quantized_layers(module))
    packed += [name.rpartition(".")[0] for name, value in module.named_parameters() if type(value.data) is not torch.Tensor]
    if packed:
        raise CannotMeasure(
            f"'{plugin}' cannot change layer '{packed[0]}': it is quantized", hint=f"put {plugin} before the quantizing pass"
        )


def tensors(data: Dataset, size: int, start: int = 0) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(values) for name, values in data.batch(start, size).items()}


def fitting_tensors(module: torch.nn.Module, data: Dataset, size: int, start: int = 0) -> dict[str, torch.Tensor]:
    """The same in the dtype that the module takes, for a bare call."""
    from harness.formats.precision import input_dtype

    dtype = input_dtype(module)
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors(data, size, start).items()}


def give_plain_outputs(module: torch.nn.Module) -> None:
    """Let a module give a tensor, a tuple or a dict of tensors where it gave a class of its own, which no compiler knows."""
    from harness.formats.precision import replace_forward

    replace_forward(module, _plain)


def _plain(forward: Callable[..., object], /, *args: object, **kwargs: object) -> object:
    import torch

    outputs = forward(*args, **kwargs)
    if isinstance(outputs, Mapping):
        return {str(name): value for name, value in outputs.items() if isinstance(value, torch.Tensor)}
    if isinstance(outputs, Sequence):
        return tuple(value for value in outputs if isinstance(value, torch.Tensor))
    return outputs


def computes_in_half(module: torch.nn.Module) -> bool:
    """Whether answers are as rough as half precision makes them."""
    import torch

    from harness.formats.precision import autocast_of

    return autocast_of(module) is not None or bool({value.dtype for value in module.parameters()} & {torch.float16, torch.bfloat16})


def answers(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> tuple[NDArray[np.generic], ...]:
    """A module's outputs as arrays, the principal one first."""
    from harness.formats import torch_module

    return torch_module.arrays(torch_module.call(module, inputs))


def difference(expected: Sequence[NDArray[np.generic]], got: Sequence[NDArray[np.generic]]) -> float:
    """The largest difference of any output, relative to that output's largest value (absolute below 1); inf where shapes differ."""
    import numpy as np

    if [value.shape for value in expected] != [value.shape for value in got]:
        return float("inf")
    worst = [0.0]
    for old, new in zip(expected, got, strict=True):
        if old.size and np.issubdtype(old.dtype, np.inexact):
            wide = old.astype(np.float64)
            worst.append(float(np.abs(new.astype(np.float64) - wide).max() / max(1.0, float(np.abs(wide).max()))))
    return float(np.max(worst))  # unlike the built-in, this one does not lose a NaN


def answers_after(plugin: str, module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], hint: str) -> tuple[NDArray[np.generic], ...]:
    """A changed module's answers. Raises CannotMeasure when it no longer runs, naming the innermost layer that fails."""
    try:
        return answers(module, inputs)
    except FAILURES as error:
        where = f"in layer '{layer}'" if (layer := _failing_layer(module, inputs)) else "in the model's own forward"
        raise CannotMeasure(f"after '{plugin}' the module no longer runs ({where}): {first_line(error)}", hint=hint) from error


def _failing_layer(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> str:
    """Called again with hooks on every layer: a second time only, because torch leaves its fused paths where there are hooks."""
    inside: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: inside.append(name)

    def leave(*_: object) -> None:
        inside.pop()

    handles = [part.register_forward_pre_hook(enter(name)) for name, part in module.named_modules()]
    handles += [part.register_forward_hook(leave) for part in module.modules()]
    try:
        answers(module, inputs)
    except FAILURES:
        return inside[-1] if inside else ""
    finally:
        for handle in handles:
            handle.remove()
    return ""


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def listed(names: Sequence[str], most: int = 5) -> str:
    return f"{', '.join(names[:most])}{' ...' if len(names) > most else ''}"
