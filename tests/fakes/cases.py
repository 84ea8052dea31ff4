"""Cases, records, runs and baselines as a job would leave them, made by hand: nothing is built, nothing is measured."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from fakes import results, runs

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.baseline import Baseline
from harness.core.measurement import Measurement
from harness.core.plan import Trial
from harness.core.plugin import Predictions
from harness.core.result import Content, RunResult, ScenarioText, TrialRecord
from harness.core.scenario import BUILT_IN_TARGETS, PluginRef, Scenario, ScenarioFile
from harness.engine.accept import baseline_of
from harness.engine.base_arm import BaseArm
from harness.engine.case import Case
from harness.engine.content import Derivation, StepKey
from harness.engine.protocol import Subject
from harness.engine.record import record_of
from harness.engine.routes import Route

HERE, ELSEWHERE = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
"""Environment keys of two kinds of machine."""
COMMIT = "c" * 40
NOW = "2026-11-24T10:00:00+00:00"
VERSIONS = {"harness.runtimes.fake": "51f0c2a7b8e9", "numpy": "2.4.1", "python": "3.11"}


def trial(recipe: str = "plain", **keys: object) -> Trial:
    """A trial of a scenario in memory; ``keys`` are further keys of the scenario."""
    facts = {
        "version": 1,
        "name": "tiny",
        "model": {"fake": {"latency_us": 50}},
        "data": {"random": {"x": "float32[4]"}, "task": "classification"},
        "recipes": {"plain": {"runtime": "fake"}, "slower": {"runtime": {"fake": {"add_latency_us": 10}}}},
    }
    scenario = Scenario.model_validate(facts | keys)
    file = ScenarioFile(scenario, Path("tiny.yaml"), Path(), "version: 1\nname: tiny\n", (BUILT_IN_TARGETS["cpu"],), {})
    return Trial(file, scenario.recipes[recipe], BUILT_IN_TARGETS["cpu"], 1)


def content(source: str = "a", **versions: str) -> Content:
    """A content of this source; ``versions`` differ from the usual ones."""
    toolchain = VERSIONS | versions
    return Content(hashlib.sha256(repr((source, sorted(toolchain.items()))).encode()).hexdigest(), source * 64, toolchain)


def derivation(inside: Content | None = None, *, evaluation: str = "e") -> Derivation:
    inside = inside or content()
    steps = (StepKey(PluginRef(name="fake"), ("evaluation",), f"artifact of {inside.source[:1]}"),)
    return Derivation(steps, {"evaluation": evaluation * 64}, "predictions", inside)


def launches(*latencies_ns: int, arm: str = "candidate") -> Measurement:
    """One even launch for each latency."""
    return runs.measurement(*(runs.even_run(latency, pair=pair, arm=arm) for pair, latency in enumerate(latencies_ns)))


def answers(classes, *, targets=None, width: int = 10, task: str = "classification") -> Predictions:
    """Predictions that give these classes, each with a score of 1."""
    return runs.predictions(np.eye(width, dtype=np.float32)[np.asarray(classes)], targets, task)


def subject(size_bytes: int = 1024, options: str = "{}", notes: tuple[str, ...] = ()) -> Subject:
    """An arm; ``options`` and ``notes`` are those of the step that made its artifact."""
    artifact: ModelArtifact = replace(runs.artifact(size_bytes), steps=(AppliedStep("fake", options, notes),))
    return replace(runs.subject(), artifact=artifact)


def case(**changes) -> Case:
    """A trial measured alone: five launches, ten samples of which one is answered wrongly. ``changes`` are fields of a Case."""
    facts = {
        "trial": trial(),
        "derivation": derivation(),
        "environment_key": HERE,
        "baseline": None,
        "route": Route.ALONE,
        "reason": "no baseline yet",
        "subject": subject(),
        "predictions": answers([*range(9), 0], targets=range(10)),
        "measurement": launches(1_000_000, 1_020_000, 1_010_000, 990_000, 1_000_000),
    }
    made = Case(**(facts | changes))
    made.score(None)
    return made


def base_arm(size_bytes: int = 1024) -> BaseArm:
    return BaseArm(subject(size_bytes), "base predictions", None)


def record(made: Case | None = None, *, gated: bool = True, accepting: bool = False) -> TrialRecord:
    return record_of(made or case(), gated=gated, accepting=accepting)


def result(*records: TrialRecord, dirty: bool | None = False, commit: str | None = COMMIT, **changes) -> RunResult:
    """A run that gave these records, on a clean commit unless it is said otherwise."""
    facts = {
        "id": "20261124-100000-0001",
        "environment": replace(results.ENVIRONMENT, dirty=dirty, commit=commit),
        "trials": records or (record(),),
        "scenarios": (ScenarioText("tiny", "scenarios/tiny.yaml", "version: 1\nname: tiny\n", None),),
        "comparisons": (),
        "sla": (),
        "null_control": None,
        "notes": (),
    }
    return results.result(**(facts | changes))


def baseline(made: Case | None = None, **changes) -> Baseline:
    """The baseline that accepting a case makes; ``changes`` are fields of its portable part."""
    one = record(made)
    accepted = baseline_of(one, result(one), None, now=NOW, renew=True)
    return replace(accepted, portable=replace(accepted.portable, **changes))


def realistic(samples: int = 10_000, **keys: object) -> Case:
    """A quantized classifier beside its reference: five launches of 700 queries, and evaluation samples of which few change sides."""
    draw = np.random.default_rng(0)
    targets = draw.integers(0, 10, samples)
    exact = draw.normal(size=(samples, 10)).astype(np.float32)
    exact[np.arange(samples), targets] += 4
    rounded = exact + draw.normal(scale=0.3, size=exact.shape).astype(np.float32)
    measured = []
    for pair in range(5):
        latencies = [round(2.4e6 * (1 + late)) for late in draw.exponential(1 / 18, 700)]
        measured.append(runs.run(*(runs.timed(*latencies[start : start + 20]) for start in range(0, 700, 20)), pair=pair))
    made = case(
        trial=trial(**keys), predictions=Predictions((rounded,), targets, "classification"), measurement=runs.measurement(*measured)
    )
    made.score(Predictions((exact,), targets, "classification"))
    return made
