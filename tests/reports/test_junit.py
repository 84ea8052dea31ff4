import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.comparison import Verdict
from harness.core.wording import sentence_of
from harness.reports.junit import Junit

GOLDEN = Path(__file__).parent / "golden" / "junit.xml"
ALLOWED = {
    "testsuites": ({"name", "time", "tests", "failures", "errors", "skipped", "disabled"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package", "file"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": ({"name", "classname", "time", "assertions", "status"}, {"skipped", "failure", "error", "system-out", "system-err"}),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
    "skipped": ({"message", "type"}, set()),
    "system-out": (set(), set()),
}
"""Attributes and children that Jenkins' xUnit schema (junit-10.xsd) allows."""


def parsed(result):
    return ET.fromstring(Junit().render(result))


def case(root, trial, name):
    (found,) = [one for one in root.iter("testcase") if one.get("classname") == trial and one.get("name") == name]
    return found


def outcome(element):
    return {child.tag for child in element} - {"system-out"}


def test_the_file_is_as_it_was_reviewed(results, golden):
    golden(GOLDEN, Junit().render(results.result()))


@pytest.mark.parametrize("name", ["result", "passing", "only_measured", "hostile", "suite"])
def test_the_file_keeps_the_common_schema_and_counts_rightly(results, name):
    root = parsed(getattr(results, name)())
    for element in root.iter():
        attributes, children = ALLOWED[element.tag]
        assert set(element.attrib) <= attributes
        assert {child.tag for child in element} <= children
    for suite in root.iter("testsuite"):
        cases = suite.findall("testcase")
        assert int(suite.get("tests")) == len(cases)
        for tag, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(suite.get(attribute)) == sum(one.find(tag) is not None for one in cases)


def test_a_regression_is_a_failure_with_the_whole_sentence(results):
    found = case(parsed(results.result()), "digits-resnet50/int8-cpu-b1", "latency_p50")
    assert outcome(found) == {"failure"}
    assert found.find("failure").get("message") == sentence_of(results.comparison())


@pytest.mark.parametrize(
    ("trial", "name", "tags"),
    [
        ("digits-resnet50/fp16-cpu-b1", "latency_p50", {"error"}),
        ("digits-resnet50/fp16-cpu-b1", "trial", {"error"}),
        ("digits-resnet50/pruned-cpu-b8", "trial", {"error"}),
        ("digits-resnet50/int8-dynamic-cpu-b1", "latency_p99", {"skipped"}),
        ("digits-resnet50/int8-edge-arm-b1", "trial", {"skipped"}),
        ("digits-resnet50/fp32-cpu-b8", "trial", set()),
        ("digits-resnet50/onnx-cpu-b1", "latency_p50", set()),
        ("digits-resnet50/fp32-cpu-b1", "peak_memory", {"skipped"}),
        ("digits-resnet50/pruned-cpu-b1", "SLA accuracy: at least 97 %", {"failure"}),
        ("digits-resnet50/int8-cpu-b1", "SLA latency_p99: at most 50 ms", set()),
        ("digits-resnet50/int8-dynamic-cpu-b1", "SLA latency_p99: at most 6 ms", {"skipped"}),
        ("digits-resnet50/fp16-cpu-b1", "SLA energy: at most 0.2 J", {"skipped"}),
    ],
)
def test_every_verdict_and_state_has_its_outcome(results, trial, name, tags):
    assert outcome(case(parsed(results.result()), trial, name)) == tags


def test_a_failed_trial_brings_the_users_traceback(results):
    error = case(parsed(results.result()), "digits-resnet50/pruned-cpu-b8", "trial").find("error")
    assert "size mismatch for fc.weight: [10, 2048]" in error.text


def test_a_red_null_control_is_an_error(results):
    result = results.result()
    root = parsed(replace(result, null_control=replace(result.null_control, red=True)))
    assert outcome(case(root, "digits-resnet50/fp32-cpu-b1", "baseline against itself")) == {"error"}


def test_a_comparison_of_a_trial_that_is_not_in_the_result_is_still_told(results):
    root = parsed(results.result(trials=(), comparisons=(results.comparison("gone/int8-cpu-b1", verdict=Verdict.PASS),)))
    assert case(root, "gone/int8-cpu-b1", "latency_p50") is not None
