"""What an UNPROVEN promise asks for, on latencies whose distribution is known."""

import re
from pathlib import Path

import numpy as np
import pytest

from harness.core.comparison import SlaState
from harness.core.estimate import ConfidenceInterval, Estimate
from harness.core.result import TrialState
from harness.core.scenario import HardwareTarget, Scenario, ScenarioFile
from harness.core.units import Unit
from harness.engine.audit.conclude import cells
from harness.engine.record import record_with
from harness.engine.sla import LaunchFigures, check_sla

LIMIT_NS = 5_000_000
WRITTEN = {
    "version": 1,
    "name": "one",
    "model": {"fake": {}},
    "data": {"random": {"x": "float32[1]"}},
    "recipes": {"fp32": {"runtime": "fake"}},
}


def checked(clause, latencies_ns):
    """The one finding of a promise on latencies of one launch."""
    metric, _, text = clause.partition(": ")
    scenario = Scenario.model_validate({**WRITTEN, "sla": {metric: text}})
    file = ScenarioFile(scenario, Path("one.yaml"), Path(), "", (HardwareTarget(name="cpu"),), {})
    (trial,) = cells(file)
    value = Estimate(metric, Unit.NANOSECONDS, "lower", 2e6, ConfidenceInterval(1e6, 3e6, 0.95), 5, "launches")
    record = record_with(trial, TrialState.MEASURED, None, "measured", estimates=(value,))
    (found,) = check_sla(file, [record], {trial.id: LaunchFigures({}, [latencies_ns.tolist()])})
    return found


def more_wanted(finding):
    return int(re.search(r"about ([\d,]+) more quer(?:y|ies) would tell", finding.reason)[1].replace(",", ""))


@pytest.mark.parametrize("clause", ["latency_p90: at most 5 ms", "latency_p99: at most 5 ms"])
@pytest.mark.parametrize(
    ("slowest_ns", "first", "state"),
    [
        (LIMIT_NS, 12, SlaState.KEPT),  # uniform up to the limit: none is ever over it
        (4 * LIMIT_NS, 2, SlaState.BROKEN),  # three of four are over it
    ],
)
def test_as_many_more_queries_as_it_asks_for_decide_a_promise(clause, slowest_ns, first, state):
    unproven = 0
    for seed in range(60):
        draw = np.random.default_rng(seed)
        latencies = draw.integers(1, slowest_ns, first)
        found = checked(clause, latencies)
        if found.state is not SlaState.UNPROVEN:
            continue
        unproven += 1
        more = more_wanted(found)
        fewer = np.append(latencies, draw.integers(1, slowest_ns, more - 1))
        assert checked(clause, np.append(fewer, draw.integers(1, slowest_ns, 1))).state is state
        if state is SlaState.KEPT:
            assert checked(clause, fewer).state is SlaState.UNPROVEN, "one query less would have done"
    assert unproven >= 3


def test_each_answer_of_a_promise_near_its_limit_asks_again_until_it_is_decided():
    """0.4 % are over the limit of a p99: what it asks for grows with every slow query that comes, and ends."""
    draw = np.random.default_rng(3)
    latencies, asked = np.where(draw.random(50) < 0.004, 9_000_000, 1_000_000), []
    while (found := checked("latency_p99: at most 5 ms", latencies)).state is SlaState.UNPROVEN:
        asked.append(more_wanted(found))
        latencies = np.append(latencies, np.where(draw.random(asked[-1]) < 0.004, 9_000_000, 1_000_000))
        assert len(latencies) < 100_000
    assert found.state is SlaState.KEPT and asked
