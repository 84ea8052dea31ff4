import dataclasses

import numpy as np
import pytest
from fakes import cases, results, runs

from harness.core.artifact import AppliedStep
from harness.core.comparison import Verdict
from harness.core.measurement import Failure, FailureReason, SessionFacts
from harness.core.plan import SkippedTrial
from harness.core.result import QUANTILES, TrialState
from harness.core.scenario import PluginRef
from harness.engine.base_arm import BaseArm
from harness.engine.packing import unpack
from harness.engine.record import MOST_FLIPS, record_of, skipped_record, trial_comparisons
from harness.engine.routes import Route

MS = 1_000_000
FAILURE = Failure(FailureReason.SIGNAL, "candidate, slice", "the worker was killed by SIGSEGV")


def compared(*verdicts, advisory=False):
    return [results.comparison("tiny/plain-cpu-b1", verdict=verdict, advisory=advisory) for verdict in verdicts]


def paired(**changes):
    """A case whose two arms were measured."""
    facts = {
        "route": Route.PAIRED,
        "reason": "its content is not its baseline's",
        "baseline": cases.baseline(),
        "derivation": cases.derivation(cases.content("b")),
        "base": cases.base_arm(),
        "base_measurement": cases.launches(MS, MS, arm="baseline"),
        "measurement": cases.launches(2 * MS, 2 * MS),
        "base_predictions": cases.answers([*range(9), 0], targets=range(10)),
    }
    return cases.case(**(facts | changes))


def record(case, **wishes):
    return record_of(case, **({"gated": True, "accepting": False} | wishes))


def test_a_record_names_its_trial_by_all_that_tells_it_apart():
    trial = cases.trial(
        "int8",
        recipes={"fp32": {"runtime": "torch"}, "int8": {"passes": ["export_onnx", "quantize_static"], "runtime": "onnxruntime"}},
        reference="fp32",
    )
    found = record(cases.case(trial=trial))
    assert (found.id, found.scenario, found.recipe, found.hardware, found.device) == ("tiny/int8-cpu-b1", "tiny", "int8", "cpu", "cpu")
    assert (found.batch_size, found.load, found.passes, found.runtime) == (
        1,
        "single_stream",
        ("export_onnx", "quantize_static"),
        "onnxruntime",
    )
    assert not found.is_reference
    assert record(cases.case(trial=dataclasses.replace(trial, recipe=trial.source.scenario.recipes["fp32"]))).is_reference


def test_a_trial_of_another_machine_is_named_and_has_no_verdict():
    found = skipped_record(SkippedTrial(cases.trial(), "needs a CUDA device"))
    assert (found.id, found.state, found.verdict, found.reason) == ("tiny/plain-cpu-b1", TrialState.SKIPPED, None, "needs a CUDA device")


def test_a_measured_trial_has_a_number_or_a_reason_for_every_metric():
    found = record(cases.case())
    told = {estimate.metric for estimate in found.estimates} | {absent.metric for absent in found.absent}
    assert {"accuracy", "model_size", "latency_p50", "latency_p99", "output_cosine", "peak_memory"} <= told
    assert not {estimate.metric for estimate in found.estimates} & {absent.metric for absent in found.absent}
    accuracy, latency = found.estimate("accuracy"), found.estimate("latency_p50")
    assert accuracy is not None and latency is not None
    assert (accuracy.value, latency.value) == (0.9, pytest.approx(1_004_000))


@pytest.mark.parametrize(
    ("gated", "accepting", "state", "verdict", "reason"),
    [
        (False, False, TrialState.MEASURED, None, "measured"),
        (True, False, TrialState.NEW, Verdict.INVALID, "no baseline yet: keep these numbers with 'harness baseline accept'"),
        (True, True, TrialState.NEW, None, "no baseline yet: these numbers become its first"),
    ],
)
def test_without_a_baseline_a_gate_decides_nothing_and_a_run_need_not(gated, accepting, state, verdict, reason):
    found = record(cases.case(), gated=gated, accepting=accepting)
    assert (found.state, found.verdict, found.reason) == (state, verdict, reason)


def test_first_numbers_of_a_machine_are_new_and_judged_by_what_is_the_same_everywhere():
    case = cases.case(baseline=cases.baseline(), reason="this kind of machine has no numbers of it yet")
    assert (record(case).state, record(case).verdict) == (TrialState.NEW, None)
    case.comparisons += compared(Verdict.PASS, Verdict.REGRESSED)
    assert (record(case).verdict, record(case).reason) == (Verdict.REGRESSED, "this kind of machine has no numbers of it yet")


@pytest.mark.parametrize(
    ("verdicts", "worst", "told"),
    [
        ([Verdict.PASS, Verdict.PASS], Verdict.PASS, "2 PASS"),
        ([Verdict.PASS, Verdict.IMPROVED], Verdict.IMPROVED, "1 PASS, 1 IMPROVED"),
        ([Verdict.INCONCLUSIVE, Verdict.PASS], Verdict.INCONCLUSIVE, "1 PASS, 1 INCONCLUSIVE"),
        ([Verdict.REGRESSED, Verdict.INVALID, Verdict.PASS], Verdict.REGRESSED, "1 PASS, 1 INVALID, 1 REGRESSED"),
        ([], Verdict.PASS, "none gated"),
    ],
)
def test_a_compared_trial_has_the_gravest_verdict_of_its_metrics_and_counts_them(verdicts, worst, told):
    found = record(paired(comparisons=compared(*verdicts)))
    assert (found.state, found.verdict) == (TrialState.MEASURED, worst)
    assert found.reason == f"its content is not its baseline's; metrics: {told}"


def test_advice_is_no_part_of_the_verdict():
    found = record(paired(comparisons=[*compared(Verdict.PASS), *compared(Verdict.REGRESSED, advisory=True)]))
    assert found.verdict is Verdict.PASS and found.reason.endswith("metrics: 1 PASS")


@pytest.mark.parametrize(
    ("verdicts", "verdict"), [([], Verdict.INVALID), ([Verdict.PASS], Verdict.INVALID), ([Verdict.REGRESSED], Verdict.REGRESSED)]
)
def test_a_trial_whose_opponent_cannot_be_run_passes_never(verdicts, verdict):
    found = record(paired(base=None, undecided="the baseline cannot be built here", comparisons=compared(*verdicts)))
    assert (found.state, found.verdict, found.reason) == (TrialState.MEASURED, verdict, "the baseline cannot be built here")
    assert found.material is not None, "its numbers may be accepted all the same"


def test_a_failed_trial_is_invalid_with_its_reason_and_keeps_nothing_for_a_baseline():
    found = record(paired(failure=FAILURE, comparisons=compared(Verdict.PASS)))
    assert (found.state, found.verdict, found.reason) == (
        TrialState.FAILED,
        Verdict.INVALID,
        "candidate, slice: the worker was killed by SIGSEGV",
    )
    assert found.failures == (FAILURE,) and found.material is None


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("candidate, slice", "candidate, slice: no answer in 60 s; 'measure.timeout' allows more"),
        ("build, export_onnx", "build, export_onnx: no answer in 60 s; 'measure.build_timeout' allows more"),
        ("predictions, predict", "predictions, predict: no answer in 60 s; 'measure.build_timeout' allows more"),
        ("predictions, open", "predictions, open: no answer in 60 s; 'measure.timeout' allows more"),
    ],
)
def test_after_a_time_out_the_key_that_allows_more_is_told(stage, told):
    assert record(paired(failure=Failure(FailureReason.TIMEOUT, stage, "no answer in 60 s"))).reason == told


def test_a_trial_whose_baseline_cannot_be_read_has_failed():
    found = record(cases.case(route=Route.UNCHANGED, unreadable="baselines/tiny/plain-cpu-b1.json is damaged"))
    assert (found.state, found.verdict, found.reason) == (TrialState.FAILED, Verdict.INVALID, "baselines/tiny/plain-cpu-b1.json is damaged")
    assert found.estimates == () and found.content == cases.content()


def unchanged(key):
    return cases.case(
        route=Route.UNCHANGED,
        reason="its content is its baseline's",
        baseline=cases.baseline(),
        environment_key=key,
        subject=None,
        predictions=None,
        measurement=None,
    )


def test_an_unchanged_trial_shows_the_accepted_numbers_of_this_kind_of_machine():
    kept = cases.baseline()
    found = record(unchanged(cases.HERE))
    assert (found.state, found.verdict, found.reason) == (TrialState.UNCHANGED, Verdict.PASS, "its content is its baseline's")
    assert found.estimates == (*kept.portable.estimates, *kept.measured[cases.HERE].estimates)
    assert found.distributions == (kept.measured[cases.HERE].distribution,)
    assert found.material is None


def test_on_another_kind_of_machine_an_unchanged_trial_shows_no_timings():
    kept = cases.baseline()
    found = record(unchanged(cases.ELSEWHERE))
    assert found.estimates == kept.portable.estimates and found.facts is None and found.distributions == ()


def test_both_arms_are_drawn_and_each_launch_is_sketched():
    found = record(paired())
    assert [(item.arm, len(item.launches)) for item in found.distributions] == [("baseline", 2), ("candidate", 2)]
    assert found.distributions[1].launches[0].quantiles_ns == (2 * MS,) * len(QUANTILES)


def test_launches_that_never_settled_are_told_by_arm():
    restless = runs.measurement(runs.even_run(MS, pair=0, steady=False), runs.even_run(MS, pair=1))
    found = record(paired(base_measurement=restless, notes=["a note"]))
    assert found.notes == ("a note", "UNSTEADY: in 1 of 2 launches of the baseline the halves differ by more than 10 %")


def test_what_a_baseline_keeps_is_what_the_trial_gave():
    material = record(cases.case()).material
    assert material is not None
    assert (material.artifact_key, material.evaluation_key, material.runtime) == ("artifact of a", "e" * 64, PluginRef(name="fake"))
    assert unpack(material.scores["accuracy"]).tolist() == [1.0] * 9 + [0.0]
    assert set(material.scores) == {"accuracy"}, "of the metrics that are gated"
    assert material.answers is not None and unpack(material.answers).tolist() == [*range(9), 0]
    assert material.figures["latency_p50"] == (1_000_000, 1_020_000, 1_010_000, 990_000, 1_000_000)
    assert "latency_p99" not in material.figures, "what has no value has no figures"


def test_more_scores_are_kept_where_the_scenario_gates_more():
    one = cases.case(trial=cases.trial(gate={"output_cosine": "1 %", "accuracy": "off"}))
    one.score(cases.answers([*range(9), 1]))
    material = record(one).material
    assert material is not None and unpack(material.scores["output_cosine"]).tolist() == [1.0] * 9 + [0.0]
    assert set(material.scores) == {"output_cosine"}


@pytest.mark.parametrize("missing", [{"subject": None}, {"predictions": None}, {"measurement": None}, {"measurement": runs.measurement()}])
def test_a_trial_that_was_not_measured_to_the_end_keeps_nothing(missing):
    assert record(cases.case(**missing)).material is None


def test_other_tasks_than_classification_have_no_answers_and_no_flips():
    vectors = runs.predictions(np.ones((10, 4)), task="embedding")
    found = record(paired(predictions=vectors, base_predictions=vectors))
    assert found.material is not None and found.material.answers is None
    assert found.flips == ()


def test_every_sample_whose_answer_changed_is_named():
    now = cases.answers([0, 1, 2, 9], targets=[0, 1, 3, 3])
    found = record(paired(predictions=now, base_predictions=cases.answers([0, 1, 3, 3], targets=[0, 1, 3, 3])))
    assert [(flip.sample, flip.target, flip.baseline, flip.candidate) for flip in found.flips] == [(2, "3", "3", "2"), (3, "3", "3", "9")]


def test_without_targets_a_flip_has_none():
    found = record(paired(predictions=cases.answers([1]), base_predictions=cases.answers([2])))
    assert [(flip.target, flip.baseline, flip.candidate) for flip in found.flips] == [("", "2", "1")]


def test_flips_are_told_against_the_stored_answers_to_the_same_samples_only():
    changes = {"route": Route.PORTABLE, "base": None, "base_predictions": None, "predictions": cases.answers([1] * 10, targets=range(10))}
    same = record(paired(**changes))
    assert [flip.sample for flip in same.flips] == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    other = record(paired(**changes, derivation=cases.derivation(cases.content("b"), evaluation="f")))
    assert other.flips == ()
    shorter = record(paired(**(changes | {"predictions": cases.answers([1] * 9)})))
    assert shorter.flips == ()


def test_flips_are_named_up_to_a_number():
    count = MOST_FLIPS + 500
    found = record(paired(predictions=cases.answers([1] * count), base_predictions=cases.answers([2] * count)))
    assert len(found.flips) == MOST_FLIPS and found.flips[-1].sample == MOST_FLIPS - 1


def changes_of(**changes):
    return record(paired(**changes)).changes


def test_a_change_that_nothing_else_explains_is_in_the_code_the_arguments_or_the_files():
    assert changes_of() == ("code, arguments or files of the model or its data",)


def test_the_same_source_has_no_changes_to_tell():
    assert changes_of(derivation=cases.derivation()) == ()


def test_steps_are_told_with_their_options_and_with_what_they_report():
    before = cases.subject(options='{"per_channel": false}', notes=("54 of 54 nodes",))
    found = changes_of(
        base=BaseArm(before, "base predictions", None),
        subject=cases.subject(options='{"per_channel": true}', notes=("42 of 54 nodes", "12 left")),
    )
    assert found == (
        'step only in the baseline: fake {"per_channel": false}',
        'step only in the candidate: fake {"per_channel": true}',
        "fake: 54 of 54 nodes -> 42 of 54 nodes; 12 left",
    )


def test_an_added_step_is_told():
    plain = cases.subject()
    longer = dataclasses.replace(
        plain, artifact=dataclasses.replace(plain.artifact, steps=(*plain.artifact.steps, AppliedStep("fuse", "{}")))
    )
    assert changes_of(subject=longer) == ("step only in the candidate: fuse {}",)


def test_another_runtime_other_data_and_other_versions_are_told():
    found = changes_of(
        trial=cases.trial("slower"),
        derivation=cases.derivation(cases.content("b", numpy="2.5.0", requests="2.32.0"), evaluation="f"),
    )
    assert found == (
        "runtime: fake -> fake {'add_latency_us': 10}",
        "what the evaluation data come from: code, arguments or the version of a package",
        "numpy 2.4.1 -> 2.5.0",
    )


def test_what_the_sessions_report_differently_is_told():
    before, now = SessionFacts("cpu", "fp32", 1, ("one",)), SessionFacts("cpu", "int8", 2, ("one", "two"))
    arms = [runs.measurement(runs.even_run(facts=facts), runs.even_run(pair=1, facts=facts)) for facts in (before, now)]
    found = changes_of(base_measurement=arms[0], measurement=arms[1])
    assert found == ("precision: fp32 -> int8", "threads: 1 -> 2", "session: one -> one, two")


def test_a_trial_without_a_baseline_has_nothing_to_differ_from():
    assert record(cases.case()).changes == ()


def test_all_comparisons_stand_in_the_order_of_the_trials():
    first, second = paired(comparisons=compared(Verdict.PASS)), paired(comparisons=compared(Verdict.REGRESSED, Verdict.PASS))
    assert trial_comparisons([first, second]) == (*first.comparisons, *second.comparisons)
