"""An audit as it is told, in every state that there is, made by hand: for its page."""

from __future__ import annotations

from dataclasses import replace

from harness.core.artifact import AppliedStep
from harness.core.audit import SCHEMA, Audit, AuditedClause, AuditedScenario, AuditedTrial, LaunchLine, LoadLine, Waiver, verdict_of
from harness.core.comparison import SlaState
from harness.core.environment import Environment
from harness.core.measurement import SessionFacts
from harness.core.result import Content, TrialState
from harness.core.units import Unit

FAST, SMALL = "digits/fp32-cpu-b1", "digits/int8-cpu-b1"
RAW = ("run/launches.jsonl", "source/scenarios/digits.yaml")


def clause(text, trial, state, **more):
    metric = text.partition(":")[0].rpartition(".")[2]
    lines = tuple(LaunchLine(number, 400, 3 if state is SlaState.BROKEN else 0, 6_100_000, 4_900_000.0) for number in range(5))
    told = {
        "scenario": "digits", "trial": trial, "metric": metric, "clause": text, "line": 31, "limit": 5e6, "limit_unit": Unit.NANOSECONDS,
        "unit": Unit.NANOSECONDS, "state": state, "value": 4.9e6, "bound": 0.0042, "bound_of": "share of queries over the limit",
        "confidence": 0.975, "basis": "queries", "count": 2_000, "over": 0, "load": "single_stream", "batch_size": 1,
        "reason": "0 of 2,000 queries over 5.00 ms (0.00 %; at most 1 % may be)", "method": "Queries over the limit are counted.",
        "raw": RAW, "launches": lines,
    }  # fmt: skip
    return AuditedClause(**(told | more))


def trial(name, state=TrialState.MEASURED, **more):
    content = Content("4" * 64, "5" * 64, {"torch": "2.13.0"})
    facts = SessionFacts("cpu", "int8 (54 of 54 nodes)", 2)
    step = AppliedStep("factory", "{}")
    return AuditedTrial(
        name, state, "measured", content, "0a1b2c", f"{'4' * 24}-0a1b2c", "onnxruntime", ("export_onnx",), facts, (step,), "6" * 64,
        launches=5, queries=2_000, **more,
    )  # fmt: skip


def load(launch):
    """A load over the network in which a few requests broke."""
    return LoadLine(
        launch, "open", "poisson", 200.0, None, 20_004_000_000, 4_011, 4_002, {"503": 6, "timeout": 3}, 5_000_000, 3_996,
        2_100_000.0, 4_700_000.0 + 90_000 * launch, 410_000, 1_900_000, 0, 120_000, 0.42, 1, (),
        f"run/logs/digits-int8-cpu-b1/candidate-{launch:03d}-load/load-00/requests.npz", True,
    )  # fmt: skip


def under_load():
    """The same audit, one of its trials measured under a load over the network."""
    told = audit()
    loads = tuple(load(launch) for launch in range(5))
    raw = (RAW[0], *(line.records for line in loads), RAW[1])
    clauses = tuple(replace(one, load="locust", raw=raw) if one.trial == SMALL else one for one in told.clauses)
    return replace(told, trials=(told.trials[0], replace(told.trials[1], loads=loads), told.trials[2]), clauses=clauses)


def audit(**more):
    """Every state there is: kept, broken and waived, broken with an expired waiver, unproven, unmeasured; names as long as they come."""
    signed = Waiver("latency_p50: at most 1 ms", None, "Ada Example", "the new kernel comes with 1.5", "2026-12-31", "waivers/all.yaml", 3)
    expired = replace(signed, clause="int8.latency_p99: at most 5 ms", who="Bob Example", until="2026-01-31", line=8)
    clauses = (
        clause(
            "accuracy: at least 95 %", FAST, SlaState.KEPT, basis="samples", unit=Unit.FRACTION, value=0.978, launches=(), confidence=None
        ),
        clause("latency_p50: at most 1 ms", FAST, SlaState.BROKEN, waivers=(signed,)),
        clause("int8.latency_p99: at most 5 ms", SMALL, SlaState.BROKEN, waivers=(expired,), over=15),
        clause("latency_p99: at most 5 ms", FAST, SlaState.UNPROVEN, reason="about 73 more queries would tell"),
        clause(
            "throughput: at least 200 /s",
            "digits/fp32-cuda-b1",
            SlaState.UNMEASURED,
            value=None,
            bound=None,
            confidence=None,
            basis="nothing",
            launches=(),
        ),
    )
    told = Audit(
        schema=SCHEMA,
        program_version="0.1.0",
        release="2026.11-rc1",
        audited_at="2026-11-28T18:28:56+00:00",
        project="digits",
        commit="eb0a3d4a05f015e44f26afeaf4a8866f3ebe5ef8",
        dirty=True,
        run="20261128-182857-3219",
        command="audit scenarios --release 2026.11-rc1",
        measured_from="2026-11-28T18:20:00+00:00",
        measured_until="2026-11-28T18:28:00+00:00",
        environment=Environment(
            "AMD EPYC", 2, ("avx2",), 2**34, (), "Debian 12", "6.1", "3.11.7", None, 0.4, True, {"torch": "2.13.0"}, {}, "eb0a3d4", True
        ),
        looks=(5, 12),
        confidence=0.9875,
        scenarios=(AuditedScenario("digits", "scenarios/digits.yaml"),),
        waiver_files={"digits": "waivers/all.yaml"},
        trials=(trial(FAST), trial(SMALL), trial("digits/fp32-cuda-b1", TrialState.SKIPPED)),
        notes=("the machine was busy at the start: load 6.9 on 2 CPUs",),
        clauses=clauses,
        waivers=(signed, expired),
    )
    told = replace(told, **more)
    verdict, waived, code, headline = verdict_of(told.clauses, told.day)
    return replace(told, verdict=verdict, waived=waived, exit_code=int(code), headline=headline)
