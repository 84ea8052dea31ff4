"""Why a recipe is no quicker than its reference: from both profiles, the session's own facts, the passes and the CPU's flags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.profile import OperatorTime, Profile, by_kind, changes
from harness.engine.reasons.passes import (
    DYNAMIC,
    HALF_FLAGS,
    INT8_FLAGS,
    WEIGHT_ONLY,
    ZEROING,
    half_precision,
    is_one_of,
    lacks_half,
    lacks_int8,
    listed,
    quantizes,
)

if TYPE_CHECKING:
    from harness.core.measurement import SessionFacts
    from harness.core.scenario import PluginRef

MOST_REASONS = 4
TELLING_SHARE = 0.08
"""Less than this share of a query's time explains nothing."""
MOST_OF_IT = 0.6
LARGE_SHARE = 0.25
"""What a recipe has in common with its reference must take as much of its time to hold it back."""
CONVERSIONS = {
    **dict.fromkeys(
        ("QuantizeLinear", "DequantizeLinear", "FakeQuantize", "aten::quantize_per_tensor", "aten::dequantize"), "between float and int8"
    ),
    **dict.fromkeys(
        (
            "quantized_decomposed::quantize_per_tensor",
            "quantized_decomposed::dequantize_per_tensor",
            "quantized_decomposed::dequantize_per_channel",
        ),
        "between float and int8",
    ),
    **dict.fromkeys(("DynamicQuantizeLinear", "aten::quantize_per_tensor_dynamic"), "of activations to int8, anew in every call"),
    **dict.fromkeys(("Cast", "Convert", "aten::_to_copy", "aten::to", "aten::copy_"), "or copies between number formats"),
    **dict.fromkeys(("ReorderInput", "ReorderOutput", "Reorder", "Transpose", "aten::contiguous", "aten::clone"), "between memory layouts"),
    **dict.fromkeys(("MemcpyToHost", "MemcpyFromHost", "Memcpy HtoD", "Memcpy DtoH"), "between host and device"),
}
FLOAT_PRODUCTS = frozenset(
    {"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "LSTM", "GRU", "RNN"}
    | {"aten::addmm", "aten::mm", "aten::bmm", "aten::mkldnn_convolution", "aten::_slow_conv2d_forward", "mkldnn::_convolution_pointwise"}
)
"""Operators that multiply by weights in floating point, as ONNX Runtime and PyTorch call them when they have run."""
NO_INT8_KERNEL = frozenset(
    {"Softmax", "LogSoftmax", "LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization", "InstanceNormalization"}
    | {"Gelu", "FastGelu", "BiasGelu", "QuickGelu", "Erf", "Tanh", "Exp", "Pow", "Softplus", "MVN", "Swish", "HSwish"}
    | {"aten::_softmax", "aten::native_layer_norm", "aten::gelu", "aten::tanh", "aten::silu", "aten::native_group_norm"}
)
"""Operators that these libraries compute in floating point, whatever is around them."""
QUANTIZES_INSIDE = ("quantized::linear_dynamic", "quantized::quantized_lstm_cell_dynamic", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM")
TOLD_OTHERWISE = {*CONVERSIONS, *FLOAT_PRODUCTS, *QUANTIZES_INSIDE}
_NOT_FUSED = re.compile(r"\d+ of \d+ quantized nodes run in ")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a recipe and its reference. Profiles and facts are None, and flags empty, where they are not known."""

    reference: Profile | None
    recipe: Profile | None
    passes: Sequence[PluginRef] = ()
    cpu_flags: Collection[str] = ()
    batch_size: int = 1
    facts: SessionFacts | None = None

    @property
    def is_int8(self) -> bool:
        return any(quantizes(ref) for ref in self.passes)


def reasons(evidence: Evidence) -> list[str]:
    """What the evidence says, what takes the largest share of a query's time first; at most four sentences."""
    profiled = [] if evidence.recipe is None else [*_from_profiles(evidence.reference, evidence.recipe, evidence)]
    if evidence.recipe is not None and evidence.reference is not None:
        profiled += _from_other_operators(evidence.reference, evidence.recipe, alone=not profiled)
    return [*profiled, *_from_the_machine(evidence)][:MOST_REASONS]


def _from_profiles(reference: Profile | None, recipe: Profile, evidence: Evidence) -> Iterator[str]:
    yield from _conversions(reference, recipe)
    if evidence.is_int8:
        yield from _not_int8(recipe, evidence)
    yield from _outside(recipe, evidence.batch_size)


def _conversions(reference: Profile | None, recipe: Profile) -> Iterator[str]:
    """Time that goes into conversions which the reference has less of."""
    before = _shares(reference) if reference is not None else Counter[str]()
    calls = {one.kind: one.calls / recipe.queries for one in by_kind(recipe).operators}
    spent: Counter[str] = Counter()
    kinds: dict[str, list[str]] = {}
    for kind, share in _shares(recipe).items():
        if kind in CONVERSIONS and share > before[kind]:
            spent[CONVERSIONS[kind]] += share - before[kind]
            kinds.setdefault(CONVERSIONS[kind], []).append(kind)
    for what, share in spent.most_common():
        if share >= TELLING_SHARE:
            named = ", ".join(f"{calls[kind]:.3g} {kind}" for kind in sorted(kinds[what]))
            yield f"{100 * share:.0f} % of its time are conversions {what} ({named} in a query)"


def _not_int8(recipe: Profile, evidence: Evidence) -> Iterator[str]:
    """What an int8 recipe computes in float all the same."""
    shares = _shares(recipe)
    weight_only = next((ref.name for ref in evidence.passes if is_one_of(ref, WEIGHT_ONLY)), None)
    details = evidence.facts.details if evidence.facts is not None else ()
    if detail := next((one for one in details if _NOT_FUSED.match(one)), None):
        yield f"Q/DQ pairs of the graph were not fused: {detail}"
    if any(kind.startswith("quantized_decomposed::") for kind in shares):
        yield "Q/DQ pairs were not fused: eager torch runs each as operators of its own, which the runtime torch_compile does not"
    products = [one for one in recipe.operators if one.kind in FLOAT_PRODUCTS]
    share = sum(shares[kind] for kind in {one.kind for one in products})
    if weight_only is not None:
        yield f"'{weight_only}' makes weights smaller, and turns them back into float for every product: it saves memory traffic alone"
    elif share >= TELLING_SHARE:
        yield f"{100 * share:.0f} % of its time are products in float, for which no int8 kernel was taken: {_named(products)}"
    unable = {kind: shares[kind] for kind in shares if kind in NO_INT8_KERNEL}
    if (share := sum(unable.values())) >= LARGE_SHARE:
        named = listed(sorted(unable, key=lambda kind: -unable[kind]))
        yield f"{100 * share:.0f} % of its time are operators without an int8 kernel: {named}"
    inside = [kind for kind in QUANTIZES_INSIDE if shares[kind] >= TELLING_SHARE]
    if inside and any(is_one_of(ref, DYNAMIC) for ref in evidence.passes):
        yield f"{100 * shares[inside[0]]:.0f} % of its time are in {inside[0]}, which rounds activations to int8 too, anew in every call"


def _outside(recipe: Profile, batch_size: int) -> Iterator[str]:
    """Operators so small that calling them takes longer than they do: more of the same with any faster kernel."""
    calls = sum(one.calls for one in recipe.operators) / recipe.queries
    outside = 1 - sum(one.own_ns for one in recipe.operators) / recipe.wall_ns
    if outside >= 0.5 and calls:
        more = " (a larger batch gives each more to do)" if batch_size == 1 else ""
        yield f"under the profiler {100 * outside:.0f} % of a query pass outside of its {calls:.0f} operators, which are small{more}"


def _from_the_machine(evidence: Evidence) -> Iterator[str]:
    """What passes and the CPU's flags say, with or without a profile."""
    multiplies = any(quantizes(ref) and not is_one_of(ref, WEIGHT_ONLY) for ref in evidence.passes)
    if multiplies and lacks_int8(evidence.cpu_flags):
        yield f"this CPU has no instructions for products of 8-bit integers ({', '.join(INT8_FLAGS[:3])})"
    for dtype in dict.fromkeys(half_precision(ref) for ref in evidence.passes):
        if dtype is not None and lacks_half(dtype, evidence.cpu_flags):
            yield f"{dtype} is emulated through float32: this CPU has no instructions for it ({', '.join(HALF_FLAGS[dtype][:2])})"
    if zeros := [ref.name for ref in evidence.passes if is_one_of(ref, ZEROING)]:
        yield f"dense kernels do not skip the zeros that '{zeros[0]}' makes: they save bytes where files are compressed, and no time"


def _from_other_operators(reference: Profile, recipe: Profile, *, alone: bool) -> Iterator[str]:
    """Where the time went, of two profiles that have operators in common: in those that are new, or in one that takes longer.

    Beside other reasons only new ones that take most of the time are told.
    """
    before = {one.kind for one in reference.operators}
    shares = _shares(recipe)
    if not before.intersection(shares):
        return  # another framework: nothing is the same operator
    new = {kind: share for kind, share in shares.items() if kind not in before and kind not in TOLD_OTHERWISE}
    if (share := sum(new.values())) >= (LARGE_SHARE if alone else MOST_OF_IT):
        named = listed(sorted(new, key=lambda kind: -new[kind]))
        yield f"{100 * share:.0f} % of its time are operators that the reference does not run: {named}"
    added = [one for one in changes(by_kind(reference), by_kind(recipe)) if one.added_ns > 0]
    most = added[0].added_ns / sum(one.added_ns for one in added) if added else 0.0
    if alone and most >= LARGE_SHARE and added[0].kind not in new:
        yield f"under the profiler {100 * most:.0f} % of what a query takes more is in {added[0].kind}, which both run"


def _named(operators: Sequence[OperatorTime]) -> str:
    """``Conv conv1, conv2 and Gemm fc``, the dearest first."""
    names = list(dict.fromkeys(f"{one.kind} {one.name}".strip() for one in sorted(operators, key=lambda one: -one.own_ns)))
    return listed(names)


def _shares(profile: Profile) -> Counter[str]:
    """The share of a query's operator time by type."""
    total = sum(one.own_ns for one in profile.operators) or 1
    shares: Counter[str] = Counter()
    for one in by_kind(profile).operators:
        shares[one.kind] += one.own_ns / total  # type: ignore[assignment]  # a Counter of shares
    return shares
