"""How a saved module says in which precision it computes: by what stands in place of its ``forward``.

The replacement is a ``functools.partial`` over one of the functions below, held by the module itself: it is pickled with it, keeps the
names of its layers, and torch.export and torch.compile see through it. Hooks would not do: they are numbered by a counter that starts anew
in every process, so a hook that is registered on an opened module could overwrite one that came with it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

WHOLE = ("float32", "float64", "float16", "bfloat16")
"""The dtypes in which inputs may be given; 8-bit floats hold weights only."""
INSTRUCTIONS = {
    "bfloat16": ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"),
    "float16": ("avx512_fp16", "amx_fp16", "avx_ne_convert", "fphp", "asimdhp"),
}
"""CPU flags, as Linux names them, of which any one means that products of this precision are not all emulated through float32."""


def cast_around(module: torch.nn.Module, inputs: str, outputs: str | None) -> None:
    """Let a module take floating tensors of any precision as ``inputs`` and give them as ``outputs`` (None: as they come)."""
    replace_forward(module, _cast, inputs, outputs)


def autocast_around(module: torch.nn.Module, dtype: str) -> None:
    """Run a module's forward under torch.autocast of the device that its first tensor is on."""
    replace_forward(module, _autocast, dtype)


def replace_forward(module: torch.nn.Module, function: Callable[..., object], *options: str | None) -> None:
    """Let ``function(forward, *options, *args, **kwargs)`` stand in place of a module's forward. To be saved, it is at a file's top."""
    before = module.forward
    after = functools.partial(function, before, *options)
    after.__wrapped__ = before  # type: ignore[attr-defined]  # so that inspect.signature, and with it torch.export, sees the arguments
    module.forward = after


def autocast_of(module: torch.nn.Module) -> str | None:
    """The dtype that a module's forward is autocast to; None where it is not."""
    found = _replacement(module, _autocast)
    return None if found is None else str(found.args[1])


def casts_inputs(module: torch.nn.Module) -> bool:
    """Whether a module sees to the precision of its inputs itself."""
    return _replacement(module, _cast) is not None


def input_dtype(module: torch.nn.Module) -> torch.dtype:
    """The dtype that a module takes floating inputs in: that of its first floating parameter, as transformers has it.

    float32 where it casts them itself, or has no parameter that would say.
    """
    import torch

    if casts_inputs(module):
        return torch.float32
    known = [getattr(torch, name) for name in WHOLE]
    return next((parameter.dtype for parameter in module.parameters() if parameter.dtype in known), torch.float32)


def cpu_flags() -> frozenset[str] | None:
    """What the CPU can do, in the words of /proc/cpuinfo; None where the system does not say so."""
    if sys.platform != "linux":
        return None
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return None


def emulation(dtype: str) -> str | None:
    """A warning where this CPU has no instructions for ``dtype``; None where it has, or does not say."""
    flags = cpu_flags()
    if flags is None or dtype not in INSTRUCTIONS or flags.intersection(INSTRUCTIONS[dtype]):
        return None
    return f"this CPU has no {dtype} instructions ({', '.join(INSTRUCTIONS[dtype][:2])}): it computes them through float32, often slower"


def _replacement(module: torch.nn.Module, function: Callable[..., object]) -> functools.partial[object] | None:
    """The replacement of a module's forward by ``function``, however many lie over each other."""
    found = getattr(module, "forward", None)
    while isinstance(found, functools.partial) and found.func is not function:
        found = found.args[0] if found.args else None
    return found if isinstance(found, functools.partial) else None


def _cast(forward: Callable[..., object], inputs: str, outputs: str | None, /, *args: object, **kwargs: object) -> object:
    import torch
    from torch.utils._pytree import tree_map_only

    wanted = getattr(torch, inputs)
    args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.to(wanted) if tensor.is_floating_point() else tensor, (args, kwargs))
    given = forward(*args, **kwargs)
    if outputs is None:
        return given
    back = getattr(torch, outputs)
    return tree_map_only(torch.Tensor, lambda tensor: tensor.to(back) if tensor.is_floating_point() else tensor, given)


def _autocast(forward: Callable[..., object], dtype: str, /, *args: object, **kwargs: object) -> object:
    import torch

    device = next((value.device.type for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), "cpu")
    # a trace would note the cache's entries and not where they came from
    with torch.autocast(device, getattr(torch, dtype), cache_enabled=not torch.jit.is_tracing()):
        return forward(*args, **kwargs)
