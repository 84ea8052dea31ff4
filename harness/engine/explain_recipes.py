"""Why a recipe does not pay: reasons in words, each from evidence of its own and its reference's profile, passes and machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from harness.core.errors import BadInput, CannotMeasure
from harness.core.profile import Profile, by_kind
from harness.core.units import format_change, format_points
from harness.engine.evaluate import launch_figures
from harness.engine.profile_arms import profile_arms
from harness.engine.trade_offs import reference_of

if TYPE_CHECKING:
    from harness.core.result import QualityChange
    from harness.core.scenario import PluginRef
    from harness.engine.case import Case
    from harness.engine.job import Job

METRIC = "latency_p50"
PAYS = 0.97
"""A recipe that takes more than this share of its reference's time has not paid: what it gained could be the machine's mood."""
MOST_RECIPES = 4
TELLING_SHARE = 0.08
"""Less than this share of a query's time explains nothing."""
CONVERSIONS = {
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "aten::quantize_per_tensor", "aten::dequantize"), "between float and int8"),
    **dict.fromkeys(("DynamicQuantizeLinear", "aten::quantize_per_tensor_dynamic"), "of activations to int8, anew in every call"),
    **dict.fromkeys(("Cast", "aten::_to_copy", "aten::to"), "between number formats"),
    **dict.fromkeys(("ReorderInput", "ReorderOutput", "Reorder", "Transpose"), "between memory layouts"),
    **dict.fromkeys(("MemcpyToHost", "MemcpyFromHost"), "between host and device"),
}
INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Flags of a CPU, as Linux names them, with products of 8-bit integers in one instruction."""
INT8_PASSES = ("quantize_", "torch_dynamic_int8", "torchao_int8", "pt2e_", "qat")
SATURATING = ("quantize_dynamic", "quantize_static", "pt2e_", "torchao_int8_dynamic", "qat")
"""Those with the option ``reduce_range``."""
ZERO_PASSES = ("prune_magnitude", "prune_semi_structured")


def explain_recipes(job: Job, cases: Sequence[Case]) -> None:
    """Note on every recipe that is no quicker than its reference why that is so, as far as it can be seen."""
    told = 0
    for case in cases:
        if note := saturation(case.trial.recipe.passes, job.environment.cpu_flags, case.quality_change):
            case.notes.append(note)
        reference = reference_of(case, cases)
        if reference is None or not (_is_measured(case) and _is_measured(reference)):
            continue
        ratio = _ratio(case, reference)
        if ratio is None or ratio <= PAYS:
            continue
        name = reference.trial.recipe.name
        if told == MOST_RECIPES:
            case.notes.append(
                f"not quicker than '{name}' ({format_change(ratio - 1)}); the reasons were looked for in {told} other recipes only"
            )
            continue
        told += 1
        job.progress.step(f"{case.id}: profiling it and its reference")
        folder = job.folder.path / "profiles" / f"{case.trial.scenario}-{case.trial.name}"
        assert case.subject is not None and reference.subject is not None
        try:
            profiles = profile_arms({"baseline": reference.subject, "candidate": case.subject}, job.procedure(case), folder)
        except (BadInput, CannotMeasure) as error:
            case.notes.append(f"not quicker than '{name}', and not profiled: {str(error).splitlines()[0]}")
            continue
        passes = [step.name for step in case.trial.recipe.passes]
        found = reasons(profiles.get("baseline"), profiles.get("candidate"), passes, job.environment.cpu_flags, case.trial.batch_size)
        why = "; ".join(found) or "nothing in its profile, passes or this machine says why"
        case.notes.append(f"not quicker than '{name}' ({format_change(ratio - 1)}): {why}")


def reasons(
    reference: Profile | None, recipe: Profile | None, passes: Collection[str], cpu_flags: Collection[str], batch_size: int
) -> list[str]:
    """What the evidence says, the largest share of a query's time first. ``cpu_flags`` is empty where they are not known."""
    found = [] if recipe is None else _conversions(reference, recipe) + _outside(recipe, batch_size)
    if any(name.startswith(INT8_PASSES) for name in passes) and cpu_flags and not set(INT8_FLAGS).intersection(cpu_flags):
        found.append(f"this CPU has no instructions for products of 8-bit integers ({', '.join(INT8_FLAGS[:3])})")
    if zeros := [name for name in passes if name in ZERO_PASSES]:
        found.append(
            f"dense kernels do not skip the zeros that '{zeros[0]}' makes: they save bytes where files are compressed, and no time"
        )
    return found


def saturation(passes: Sequence[PluginRef], cpu_flags: Collection[str], change: QualityChange | None) -> str | None:
    """Why an int8 recipe answers worse here than on other CPUs; None where nothing is worse, or the flags say nothing of it.

    Without VNNI the products of unsigned and signed bytes are summed in pairs of 16 bits, which saturate (ONNX Runtime, "Quantize ONNX
    models", on reduce_range): seven bits for the weights leave room.
    """
    lacks = "avx2" in cpu_flags and not set(INT8_FLAGS).intersection(cpu_flags)
    eight_bits = [ref.name for ref in passes if ref.name.startswith(SATURATING) and not ref.options.get("reduce_range")]
    if not lacks or not eight_bits or change is None or change.difference >= 0:
        return None
    return (
        f"{change.metric} is {format_points(change.difference)} against the reference, and this CPU has no VNNI: sums of its int8 products "
        f"saturate. '{eight_bits[-1]}: {{reduce_range: true}}' gives weights 7 bits and avoids that"
    )


def _conversions(reference: Profile | None, recipe: Profile) -> list[str]:
    """Time that goes into conversions which the reference has less of."""
    before = _shares(reference) if reference is not None else Counter[str]()
    spent: Counter[str] = Counter()
    kinds: dict[str, list[str]] = {}
    for kind, share in _shares(recipe).items():
        if kind in CONVERSIONS and share > before[kind]:
            spent[CONVERSIONS[kind]] += share - before[kind]
            kinds.setdefault(CONVERSIONS[kind], []).append(kind)
    return [
        f"{100 * share:.0f} % of its time are conversions {what} ({', '.join(sorted(kinds[what]))})"
        for what, share in spent.most_common()
        if share >= TELLING_SHARE
    ]


def _outside(recipe: Profile, batch_size: int) -> list[str]:
    """Operators so small that calling them takes longer than they do: more of the same with any faster kernel."""
    calls = sum(one.calls for one in recipe.operators) / recipe.queries
    outside = 1 - sum(one.own_ns for one in recipe.operators) / recipe.wall_ns
    if outside < 0.5 or not calls:
        return []
    more = " (a larger batch gives each more to do)" if batch_size == 1 else ""
    return [f"under the profiler {100 * outside:.0f} % of a query pass outside of its {calls:.0f} operators, which are small{more}"]


def _shares(profile: Profile) -> Counter[str]:
    """The share of a query's operator time by type."""
    total = sum(one.own_ns for one in profile.operators) or 1
    shares: Counter[str] = Counter()
    for one in by_kind(profile).operators:
        shares[one.kind] += one.own_ns / total  # type: ignore[assignment]  # a Counter of shares
    return shares


def _is_measured(case: Case) -> bool:
    return case.subject is not None and case.failure is None and case.measurement is not None and bool(case.measurement.runs)


def _ratio(case: Case, reference: Case) -> float | None:
    """The recipe's median over its reference's, by the medians of their launches."""
    import statistics

    figures = [launch_figures(METRIC, one.measurement) for one in (case, reference) if one.measurement is not None]
    values = [statistics.median(found) for found in figures if isinstance(found, list)]
    return values[0] / values[1] if len(values) == 2 else None
