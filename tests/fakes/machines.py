"""Saved runs of one scenario on several machines, whose true speed is known."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from fakes import results

from harness.core.comparison import SlaFinding, SlaState
from harness.core.estimate import Absent, ConfidenceInterval, Estimate
from harness.core.result import Content, Material, RunResult, ScenarioText, SessionFacts, TargetFacts, TrialRecord
from harness.core.scenario import PluginRef
from harness.core.units import Unit
from harness.stats.independent import mean_interval

SCENARIO = "shop"
TEXT = """version: 1
name: shop
model:
  factory: models/net.py:build
  args: {width: 64}
hardware: [HARDWARE]
sla:
  latency_p99: at most 50 ms
  accuracy: at least 95 %
"""
PARTS = {
    "seed": "0",
    "model": "aaaa1111",
    "evaluation data": "bbbb2222",
    "runtime onnxruntime": "cccc3333",
    "load single_stream": "dddd4444",
}
CLAUSES = {"latency_p99": "latency_p99: at most 50 ms", "accuracy": "accuracy: at least 95 %"}


def run(
    machine: str,
    per_s: float = 100.0,
    *,
    number: int = 1,
    cores: int = 2,
    price: float | None = 1.0,
    currency: str = "USD",
    states: dict[str, SlaState] | None = None,
    spread: float = 0.01,
    launches: int = 5,
    parts: dict[str, str] | None = None,
    text: str = TEXT,
    recipes: dict[str, float] | None = None,
    energy_j: float | None = None,
    capacity: float | None = None,
    batch_size: int = 1,
    load: str = "single_stream",
    **changes: object,
) -> RunResult:
    """One run on ``machine``, which does ``per_s`` inferences a second; ``recipes`` gives further recipes' rates over that of int8.

    Launches vary by ``spread`` around it, by a seed of machine and number. ``states`` are of promises, KEPT where not named.
    """
    trials = []
    findings: list[SlaFinding] = []
    for recipe, factor in ({"int8": 1.0} | (recipes or {})).items():
        draw = random.Random(f"{machine} {number} {recipe}")
        rates = [per_s * factor * math.exp(draw.gauss(0, spread)) for _ in range(launches)]
        trial = _trial(machine, recipe, rates, batch_size, energy_j, capacity, load)
        target = TargetFacts(cores, None, price, currency)
        trials.append(replace(trial, target=target, parts=PARTS if parts is None else parts))
        findings += [_finding(trial, metric, (states or {}).get(metric, SlaState.KEPT)) for metric in CLAUSES]
    environment = replace(results.ENVIRONMENT, cpu_count=8, packages={"onnxruntime": "1.32.0"})
    facts: dict[str, object] = {
        "id": f"202611{number:02}-120000-{abs(hash_of(machine)) % 65536:04x}",
        "started_at": f"2026-11-{number:02}T12:00:00Z",
        "finished_at": f"2026-11-{number:02}T12:01:00Z",
        "environment": environment,
        "scenarios": (ScenarioText(SCENARIO, "scenarios/shop.yaml", text.replace("HARDWARE", machine), None),),
        "trials": tuple(trials),
        "comparisons": (),
        "sla": tuple(findings),
        "null_control": None,
        "notes": (),
    }
    return results.result(**(facts | changes))


def hash_of(text: str) -> int:
    """The same in every process, as ``hash`` is not."""
    return sum(ord(letter) * 131**place for place, letter in enumerate(text))


def _trial(
    machine: str, recipe: str, rates: list[float], batch_size: int, energy_j: float | None, capacity: float | None, load: str
) -> TrialRecord:
    figures = {
        "throughput": tuple(rates),
        "latency_p50": tuple(1e9 * batch_size / rate for rate in rates),
        "latency_p99": tuple(1.5e9 * batch_size / rate for rate in rates),
    }
    estimates = [
        Estimate(
            name,
            Unit.PER_SECOND if name == "throughput" else Unit.NANOSECONDS,
            "higher" if name == "throughput" else "lower",
            *_mean(values),
        )
        for name, values in figures.items()
    ]
    estimates.append(Estimate("peak_memory", Unit.BYTES, "lower", 2.0**30, ConfidenceInterval(1e9, 1.2e9, 0.95), len(rates), "launches"))
    if energy_j is not None:
        estimates.append(Estimate("energy_per_inference", Unit.JOULES, "lower", energy_j, None, len(rates), "launches"))
    if capacity is not None:
        estimates.append(
            Estimate(
                "capacity", Unit.PER_SECOND, "higher", capacity, ConfidenceInterval(capacity * 0.9, capacity * 1.1, 0.95), 5, "launches"
            )
        )
        figures["capacity"] = tuple(capacity * rate / rates[0] for rate in rates)
    return results.trial(
        recipe,
        scenario=SCENARIO,
        hardware=machine,
        batch_size=batch_size,
        load=load,
        charts=False,
        notes=(),
        content=Content("1" * 64, "2" * 64, {"onnxruntime": "1.32.0"}),
        facts=SessionFacts("cpu", "int8", 2, ()),
        estimates=tuple(estimates),
        absent=() if capacity is not None else (Absent("capacity", "no load was driven"),),
        material=Material("artifact", "evaluation", PluginRef(name="onnxruntime"), {}, None, figures),
    )


def _mean(values: tuple[float, ...]) -> tuple[float, ConfidenceInterval, int, str]:
    return sum(values) / len(values), mean_interval(values, 0.95), len(values), "launches"


def _finding(trial: TrialRecord, metric: str, state: SlaState) -> SlaFinding:
    told = {
        SlaState.KEPT: "shown",
        SlaState.BROKEN: "3 of 100 queries over 50.0 ms",
        SlaState.UNPROVEN: "too few; about 200 more queries would tell",
    }
    return SlaFinding(trial.id, metric, CLAUSES[metric], None, None, None, None, state, told.get(state, "not measured"))
