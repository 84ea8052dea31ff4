import copy
import dataclasses
import re

import pytest
from fakes.served import load_run, result_under_load
from ruamel.yaml import YAML

from harness.core.errors import CannotMeasure
from harness.core.estimate import ConfidenceInterval, Estimate
from harness.core.result import ServedArm
from harness.core.units import Unit
from harness.engine.kubernetes.manifests import Deployed, as_yaml, manifests
from harness.engine.kubernetes.sizing import MIB, size, trial_of

DEPLOYED = Deployed("scenarios/digits.yaml", "int8", "digits_ResNet", "registry.example/digits:1", "20261128-180000-aaaa", "models")
CAPACITY = Estimate("capacity", Unit.PER_SECOND, "higher", 640.0, ConfidenceInterval(600.0, 680.0, 0.95), 5, "launches")


@pytest.fixture(scope="module")
def trial(results):
    found = trial_of(result_under_load(results), "digits-resnet50", "int8")
    return dataclasses.replace(found, estimates=(*found.estimates, CAPACITY))


@pytest.fixture(scope="module")
def objects(trial):
    return {one["kind"]: one for one in manifests(DEPLOYED, size(trial, load_per_s=2_000))}


@pytest.mark.parametrize("kind", ["Deployment", "Service", "HorizontalPodAutoscaler"])
@pytest.mark.parametrize("version", ["1.33", "1.36"])
def test_the_object_fits_the_official_schema_with_no_key_that_it_does_not_know(objects, kind, version):
    validate = pytest.importorskip("kubernetes_validate")
    validate.validate(objects[kind], version, strict=True)


def test_the_official_schema_would_have_found_a_wrong_key(objects):
    validate = pytest.importorskip("kubernetes_validate")
    spoiled = {**objects["Service"], "spec": {**objects["Service"]["spec"], "port": 80}}
    with pytest.raises(validate.ValidationError):
        validate.validate(spoiled, "1.36", strict=True)


def monitor_as_known(monitor):
    """What the Prometheus operator's own schema knows of a ServiceMonitor. Raises pydantic.ValidationError where it does not fit."""
    known = pytest.importorskip("cloudcoil.models.prometheus_operator.v1")
    return known.ServiceMonitor.model_validate(monitor).model_dump(by_alias=True, exclude_unset=True, mode="json")


def test_the_service_monitor_fits_the_operators_schema_with_no_key_that_it_does_not_know(objects):
    assert monitor_as_known(objects["ServiceMonitor"]) == objects["ServiceMonitor"]


@pytest.mark.parametrize("interval", ["soon", 15])
def test_the_operators_schema_would_have_found_a_wrong_interval_and_a_wrong_key(objects, interval):
    monitor = copy.deepcopy(objects["ServiceMonitor"])
    monitor["spec"]["endpoint"] = []
    assert monitor_as_known(monitor) == objects["ServiceMonitor"]
    monitor["spec"]["endpoints"][0]["interval"] = interval
    with pytest.raises(ValueError, match="interval"):
        monitor_as_known(monitor)


def test_the_service_monitor_scrapes_the_port_of_the_service_that_it_selects(objects):
    monitor, service = objects["ServiceMonitor"], objects["Service"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert re.fullmatch(r"[0-9]+s", endpoint["interval"])
    assert set(endpoint) <= {"port", "path", "interval", "scheme", "scrapeTimeout"}


def test_selectors_choose_the_pods_of_this_deployment_and_names_are_dns_labels(objects):
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (objects["Deployment"]["spec"]["selector"]["matchLabels"], objects["Service"]["spec"]["selector"]):
        assert selector.items() <= labels.items()
    names = {one["metadata"]["name"] for one in objects.values()}
    assert names == {"digits-resnet-int8"} == {objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"]}
    assert {one["metadata"]["namespace"] for one in objects.values()} == {"models"}


def test_replicas_follow_from_the_load_and_the_lower_end_of_the_measured_capacity(objects):
    assert objects["Deployment"]["spec"]["replicas"] == 5  # 2,000 / (0.7 x 600)
    scaler = objects["HorizontalPodAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (5, 15)


def test_the_autoscaler_holds_queue_time_and_cpu(objects):
    queue, cpu = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert queue["pods"]["metric"]["name"] == "harness_queue_seconds_mean"
    assert queue["pods"]["target"]["averageValue"] == "5000u"  # a tenth of 50 ms, in millionths of a second
    assert cpu["resource"]["target"]["averageUtilization"] == 22  # 0.55 cores at 533 /s, so 0.43 at 420 /s, of 2 cores


def test_a_replica_leaves_its_service_before_it_drains_and_is_not_killed_while_it_drains(objects):
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    stop = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert pod["terminationGracePeriodSeconds"] > stop + 10
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/models/digits_ResNet/ready"


def test_memory_is_the_most_that_was_seen_and_a_quarter_more(trial):
    assert size(trial).memory_bytes == 388 * MIB  # of 310 MiB


def test_without_a_load_one_replica_may_stand_alone(trial):
    assert size(trial).least == 1


def test_a_given_capacity_takes_the_place_of_the_measured_one(trial):
    told = size(trial, load_per_s=2_000, capacity_per_s=100.0)
    assert (told.capacity_per_s, told.least) == (100.0, 29)


def test_where_nothing_was_searched_a_capacity_must_be_given(trial):
    without = dataclasses.replace(trial, estimates=())
    with pytest.raises(CannotMeasure, match="has no measured capacity"):
        size(without)


def test_a_recipe_that_was_not_measured_over_the_network_is_named(results):
    with pytest.raises(CannotMeasure, match="recipe 'fp32' of 'digits-resnet50' was not measured over the network"):
        trial_of(results.result(), "digits-resnet50", "fp32")
    with pytest.raises(CannotMeasure, match="is not in it"):
        trial_of(results.result(), "digits-resnet50", "nothing")


def test_without_usage_or_a_promise_the_numbers_say_so(trial):
    bare = ServedArm("candidate", (load_run(usage=(), limit_ns=None, within_limit=None),))
    told = " ".join(size(dataclasses.replace(trial, served=(bare,))).why)
    assert "nothing was measured of it" in told and "as nothing is promised" in told


def test_the_file_can_be_read_again_and_says_how_each_number_came_about(trial):
    sizing = size(trial, load_per_s=2_000)
    text = as_yaml(manifests(DEPLOYED, sizing), sizing)
    assert [one["kind"] for one in YAML(typ="safe").load_all(text) if one] == [
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "ServiceMonitor",
    ]
    assert "# replicas: 2,000 requests/s over 420, rounded up and at least 2" in text
    assert "# capacity: 600 requests/s, the lower end of what 5 launches showed (640)" in text
