"""Results as a run would give them, made from a seed: every verdict and state, hostile names, a suite of any size."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from harness.core.artifact import AppliedStep
from harness.core.comparison import Comparison, NullControl, SlaFinding, SlaState, Verdict
from harness.core.environment import Environment
from harness.core.estimate import Absent, ConfidenceInterval, Estimate
from harness.core.measurement import Failure, FailureReason, SessionFacts
from harness.core.profile import OperatorChange, OperatorTable
from harness.core.result import (
    QUANTILES,
    SCHEMA,
    Content,
    Distribution,
    Flip,
    LaunchSketch,
    RunResult,
    ScenarioText,
    TrialRecord,
    TrialState,
)
from harness.core.units import Unit

HOSTILE = "<script>alert(1)</script>|`@octocat` \"'&"
TRACEBACK = """Traceback (most recent call last):
  File "models/digits_resnet50.py", line 41, in build
    model.load_state_dict(weights)
  File "torch/nn/modules/module.py", line 2593, in load_state_dict
    raise RuntimeError(...)
RuntimeError: Error(s) in loading state_dict for ResNet: size mismatch for fc.weight: [10, 2048] against [100, 2048]
"""
UNDECIDED = (
    "between -1.6 % and +16.4 % worse: not shown to be within 10.0 %, nor beyond it; "
    "more launch pairs (a larger budget) or a quieter machine would tell"
)
OPERATORS = OperatorTable(
    kinds=(
        OperatorChange("", "QLinearConv", "CPU", 53, 53, 1_910_000.0, 2_044_000.0),
        OperatorChange("", "QuantizeLinear", "CPU", 2, 14, 11_000.0, 52_000.0),
        OperatorChange("", "MaxPool", "CPU", 1, 0, 41_000.0, 0.0),
    ),
    operators=(
        OperatorChange("/resnet/encoder/stages.3/layers.0/shortcut/Conv_quant", "QLinearConv", "CPU", 1, 1, 71_000.0, 152_000.0),
        OperatorChange("/resnet/embedder/pooler/MaxPool", "MaxPool", "CPU", 1, 0, 41_000.0, 0.0),
    ),
)
SCENARIO_TEXT = """version: 1
name: digits-resnet50
model:
  factory: models/digits_resnet50.py:build
data:
  evaluation: models/digits_resnet50.py:test_set
  calibration: models/digits_resnet50.py:train_set
  task: classification
recipes:
  fp32: {runtime: torch}
  onnx: {passes: [export_onnx], runtime: onnxruntime}
  int8:
    passes:
      - export_onnx
      - quantize_static: {per_channel: true, calibration_samples: 128}
    runtime: onnxruntime
reference: fp32
hardware: [cpu]
measure:
  batch_sizes: [1, 8]
sla:
  latency_p99: at most 50 ms
  int8.accuracy: at least 97 %
gate:
  latency_p50: {tolerance: 2 %}
"""
ENVIRONMENT = Environment(
    cpu_model="AMD EPYC 7B13",
    cpu_count=2,
    cpu_flags=("avx2", "avx512f"),
    memory_bytes=8_344_715_264,
    gpus=(),
    os="Debian GNU/Linux 12",
    kernel="6.1.0-28-amd64",
    python="3.11.7",
    governor=None,
    load_average=0.42,
    virtual_machine=True,
    packages={"numpy": "2.4.1", "onnxruntime": "1.32.0", "torch": "2.13.0+cpu"},
    variables={"OMP_NUM_THREADS": "1"},
    commit="3f2c9b7a51de4f0c8c1b7d55a2f6d1f09b0e4a77",
    dirty=True,
)
_PASSES = {
    "fp32": (),
    "onnx": ("export_onnx",),
    "int8": ("export_onnx", "quantize_static"),
    "pruned": ("prune_channels", "export_onnx"),
    "int8-dynamic": ("export_onnx", "quantize_dynamic"),
    "fp16": ("export_onnx", "to_float16"),
}
_SPEED = {"fp32": 6.9, "onnx": 4.3, "int8": 1.4, "pruned": 2.6, "int8-dynamic": 3.9, "fp16": 5.2}
_ACCURACY = {"fp32": 0.9852, "onnx": 0.9852, "int8": 0.9796, "pruned": 0.9648, "int8-dynamic": 0.9833, "fp16": 0.9852}
_SIZE = {"fp32": 94.4e6, "onnx": 94.1e6, "int8": 24.0e6, "pruned": 46.0e6, "int8-dynamic": 24.3e6, "fp16": 47.2e6}


def comparison(
    trial: str = "digits-resnet50/int8-cpu-b1",
    metric: str = "latency_p50",
    *,
    effect: float = 1.051,
    half_width: float = 0.013,
    baseline: float = 2_510_000.0,
    tolerance: float = 0.02,
    verdict: Verdict = Verdict.REGRESSED,
    reason: str = "shown to be at least 3.8 % worse; 2 % is tolerated",
    **other,
) -> Comparison:
    """A comparison on the ratio scale unless ``scale="difference"`` is given; the interval is ``effect`` more or less ``half_width``."""
    facts = {
        "trial": trial,
        "metric": metric,
        "unit": Unit.NANOSECONDS,
        "better": "lower",
        "scale": "ratio",
        "baseline": baseline,
        "candidate": baseline + effect if other.get("scale") == "difference" else baseline * effect,
        "effect": effect,
        "interval": ConfidenceInterval(effect - half_width, effect + half_width, 0.99),
        "tolerance": tolerance,
        "floor": 2_000.0,
        "n": 12,
        "n_of": "launch pairs",
        "method": "paired slices: t interval on launch pairs",
        "visible_change": 0.0142,
        "verdict": verdict,
        "reason": reason,
    }
    return Comparison(**(facts | other))


def accuracy_comparison(
    trial: str = "digits-resnet50/int8-cpu-b1", *, effect: float = -0.0185, verdict: Verdict = Verdict.REGRESSED, **other
) -> Comparison:
    """A drop (or gain) of accuracy, in points."""
    facts = {
        "effect": effect,
        "half_width": 0.009,
        "baseline": 0.9796,
        "tolerance": 0.005,
        "unit": Unit.FRACTION,
        "better": "higher",
        "scale": "difference",
        "floor": 0.0,
        "n": 540,
        "n_of": "samples",
        "method": "paired proportions (score interval)",
        "visible_change": 0.0093,
        "verdict": verdict,
        "reason": "shown to be at least 0.95 points worse; 0.50 points is tolerated",
    }
    return comparison(trial, "accuracy", **(facts | other))


def size_comparison(trial: str, *, effect: float = 1.0, verdict: Verdict = Verdict.PASS, reason: str = "not worse") -> Comparison:
    """An exact ratio of bytes."""
    return comparison(
        trial,
        "model_size",
        effect=effect,
        half_width=0.0,
        baseline=24.0e6,
        tolerance=0.01,
        verdict=verdict,
        reason=reason,
        unit=Unit.BYTES,
        floor=1024.0,
        n=1,
        n_of="artifact",
        method="exact",
        visible_change=None,
    )


def distribution(arm: str, median_ns: float, *, launches: int = 12, seed: int = 1) -> Distribution:
    """Latencies as a shared machine gives them: a launch has its own level, its queries a long right tail."""
    generator = random.Random(f"{arm} {median_ns} {seed}")
    sketches = []
    for pair in range(launches):
        level = median_ns * math.exp(generator.gauss(0, 0.03))
        latencies = sorted(
            int(level * (1 + generator.expovariate(18) + (generator.random() < 0.02) * generator.uniform(0.3, 2))) for _ in range(150)
        )
        quantiles = tuple(latencies[min(len(latencies) - 1, round(q * (len(latencies) - 1)))] for q in QUANTILES)
        sketches.append(
            LaunchSketch(pair, 700, 2_000_000_000, quantiles, 310_000_000, 14_000_000, 148_000_000, pair != 7, tuple(latencies))
        )
    return Distribution(arm, tuple(sketches))


def trial(
    recipe: str = "int8",
    *,
    scenario: str = "digits-resnet50",
    batch_size: int = 1,
    state: TrialState = TrialState.MEASURED,
    verdict: Verdict | None = Verdict.PASS,
    reason: str = "every metric is within its tolerance",
    slower: float = 1.0,
    charts: bool = True,
    hardware: str = "cpu",
    **other,
) -> TrialRecord:
    """A trial with estimates and, where it was measured, the latencies of both arms."""
    median_ns = _SPEED.get(recipe, 3.0) * 1e6 * batch_size**0.8 * slower
    accuracy, size = _ACCURACY.get(recipe, 0.98), _SIZE.get(recipe, 24.0e6)
    measured = state in (TrialState.MEASURED, TrialState.NEW)
    name = f"{scenario}/{recipe}-{hardware}-b{batch_size}"
    estimates = (
        Estimate(
            "accuracy",
            Unit.FRACTION,
            "higher",
            accuracy,
            ConfidenceInterval(accuracy - 0.011, min(1.0, accuracy + 0.008), 0.95),
            540,
            "samples",
        ),
        Estimate(
            "latency_p50",
            Unit.NANOSECONDS,
            "lower",
            median_ns,
            ConfidenceInterval(median_ns * 0.98, median_ns * 1.03, 0.95),
            12,
            "launches",
        ),
        Estimate(
            "latency_p99",
            Unit.NANOSECONDS,
            "lower",
            median_ns * 1.4,
            ConfidenceInterval(median_ns * 1.3, median_ns * 1.6, 0.95),
            12,
            "launches",
        ),
        Estimate("model_size", Unit.BYTES, "lower", size, None, 1, "artifact"),
        Estimate(
            "throughput",
            Unit.PER_SECOND,
            "higher",
            1e9 * batch_size / median_ns,
            ConfidenceInterval(0.95e9 * batch_size / median_ns, 1.02e9 * batch_size / median_ns, 0.95),
            12,
            "launches",
        ),
    )
    facts = {
        "id": name,
        "scenario": scenario,
        "recipe": recipe,
        "hardware": hardware,
        "device": "cpu",
        "batch_size": batch_size,
        "load": "single_stream",
        "passes": _PASSES.get(recipe, ("export_onnx",)),
        "runtime": "torch" if recipe == "fp32" else "onnxruntime",
        "is_reference": recipe == "fp32",
        "state": state,
        "verdict": verdict,
        "reason": reason,
        "content": Content("9b1c" * 16, "77aa" * 16, {"onnxruntime": "1.32.0", "passes/export_onnx.py": "51f0c2"}),
        "environment_key": "4f0aa1c3b977",
        "steps": tuple(
            AppliedStep(step, '{"per_channel": true}', ("54 of 54 Conv and Linear nodes quantized",))
            for step in ("python", *_PASSES.get(recipe, ("export_onnx",)))
        ),
        "facts": SessionFacts("cpu", "int8 (QDQ)" if "int8" in recipe else "fp32", 2, ("CPUExecutionProvider",)) if measured else None,
        "estimates": estimates if measured else (),
        "absent": (Absent("latency_p99", "99 queries a launch, 100 are needed"),) if not measured else (),
        "distributions": (distribution("baseline", median_ns / slower), distribution("candidate", median_ns))
        if measured and charts
        else (),
    }
    return TrialRecord(**(facts | other))


def result(**changes) -> RunResult:
    """A run of ``harness gate`` in which everything that can happen does happen."""
    slow, drop, noisy = "digits-resnet50/int8-cpu-b1", "digits-resnet50/pruned-cpu-b1", "digits-resnet50/int8-dynamic-cpu-b1"
    quick, unfit = "digits-resnet50/onnx-cpu-b1", "digits-resnet50/fp16-cpu-b1"
    flips = tuple(Flip(sample, str(sample % 10), str(sample % 10), str((sample + 5) % 10)) for sample in (14, 77, 203, 388, 412, 501, 530))
    trials = (
        trial("fp32", verdict=Verdict.PASS),
        trial("onnx", verdict=Verdict.IMPROVED, slower=0.931, reason="latency_p50 is at least 5.2 % better"),
        trial(
            "int8",
            verdict=Verdict.REGRESSED,
            slower=1.051,
            reason="latency_p50 is shown to be at least 3.8 % worse",
            changes=("onnxruntime 1.31.1 -> 1.32.0", "passes[1].quantize_static.per_channel: false -> true"),
            notes=("12 nodes left in float: Softmax is not quantized",),
            operators=OPERATORS,
        ),
        trial("pruned", verdict=Verdict.REGRESSED, reason="accuracy is shown to be at least 0.95 points worse", flips=flips),
        trial("int8-dynamic", verdict=Verdict.INCONCLUSIVE, slower=1.018, reason="latency_p99 could not be told"),
        trial("fp16", verdict=Verdict.INVALID, reason="an output holds NaN: float16 overflowed in layer4"),
        trial("fp32", batch_size=8, state=TrialState.UNCHANGED, verdict=None, reason="same content as the baseline"),
        trial("onnx", batch_size=8, state=TrialState.UNCHANGED, verdict=None, reason="same content as the baseline"),
        trial("int8", batch_size=8, state=TrialState.NEW, verdict=None, reason="no baseline yet"),
        trial("int8", hardware="edge-arm", state=TrialState.SKIPPED, verdict=None, reason="'edge-arm' is another machine: needs aarch64"),
        trial(
            "pruned",
            batch_size=8,
            state=TrialState.FAILED,
            verdict=Verdict.INVALID,
            reason="the model could not be built: RuntimeError in models/digits_resnet50.py:41",
            failures=(Failure(FailureReason.EXCEPTION, "build", "RuntimeError: size mismatch for fc.weight", TRACEBACK),),
        ),
    )
    comparisons = (
        comparison(slow),
        comparison(
            slow,
            "latency_p99",
            effect=1.06,
            half_width=0.031,
            baseline=3_514_000.0,
            tolerance=0.1,
            verdict=Verdict.PASS,
            visible_change=0.071,
            reason="shown to be within the tolerance of 10.0 % (at most 9.1 % worse)",
        ),
        accuracy_comparison(
            slow,
            effect=0.0,
            half_width=0.0,
            verdict=Verdict.PASS,
            method="exact: every sample scores the same",
            visible_change=None,
            reason="not worse",
        ),
        size_comparison(slow),
        accuracy_comparison(drop),
        comparison(
            drop,
            effect=0.998,
            half_width=0.011,
            baseline=2_600_000.0,
            verdict=Verdict.PASS,
            reason="shown to be within the tolerance of 2.0 % (at most 0.9 % worse)",
        ),
        size_comparison(drop),
        comparison(
            noisy,
            "latency_p99",
            effect=1.074,
            half_width=0.09,
            baseline=5_460_000.0,
            tolerance=0.1,
            verdict=Verdict.INCONCLUSIVE,
            visible_change=0.13,
            reason=UNDECIDED,
        ),
        comparison(
            noisy,
            effect=1.008,
            half_width=0.009,
            baseline=3_900_000.0,
            verdict=Verdict.PASS,
            reason="shown to be within the tolerance of 2.0 % (at most 1.7 % worse)",
        ),
        comparison(
            quick,
            effect=0.931,
            half_width=0.012,
            baseline=4_620_000.0,
            verdict=Verdict.IMPROVED,
            reason="shown to be at least 5.7 % better",
        ),
        comparison(
            quick,
            "throughput",
            effect=1.074,
            half_width=0.014,
            baseline=216.0,
            tolerance=0.05,
            verdict=Verdict.IMPROVED,
            unit=Unit.PER_SECOND,
            better="higher",
            floor=0.0,
            reason="shown to be at least 5.7 % better",
        ),
        size_comparison(quick, effect=0.26, verdict=Verdict.IMPROVED, reason="shown to be at least 74.0 % better"),
        comparison(unfit, effect=1.012, half_width=0.02, baseline=5_200_000.0, verdict=Verdict.INVALID, reason="an output holds NaN"),
        comparison(
            "digits-resnet50/fp32-cpu-b1",
            effect=1.001,
            half_width=0.006,
            baseline=6_900_000.0,
            verdict=Verdict.PASS,
            reason="shown to be within the tolerance of 2.0 % (at most 0.7 % worse)",
        ),
        comparison(
            "digits-resnet50/fp32-cpu-b1",
            "peak_memory",
            effect=1.03,
            half_width=0.002,
            baseline=148e6,
            tolerance=0.0,
            verdict=Verdict.REGRESSED,
            unit=Unit.BYTES,
            floor=1e6,
            advisory=True,
            reason="stored numbers: told, not decided",
        ),
    )
    sla = (
        SlaFinding(
            slow,
            "latency_p99",
            "latency_p99: at most 50 ms",
            Unit.NANOSECONDS,
            3.7e6,
            0.004,
            5e7,
            SlaState.KEPT,
            "0 of 8,400 queries over 50.0 ms (0.00 %; at most 1 % may be)",
            22,
        ),
        SlaFinding(
            drop,
            "accuracy",
            "accuracy: at least 97 %",
            Unit.FRACTION,
            0.9611,
            0.9611,
            0.97,
            SlaState.BROKEN,
            "96.11 %, exact for this set of samples",
            23,
        ),
        SlaFinding(
            noisy,
            "latency_p99",
            "latency_p99: at most 6 ms",
            Unit.NANOSECONDS,
            5.9e6,
            0.02,
            6e6,
            SlaState.UNPROVEN,
            "7 of 620 queries over 6.00 ms (1.13 %; at most 1 % may be); about 16,642 more queries would tell, if the share stays as it is",
            24,
        ),
        SlaFinding(
            "digits-resnet50/fp16-cpu-b1",
            "energy",
            "energy: at most 0.2 J",
            None,
            None,
            None,
            0.2,
            SlaState.UNMEASURED,
            "this machine has no energy counter that can be read",
            25,
        ),
    )
    null = NullControl(
        "digits-resnet50/fp32-cpu-b1",
        (
            comparison(
                "digits-resnet50/fp32-cpu-b1 (null control)",
                effect=1.002,
                half_width=0.006,
                baseline=6_900_000.0,
                verdict=Verdict.PASS,
                reason="shown to be within the tolerance of 2.0 % (at most 0.8 % worse)",
            ),
        ),
        red=False,
    )
    facts = {
        "schema": SCHEMA,
        "program_version": "0.1.0",
        "id": "2026-11-24T09-30-12-gate",
        "command": "gate",
        "started_at": "2026-11-24T09:30:12Z",
        "finished_at": "2026-11-24T09:34:51Z",
        "seed": 20261124,
        "environment": ENVIRONMENT,
        "scenarios": (ScenarioText("digits-resnet50", "scenarios/digits-resnet50.yaml", SCENARIO_TEXT, "fp32"),),
        "verdict": Verdict.REGRESSED,
        "exit_code": 1,
        "headline": "REGRESSED: 2 metrics regressed, 1 SLA clause broken, 2 trials could not be decided, 1 metric inconclusive",
        "trials": trials,
        "comparisons": comparisons,
        "sla": sla,
        "null_control": null,
        "notes": ("The working tree has uncommitted changes.",),
    }
    return RunResult(**(facts | changes))


def passing() -> RunResult:
    """A gate in which all is well."""
    whole = result()
    good = {Verdict.PASS, Verdict.IMPROVED}
    return replace(
        whole,
        verdict=Verdict.PASS,
        exit_code=0,
        headline="PASS: 8 metrics within their tolerances, 2 trials unchanged, 1 SLA clause kept",
        trials=tuple(item for item in whole.trials if item.verdict in good or item.state is TrialState.UNCHANGED),
        comparisons=tuple(item for item in whole.comparisons if item.verdict in good),
        sla=whole.sla[:1],
        notes=(),
    )


def only_measured() -> RunResult:
    """``harness run``: recipes side by side, nothing compared with a baseline, no SLA."""
    trials = tuple(
        replace(item, distributions=item.distributions[1:])
        for item in (trial(recipe, verdict=None, reason="measured", state=TrialState.MEASURED) for recipe in _SPEED)
    )
    headline = "PASS: 6 trials measured"
    return result(
        command="run",
        verdict=Verdict.PASS,
        exit_code=0,
        headline=headline,
        trials=trials,
        comparisons=(),
        sla=(),
        null_control=None,
        notes=(),
    )


def hostile() -> RunResult:
    """Names, reasons and tracebacks that would break a page, a table or an XML file if they were not escaped."""
    evil = HOSTILE
    base = trial("int8", slower=1.05, verdict=Verdict.REGRESSED)
    bad = replace(
        base,
        id=f"{evil}/{evil}-cpu-b1",
        scenario=evil,
        recipe=evil,
        hardware=evil,
        passes=(evil,),
        runtime=evil,
        is_reference=True,
        reason=f"{evil}\x00\x1b[31m",
        steps=(AppliedStep(evil, evil, (evil,)),),
        facts=SessionFacts(evil, evil, 1, (evil,)),
        flips=(Flip(1, evil, evil, evil),),
        changes=(evil,),
        failures=(Failure(FailureReason.EXCEPTION, evil, evil, f"```\n{evil}\x00\n</pre></details>"),),
        notes=(evil,),
        operators=OperatorTable((OperatorChange("", evil, evil, 1, 2, 1e5, 2e5),), (OperatorChange(evil, evil, evil, 0, 1, 0, 1e5),)),
    )
    other = replace(trial("onnx"), scenario=evil, id=f"{evil}/two", recipe=f"{evil}2", notes=(evil,))
    return result(
        headline=f"REGRESSED: {evil}",
        trials=(bad, other),
        comparisons=(
            comparison(bad.id, reason=evil),
            comparison(bad.id, evil, verdict=Verdict.PASS),
            accuracy_comparison(bad.id, reason=evil),
        ),
        sla=(SlaFinding(bad.id, evil, evil, Unit.NANOSECONDS, 1e6, 1e6, 5e7, SlaState.BROKEN, evil, 3),),
        scenarios=(ScenarioText(evil, evil, evil, evil),),
        environment=replace(ENVIRONMENT, cpu_model=evil, packages={evil: evil}, variables={evil: evil}),
        notes=(evil,),
    )


def suite(count: int = 1000) -> RunResult:
    """A suite of ``count`` trials over many scenarios, most of them passing, every verdict among them."""
    generator = random.Random(7)
    recipes = tuple(_SPEED)
    states = [TrialState.MEASURED] * 16 + [TrialState.UNCHANGED] * 2 + [TrialState.SKIPPED, TrialState.FAILED]
    verdicts = [Verdict.PASS] * 14 + [Verdict.IMPROVED, Verdict.INCONCLUSIVE, Verdict.REGRESSED]
    trials, comparisons = [], []
    for number in range(count):
        state = generator.choice(states)
        verdict = generator.choice(verdicts) if state is TrialState.MEASURED else None
        failures = (Failure(FailureReason.TIMEOUT, "slice", "no answer in 60 s", TRACEBACK),) if state is TrialState.FAILED else ()
        made = trial(
            recipes[number % len(recipes)],
            scenario=f"suite-{number // 20:03d}",
            batch_size=2 ** (number // len(recipes) % 4),
            state=state,
            verdict=Verdict.INVALID if failures else verdict,
            charts=number % 50 == 0,
            failures=failures,
            reason="no answer in 60 s" if failures else "same content as the baseline" if state is TrialState.UNCHANGED else "measured",
        )
        trials.append(replace(made, id=f"{made.id}-{number}"))
        if verdict is None:
            continue
        for metric in ("latency_p50", "latency_p90", "latency_p95", "latency_p99", "first_call", "load_time"):
            effect = math.exp(generator.gauss(0.06 if verdict is Verdict.REGRESSED else -0.002, 0.01))
            comparisons.append(
                comparison(trials[-1].id, metric, effect=effect, verdict=verdict if metric == "latency_p50" else Verdict.PASS)
            )
        comparisons.append(size_comparison(trials[-1].id))
    sla = tuple(
        SlaFinding(
            item.id,
            "latency_p99",
            "latency_p99: at most 50 ms",
            Unit.NANOSECONDS,
            4e6,
            0.004,
            5e7,
            SlaState.KEPT,
            "0 of 8,400 queries over 50.0 ms",
            22,
        )
        for item in trials
        if item.state is TrialState.MEASURED
    )
    scenarios = tuple(
        ScenarioText(name, f"scenarios/{name}.yaml", SCENARIO_TEXT, "fp32") for name in sorted({item.scenario for item in trials})
    )
    return result(trials=tuple(trials), comparisons=tuple(comparisons), sla=sla, scenarios=scenarios)
