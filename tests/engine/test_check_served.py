import pytest

from harness.core.scenario import Scenario
from harness.engine.check_served import check_served
from harness.loads.locust import Locust
from harness.loads.single_stream import SingleStream


def problems(load, *, model=None, load_written=None, **rest):
    scenario = Scenario.model_validate(
        {
            "version": 1,
            "name": "s",
            "model": model or {"onnx": "net.onnx"},
            "data": {"random": {"x": "float32[4]"}},
            "recipes": {"plain": {"runtime": "onnxruntime"}},
            "measure": {"load": load_written or "locust", **rest},
        }
    )
    return [f"{problem.key}: {problem.message}" for problem in check_served(scenario, load)]


def test_machines_that_cannot_reach_the_server_of_a_launch_are_told_before_it_is_started():
    away = Locust.model_validate({"generators": ["edge-1"]})
    assert problems(away) == [
        "measure.load.locust: the server of each launch listens on this machine alone, and machines that are to send cannot reach it"
    ]
    assert problems(Locust.model_validate({"generators": ["edge-1"], "server_host": "10.0.0.5"})) == []
    assert problems(Locust.model_validate({})) == []


def test_an_endpoint_that_runs_already_is_where_it_is():
    away = Locust.model_validate({"generators": ["edge-1"], "allow_host": "10.0.0.9"})
    assert problems(away, model={"endpoint": "http://10.0.0.9/v2/models/net"}) == []


@pytest.mark.parametrize(("load", "told"), [(SingleStream(), "only a load over the network"), (Locust(), "none is promised of 'plain'")])
def test_a_capacity_needs_a_load_over_the_network_and_a_promise(load, told):
    (found,) = problems(load, capacity={"at_most": "100 /s"})
    assert found.startswith("measure.capacity: ") and told in found
