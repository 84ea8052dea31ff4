import math
from dataclasses import replace

import pytest
from fakes import results

from harness.core.comparison import SlaState
from harness.core.estimate import ConfidenceInterval, Estimate
from harness.core.result import TrialState
from harness.core.tracked import tracked
from harness.core.units import Unit

INT8 = "digits-resnet50/int8-cpu-b1"


@pytest.fixture(scope="module")
def run():
    return tracked(results.result(), {"summary.json": b"{}"})


def the(run, trial=INT8):
    (found,) = [one for one in run.trials if one.id == trial]
    return found


def test_every_trial_is_tracked_those_that_were_not_measured_too(run):
    assert [trial.id for trial in run.trials] == [trial.id for trial in results.result().trials]
    assert [trial.id for trial in run.trials if trial.failed] == ["digits-resnet50/pruned-cpu-b8"]


def test_every_number_is_told_with_both_ends_of_its_interval_in_its_own_unit(run):
    told, (record,) = the(run), [trial for trial in results.result().trials if trial.id == INT8]
    for estimate in record.estimates:
        assert told.metrics[estimate.metric] == estimate.value
        assert told.params[f"unit.{estimate.metric}"] == estimate.unit
        ends = [told.metrics.get(f"{estimate.metric}/{end}") for end in ("low", "high")]
        assert ends == ([None, None] if estimate.interval is None else [estimate.interval.low, estimate.interval.high])


def test_what_was_not_measured_is_left_out_and_is_no_zero(run):
    unchanged = the(run, "digits-resnet50/fp32-cpu-b8")
    assert (unchanged.metrics, unchanged.tags["state"]) == ({}, "UNCHANGED")
    assert "verdict" not in unchanged.tags and "precision" not in unchanged.params


def test_an_open_end_of_an_interval_is_left_out():
    open_ended = Estimate("accuracy", Unit.FRACTION, "higher", 0.9, ConfidenceInterval(0.8, math.inf, 0.95), 540, "samples")
    told = tracked(results.result(trials=(results.trial("fp32", estimates=(open_ended,)),), comparisons=(), sla=()), {})
    assert told.trials[0].metrics == {"accuracy": 0.9, "accuracy/low": 0.8}


def test_a_comparison_is_told_by_effect_interval_and_verdict(run):
    told, comparisons = the(run), [one for one in results.result().comparisons if one.trial == INT8]
    assert {one.scale for one in comparisons} == {"ratio", "difference"}
    for one in comparisons:
        name = f"{one.metric}/{one.scale}"
        numbers = [told.metrics[key] for key in (f"{one.metric}/baseline", name, f"{name}/low", f"{name}/high")]
        assert numbers == [one.baseline, one.effect, one.interval.low, one.interval.high]
        assert told.tags[f"verdict.{one.metric}"] == one.verdict


def test_a_verdict_that_decides_nothing_says_so(run):
    assert the(run, "digits-resnet50/fp32-cpu-b1").tags["verdict.peak_memory"] == "REGRESSED (advisory)"


def test_a_promise_is_a_parameter_and_whether_it_is_kept_a_tag(run):
    told = the(run)
    assert (told.params["sla.latency_p99"], told.tags["sla.latency_p99"]) == ("at most 50 ms", SlaState.KEPT)


def test_what_went_in_and_where_it_ran_are_parameters(run):
    params, whole = the(run).params, results.result()
    assert (params["recipe"], params["runtime"], params["hardware"], params["batch_size"]) == ("int8", "onnxruntime", "cpu", 1)
    assert params["passes"] == "export_onnx, quantize_static" and params["step.2.quantize_static"] == '{"per_channel": true}'
    assert params["content_digest"] == "9b1c" * 16 and params["source_digest"] == "77aa" * 16
    assert params["environment.cpu_model"] == whole.environment.cpu_model and params["version.onnxruntime"] == "1.32.0"
    assert params["environment.dirty"] is True and None not in params.values()


def test_a_trial_of_another_machine_is_not_told_to_have_run_on_this_one(run):
    skipped = the(run, "digits-resnet50/int8-edge-arm-b1")
    assert skipped.tags["state"] == TrialState.SKIPPED
    assert [name for name in skipped.params if name.startswith(("environment.", "version."))] == []


def test_versions_of_the_trial_stand_over_those_of_the_process_that_started_it():
    environment = replace(results.result().environment, packages={"onnxruntime": "1.0.0", "numpy": "2.4.1"})
    params = the(tracked(results.result(environment=environment), {})).params
    assert (params["version.onnxruntime"], params["version.numpy"]) == ("1.32.0", "2.4.1")
