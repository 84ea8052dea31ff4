import pytest

from harness.core.scenario import GateRule, Scenario
from harness.core.units import Unit
from harness.engine.evaluate import metric_of
from harness.engine.rules import queries_wanted, rules_of
from harness.stats.quantiles import samples_needed

DEFAULTS = {
    "accuracy": 0.005,
    "latency_p50": 0.02,
    "latency_p90": 0.05,
    "latency_p99": 0.10,
    "model_size": 0.01,
    "peak_memory": 0.10,
    "throughput": 0.05,
    "energy_per_inference": 0.05,
    "auc": 0.005,
}


def scenario(**gate):
    return Scenario.model_validate(
        {
            "version": 1,
            "name": "one",
            "model": {"fake": {}},
            "data": {"random": {"x": "float32[1]"}},
            "recipes": {"only": {"runtime": "fake"}},
            "gate": gate,
        }
    )


def rule(name, **gate):
    (found,) = [one for one in rules_of(scenario(**gate)) if one.metric == name]
    return found


def test_without_a_word_the_metrics_with_a_tolerance_of_their_own_are_gated():
    assert {one.metric: one.tolerance for one in rules_of(scenario())} == DEFAULTS


@pytest.mark.parametrize(
    ("name", "written", "tolerance"),
    [
        ("latency_p50", "3 %", 0.03),
        ("latency_p50", {"tolerance": "0 %"}, 0.0),
        ("accuracy", {"tolerance": "0.25 points"}, 0.0025),
        ("latency_mean", {"tolerance": "4 %"}, 0.04),
        ("output_cosine", "0.1 points", 0.001),
    ],
)
def test_the_scenario_changes_a_tolerance_or_adds_a_metric(name, written, tolerance):
    assert rule(name, **{name: written}).tolerance == pytest.approx(tolerance)


@pytest.mark.parametrize("written", [False, "off", {"off": True}])
def test_the_scenario_switches_a_metric_off(written):
    assert {one.metric for one in rules_of(scenario(latency_p99=written))} == DEFAULTS.keys() - {"latency_p99"}


def test_a_floor_is_the_metrics_own_unless_the_scenario_gives_one():
    assert rule("latency_p50").floor == 2_000.0
    assert rule("latency_p50", latency_p50={"floor": "1 ms"}).floor == 1e6
    assert rule("latency_p50", latency_p50="7 %").floor == 2_000.0


@pytest.mark.parametrize(
    ("name", "floor"),
    [("latency_p99", 2_000.0), ("peak_memory", 4 * 2**20), ("model_size", 1024.0), ("throughput", 0.0), ("accuracy", 0.0)],
)
def test_the_floors_are_those_that_are_published(name, floor):
    assert rule(name).floor == floor


def test_a_floor_alone_keeps_the_default_tolerance():
    assert rule("latency_p50", latency_p50={"floor": "1 ms"}).tolerance == 0.02


def test_a_floor_alone_does_not_gate_what_has_no_tolerance():
    assert "load_time" not in {one.metric for one in rules_of(scenario(load_time={"floor": "1 s"}))}


def test_a_rule_knows_unit_and_direction_of_its_metric():
    assert (rule("throughput").unit, rule("throughput").better) == (Unit.PER_SECOND, "higher")
    assert (rule("peak_memory").unit, rule("peak_memory").better) == (Unit.BYTES, "lower")


def test_a_gate_rule_as_an_object_is_taken_as_it_is():
    made = GateRule.model_validate("3 %")
    assert rule("latency_p50", latency_p50=made).tolerance == 0.03


@pytest.mark.parametrize(
    ("gate", "queries"),
    [
        ({}, 20),
        ({"latency_p99": {"tolerance": "5 %"}}, 500),
        ({"latency_p99": "off", "latency_p90": "5 %"}, 50),
        ({"accuracy": "1 point"}, 20),
    ],
)
def test_a_launch_holds_as_many_queries_as_the_metrics_that_the_scenario_names_take(gate, queries):
    assert queries_wanted(scenario(**gate)) == queries


@pytest.mark.parametrize(("name", "q"), [("latency_p50", 0.5), ("latency_p90", 0.9), ("latency_p95", 0.95), ("latency_p99", 0.99)])
def test_a_quantile_wants_as_many_queries_as_it_takes_to_be_told(name, q):
    assert metric_of(name).queries == samples_needed(q)
