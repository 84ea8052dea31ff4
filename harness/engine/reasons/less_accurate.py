"""Why a recipe answers much worse than its reference: which layers answer otherwise, and which options usually help."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from harness import plugins
from harness.core.estimate import Absent
from harness.core.units import format_points
from harness.engine.evaluate import metric_of
from harness.engine.reasons.passes import PRUNING, SATURATING, half_precision, is_one_of, lacks_int8, listed, quantizes
from harness.engine.rules import rules_of

if TYPE_CHECKING:
    from harness.core.inspection import LayerDifference
    from harness.core.result import QualityChange
    from harness.core.scenario import PluginRef
    from harness.engine.case import Case

METRIC = "accuracy"
LEAST = {"agreement": 0.98, "output_cosine": 0.99}
"""Of what has no accuracy: below it 2 answers of 100 differ, or outputs by a seventh of their length (sin of 8 degrees)."""
MOST_LAYERS = 3
NEAR_THE_WORST = 0.1
"""A layer that differs by less than this share of the worst is not told."""
LEAVE_OUT = ("exclude", "keep", "keep_nodes")
"""What passes call the option that leaves layers as they were."""
_PLAIN = re.compile(r"[A-Za-z_/][\w./]*")


def fall(case: Case) -> str | None:
    """How much worse a case answers, in words, where that is shown and beyond what its scenario tolerates; else None."""
    change = case.quality_change
    if change is not None:
        return f"{change.metric} {format_points(change.difference)}" if is_much_worse(change, _tolerance(case)) else None
    for metric, least in LEAST.items():
        scores = case.scores.get(metric)
        if scores is not None and not isinstance(scores, Absent):
            mean = float(scores.mean())
            return f"{metric} {mean:.3f}" if mean < least else None
    return None


def is_much_worse(change: QualityChange, tolerance: float) -> bool:
    """Whether a difference is beyond the tolerance, and its whole interval on the worse side."""
    return change.difference < -tolerance and change.interval.high < 0


def telling(differences: Sequence[LayerDifference]) -> list[LayerDifference]:
    """Those worth telling of, the worst first."""
    worst = differences[0].relative if differences else 0.0
    least = NEAR_THE_WORST * worst if worst is not None else 0.0
    return [one for one in differences if one.relative is None or one.relative > max(least, 1e-6)][:MOST_LAYERS]


def told_of(worst: Sequence[LayerDifference], step: str) -> str:
    """``given the same inputs as before 'prune_magnitude', outputs differ most of fc1 (Linear, by 79 %)``."""
    named = [f"{one.name} ({one.kind}, {'NaN or infinity' if one.relative is None else f'by {_percent(one.relative)}'})" for one in worst]
    return f"given the same inputs as before '{step}', the layers whose outputs differ most are {listed(named, MOST_LAYERS)}"


def advice(ref: PluginRef, passes: Sequence[PluginRef], differences: Sequence[LayerDifference], cpu_flags: Collection[str]) -> str | None:
    """The options that usually help after a pass, in the words of its recipe; None for a pass of the user's own."""
    if ref.is_file:
        return None
    fields = plugins.load("passes", ref.name).model_fields
    helps = [*_leaving_out(ref, fields, differences), *_options(ref, fields, cpu_flags), *_other_passes(ref, passes)]
    return f"what usually helps: {', '.join(helps)}" if helps else None


def saturation(passes: Sequence[PluginRef], cpu_flags: Collection[str], change: QualityChange | None) -> str | None:
    """Why an int8 recipe answers worse here than on other CPUs; None where nothing is worse, or the flags say nothing of it.

    Without VNNI the products of unsigned and signed bytes are summed in pairs of 16 bits, which saturate (ONNX Runtime, "Quantize ONNX
    models", on reduce_range): seven bits for the weights leave room.
    """
    eight_bits = [ref.name for ref in passes if is_one_of(ref, SATURATING) and not ref.options.get("reduce_range")]
    if not ("avx2" in cpu_flags and lacks_int8(cpu_flags)) or not eight_bits or change is None or change.difference >= 0:
        return None
    return (
        f"{change.metric} is {format_points(change.difference)} against the reference, and this CPU has no VNNI: sums of int8 products can "
        f"saturate. '{eight_bits[-1]}: {{reduce_range: true}}' gives weights 7 bits and avoids that"
    )


def _leaving_out(ref: PluginRef, fields: Mapping[str, object], differences: Sequence[LayerDifference]) -> list[str]:
    """The worst layers, but never more than half of those that the pass has changed."""
    worst, changed = telling(differences), sum(one.relative != 0 for one in differences)
    names = [one.name for one in worst if _is_near(one, worst[0])][: max(1, changed // 2)]
    option = next((name for name in LEAVE_OUT if name in fields), None)
    if names and option is not None:
        already = ref.options.get(option)
        every = [*(map(str, already) if isinstance(already, list) else ()), *names]
        return [f"'{ref.name}: {{{option}: {_yaml(list(dict.fromkeys(every)))}}}'"]
    if names and ref.name == "torch_dynamic_int8":
        return [f"'torchao_int8_dynamic: {{exclude: {_yaml(names)}}}', which can leave single layers in float"]
    return []


def _is_near(one: LayerDifference, worst: LayerDifference) -> bool:
    """Whether a layer differs at least half as much as the worst."""
    return one.relative is None or (worst.relative is not None and one.relative >= worst.relative / 2)


def _options(ref: PluginRef, fields: Mapping[str, object], cpu_flags: Collection[str]) -> list[str]:
    """Options of the pass that are not set as they would help."""

    def now(name: str) -> object:
        return ref.options.get(name, getattr(fields.get(name), "default", None))

    found = []
    if now("per_channel") is False:
        found.append("'per_channel: true'")
    if now("reduce_range") is False and lacks_int8(cpu_flags):
        found.append("'reduce_range: true' on this CPU")
    if now("method") == "minmax":
        found.append("'method: percentile' or 'entropy'")
    if "calibration_samples" in fields:
        found.append(f"more than {now('calibration_samples')} calibration_samples")
    if now("preset") == "performance":
        found.append("'preset: mixed'")
    found += [f"a lower '{name}'" for name in ("amount", "ratio") if name in fields and is_one_of(ref, PRUNING)]
    return found


def _other_passes(ref: PluginRef, passes: Sequence[PluginRef]) -> list[str]:
    named = {one.name for one in passes}
    found = []
    if is_one_of(ref, PRUNING) and not named & {"finetune", "distill"}:
        found.append(f"'finetune' behind '{ref.name}'")
    if quantizes(ref) and not any("qat" in name for name in named):
        found.append("training with the rounding ('qat')")
    if half_precision(ref) == "float16":
        found.append("bfloat16, whose range is float32's")
    return found


def _tolerance(case: Case) -> float:
    rule = next((rule for rule in rules_of(case.trial.source.scenario) if rule.metric == METRIC), None)
    return metric_of(METRIC).tolerance or 0.0 if rule is None else rule.tolerance


def _yaml(names: Sequence[str]) -> str:
    """Names as they are written in a scenario, quoted where YAML would read something else."""
    plain = [bool(_PLAIN.fullmatch(name)) and name.lower() not in ("true", "false", "null") for name in names]
    return f"[{', '.join(name if bare else json.dumps(name) for name, bare in zip(names, plain, strict=True))}]"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
