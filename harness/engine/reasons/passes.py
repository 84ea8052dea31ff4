"""What a pass is after, told by its name and options, and what a CPU needs so that it can pay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.scenario import PluginRef

INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Flags of a CPU, as Linux names them, with products of 8-bit integers in one instruction."""
HALF_FLAGS = {
    "bfloat16": ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"),
    "float16": ("avx512_fp16", "amx_fp16", "avx_ne_convert", "fphp", "asimdhp"),
}
"""Flags of which any one means that products of this precision are not all made in float32."""
QUANTIZING = ("quantize_", "torch_dynamic_int8", "torchao_", "pt2e_", "qat", "tfmot_quantize")
PRUNING = ("prune_", "tfmot_prune_")
DYNAMIC = ("quantize_dynamic", "torch_dynamic_int8", "torchao_int8_dynamic")
"""Those that round activations in every call."""
WEIGHT_ONLY = ("torchao_int8_weight_only", "torchao_int4_weight_only")
SATURATING = ("quantize_dynamic", "quantize_static", "pt2e_", "torchao_int8_dynamic", "qat")
"""Those with the option ``reduce_range``."""
ZEROING = ("prune_magnitude", "prune_semi_structured", "tfmot_prune_")
HALVING = {"float16": "float16", "onnx_float16": "float16", "bfloat16": "bfloat16"}


def is_one_of(ref: PluginRef, names: tuple[str, ...]) -> bool:
    """Whether a pass is built in and has one of these names, or begins with one."""
    return not ref.is_file and ref.name.startswith(names)


def quantizes(ref: PluginRef) -> bool:
    """Whether a pass rounds weights to 8 bits or fewer."""
    return is_one_of(ref, QUANTIZING) or (ref.name == "convert_tflite" and ref.options.get("quantization") in ("dynamic", "int8", "qat"))


def changes_answers(ref: PluginRef) -> bool:
    """Whether a pass rounds, halves or cuts weights: what it does to the answers is its price."""
    return quantizes(ref) or is_one_of(ref, PRUNING) or half_precision(ref) is not None


def half_precision(ref: PluginRef) -> str | None:
    """The 16-bit type that a pass computes in; None for any other."""
    if ref.name == "autocast":
        return str(ref.options.get("dtype", "bfloat16"))
    return HALVING.get(ref.name)


def lacks_int8(cpu_flags: Collection[str]) -> bool:
    """Whether a CPU is known to have no instruction for products of 8-bit integers; its flags are empty where they are not known."""
    return bool(cpu_flags) and not set(INT8_FLAGS).intersection(cpu_flags)


def lacks_half(dtype: str, cpu_flags: Collection[str]) -> bool:
    """The same for a 16-bit float."""
    return bool(cpu_flags) and dtype in HALF_FLAGS and not set(HALF_FLAGS[dtype]).intersection(cpu_flags)


def listed(names: Sequence[str], most: int = 3) -> str:
    """``a, b, c and 4 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
