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


CLAUSES = pytest.mark.parametrize("clause", ["latency_p90: at most 5 ms", "latency_p99: at most 5 ms"])


@CLAUSES
def test_where_none_is_ever_slow_as_many_more_as_it_asks_for_decide_a_promise_and_one_less_does_not(clause):
    for seed in range(60):
        draw = np.random.default_rng(seed)
        latencies = draw.integers(1, LIMIT_NS, 12)  # uniform up to the limit
        found = checked(clause, latencies)
        assert found.state is SlaState.UNPROVEN
        fewer = np.append(latencies, draw.integers(1, LIMIT_NS, more_wanted(found) - 1))
        assert checked(clause, fewer).state is SlaState.UNPROVEN
        assert checked(clause, np.append(fewer, draw.integers(1, LIMIT_NS, 1))).state is SlaState.KEPT


@CLAUSES
def test_where_three_of_four_are_slow_what_it_asks_for_decides_a_promise_within_a_few_rounds(clause):
    rounds = []
    for seed in range(60):
        draw = np.random.default_rng(seed)
        latencies, asked = draw.integers(1, 4 * LIMIT_NS, 2), 0
        while (found := checked(clause, latencies)).state is SlaState.UNPROVEN:
            latencies, asked = np.append(latencies, draw.integers(1, 4 * LIMIT_NS, more_wanted(found))), asked + 1
        assert found.state is SlaState.BROKEN
        rounds.append(asked)
    assert max(rounds) <= 3 and sum(rounds) >= 3


def test_each_answer_of_a_promise_near_its_limit_asks_again_until_it_is_decided():
    """0.4 % are over the limit of a p99: what it asks for grows with every slow query that comes, and ends."""
    draw = np.random.default_rng(3)
    latencies, asked = np.where(draw.random(50) < 0.004, 9_000_000, 1_000_000), []
    while (found := checked("latency_p99: at most 5 ms", latencies)).state is SlaState.UNPROVEN:
        asked.append(more_wanted(found))
        latencies = np.append(latencies, np.where(draw.random(asked[-1]) < 0.004, 9_000_000, 1_000_000))
        assert len(latencies) < 100_000
    assert found.state is SlaState.KEPT and asked
