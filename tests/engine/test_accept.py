import dataclasses

import pytest
from fakes import cases

from harness.core.comparison import Verdict
from harness.core.errors import BadInput, CannotMeasure, ExitCode
from harness.core.measurement import Failure, FailureReason
from harness.core.result import TrialState
from harness.engine.accept import MOST_SESSIONS, accept, accept_new, baseline_of
from harness.engine.routes import Route
from harness.store.baselines import Baselines

PLAIN, SLOWER = "tiny/plain-cpu-b1", "tiny/slower-cpu-b1"
NOW = cases.NOW
FAILURE = Failure(FailureReason.EXCEPTION, "build", "ValueError: no such layer")


@pytest.fixture
def baselines(tmp_path):
    return Baselines(tmp_path)


def measured(recipe="plain", *, source="a", machine=cases.HERE, latency_ns=1_000_000, wrong=1, **versions):
    """The record of a trial of ten samples that was measured on a machine."""
    return cases.record(
        cases.case(
            trial=cases.trial(recipe),
            derivation=cases.derivation(cases.content(source, **versions)),
            environment_key=machine,
            measurement=cases.launches(latency_ns, latency_ns),
            predictions=cases.answers([(sample + (sample < wrong)) % 10 for sample in range(10)], targets=range(10)),
        )
    )


def failed(recipe="slower"):
    return cases.record(cases.case(trial=cases.trial(recipe), failure=FAILURE))


def unchanged(baseline):
    return cases.record(cases.case(route=Route.UNCHANGED, baseline=baseline, subject=None, predictions=None, measurement=None))


def test_a_run_of_a_clean_commit_becomes_baselines(baselines):
    result = cases.result(measured(), measured("slower"))
    assert accept(result, baselines, now=NOW) == (PLAIN, SLOWER)
    assert baselines.trials() == (PLAIN, SLOWER)
    kept = baselines.read(PLAIN)
    assert kept is not None and kept == baseline_of(result.trials[0], result, None, now=NOW, renew=True)
    assert (kept.accepted_at, kept.portable.commit, kept.portable.scenario_path) == (NOW, cases.COMMIT, "scenarios/tiny.yaml")
    assert kept.portable.content == cases.content()
    assert set(kept.measured) == {cases.HERE}


def test_what_is_the_same_everywhere_and_what_a_machine_gave_are_kept_apart():
    kept = cases.baseline()
    assert {estimate.metric for estimate in kept.portable.estimates} == {"model_size", "accuracy", "accuracy_top5"}
    here = kept.measured[cases.HERE]
    assert {"latency_p50", "peak_memory"} <= {estimate.metric for estimate in here.estimates}
    assert {estimate.n_of for estimate in here.estimates} == {"launches"}
    assert len(here.figures["latency_p50"]) == 5
    assert here.machine == "AMD EPYC 7B13, 2 CPUs, 8 GiB, Debian GNU/Linux 12"


def test_of_a_pair_the_candidates_numbers_are_kept():
    base, candidate = cases.launches(2_000_000, 2_000_000, arm="baseline"), cases.launches(1_000_000, 1_000_000)
    case = cases.case(
        route=Route.PAIRED, baseline=cases.baseline(), base=cases.base_arm(), base_measurement=base, measurement=candidate, comparisons=[]
    )
    (here,) = cases.baseline(case).measured.values()
    assert here.distribution.arm == "baseline"
    assert [launch.quantiles_ns[0] for launch in here.distribution.launches] == [1_000_000, 1_000_000]
    assert here.sessions["latency_p50"] == (1_000_000,)


def test_uncommitted_source_is_refused_and_forced_without_a_commit(baselines):
    result = cases.result(measured(), dirty=True)
    with pytest.raises(CannotMeasure, match="measured source that was not committed") as caught:
        accept(result, baselines, now=NOW)
    assert caught.value.hint is not None and caught.value.hint.startswith("commit first, or add --force")
    assert caught.value.exit_code is ExitCode.NOT_DECIDED
    assert baselines.trials() == ()
    assert accept(result, baselines, now=NOW, force=True) == (PLAIN,)
    kept = baselines.read(PLAIN)
    assert kept is not None and kept.portable.commit is None, "it cannot be built again from the commit that it differs from"


@pytest.mark.parametrize(
    "override", ["seed=1", "model.args.width=8", "recipes.plain.runtime=fake", "measure.load=offline", "data.task=other"]
)
def test_what_the_scenario_does_not_hold_is_refused_and_forced(baselines, override):
    result = cases.result(measured())
    with pytest.raises(CannotMeasure, match=f"did not measure what the scenario holds: --set {override}") as caught:
        accept(result, baselines, now=NOW, overrides=["measure.duration=2 s", override])
    assert caught.value.hint is not None and "--force" in caught.value.hint
    assert baselines.trials() == ()
    assert accept(result, baselines, now=NOW, overrides=[override], force=True) == (PLAIN,)


def test_longer_launches_and_other_promises_are_no_other_content(baselines):
    overrides = ["measure.duration=2 s", "measure.launches=9", "sla.latency_p50=at most 1 s", "gate.accuracy=off", "stored=decide"]
    assert accept(cases.result(measured()), baselines, now=NOW, overrides=overrides) == (PLAIN,)


def test_outside_version_control_a_run_is_accepted_without_a_commit(baselines):
    assert accept(cases.result(measured(), dirty=None, commit=None), baselines, now=NOW) == (PLAIN,)
    kept = baselines.read(PLAIN)
    assert kept is not None and kept.portable.commit is None


def test_a_trial_that_failed_is_refused_and_forced_without_it(baselines):
    result = cases.result(measured(), failed())
    with pytest.raises(CannotMeasure, match=f"{SLOWER} failed in run {result.id}: build: ValueError: no such layer") as caught:
        accept(result, baselines, now=NOW)
    assert "--force" in str(caught.value)
    assert baselines.trials() == ()
    assert accept(result, baselines, now=NOW, force=True) == (PLAIN,)
    assert baselines.trials() == (PLAIN,)


def test_a_failed_trial_that_is_not_chosen_is_no_hindrance(baselines):
    assert accept(cases.result(measured(), failed()), baselines, now=NOW, only=["plain"]) == (PLAIN,)


@pytest.mark.parametrize(
    ("only", "taken"), [(["plain"], (PLAIN,)), (["slower-*"], (SLOWER,)), (["*-b1"], (PLAIN, SLOWER)), ([], (PLAIN, SLOWER))]
)
def test_patterns_choose_among_the_trials_of_the_run(baselines, only, taken):
    assert accept(cases.result(measured(), measured("slower")), baselines, now=NOW, only=only) == taken
    assert baselines.trials() == taken


def test_a_pattern_that_matches_nothing_is_bad_input(baselines):
    with pytest.raises(BadInput, match=r"no trial of run .* matches int8, fp16"):
        accept(cases.result(measured()), baselines, now=NOW, only=["int8", "fp16"])
    assert baselines.trials() == ()


def test_a_run_that_measured_nothing_new_has_nothing_to_accept(baselines):
    with pytest.raises(CannotMeasure, match="measured nothing that is not a baseline already"):
        accept(cases.result(unchanged(cases.baseline())), baselines, now=NOW)


def test_what_did_not_change_keeps_its_baseline(baselines):
    kept = cases.baseline()
    path = baselines.write(kept)
    before = path.read_bytes()
    assert accept(cases.result(unchanged(kept), measured("slower")), baselines, now=NOW) == (SLOWER,)
    assert path.read_bytes() == before


def test_a_regression_that_is_meant_becomes_the_baseline(baselines):
    worse = dataclasses.replace(measured(), state=TrialState.MEASURED, verdict=Verdict.REGRESSED)
    assert accept(cases.result(worse), baselines, now=NOW) == (PLAIN,)


def test_of_the_same_source_the_numbers_of_other_machines_are_kept(baselines):
    accept(cases.result(measured(machine=cases.ELSEWHERE, latency_ns=3_000_000)), baselines, now=NOW)
    elsewhere = baselines.read(PLAIN)
    accept(cases.result(measured(numpy="2.5.0")), baselines, now=NOW)
    kept = baselines.read(PLAIN)
    assert elsewhere is not None and kept is not None
    assert set(kept.measured) == {cases.HERE, cases.ELSEWHERE}
    assert kept.measured[cases.ELSEWHERE] == elsewhere.measured[cases.ELSEWHERE]
    assert kept.portable.content.toolchain["numpy"] == "2.5.0", "what is the same everywhere is of the newest run"


def test_of_another_source_the_numbers_of_other_machines_are_dropped(baselines):
    accept(cases.result(measured(machine=cases.ELSEWHERE)), baselines, now=NOW)
    accept(cases.result(measured(source="b")), baselines, now=NOW)
    kept = baselines.read(PLAIN)
    assert kept is not None and set(kept.measured) == {cases.HERE}


def accepted_sessions(baselines, *runs):
    for identity, record in runs:
        accept(cases.result(record, id=identity), baselines, now=NOW)
    kept = baselines.read(PLAIN)
    assert kept is not None
    return {key: part.sessions["latency_p50"] for key, part in kept.measured.items()}


def test_each_accepted_run_is_one_more_session_of_its_machine(baselines):
    sessions = accepted_sessions(
        baselines,
        ("run-1", measured(latency_ns=1_000_000)),
        ("run-2", measured(latency_ns=1_100_000)),
        ("run-3", measured(latency_ns=5_000_000, machine=cases.ELSEWHERE)),
        ("run-4", measured(latency_ns=1_200_000)),
    )
    assert sessions == {cases.HERE: (1_000_000, 1_100_000, 1_200_000), cases.ELSEWHERE: (5_000_000,)}


def test_sessions_of_another_source_are_forgotten(baselines):
    sessions = accepted_sessions(baselines, ("run-1", measured()), ("run-2", measured(source="b", latency_ns=2_000_000)))
    assert sessions == {cases.HERE: (2_000_000,)}


def test_a_run_that_is_accepted_twice_is_one_session(baselines):
    run = ("run-1", measured())
    assert accepted_sessions(baselines, run, run, run) == {cases.HERE: (1_000_000,)}


def test_the_latest_sessions_are_kept_up_to_a_number(baselines):
    one = cases.baseline()
    many = dataclasses.replace(one.measured[cases.HERE], sessions={"latency_p50": tuple(range(MOST_SESSIONS))})
    baselines.write(dataclasses.replace(one, measured={cases.HERE: many}))
    sessions = accepted_sessions(baselines, ("run-1", measured(latency_ns=7_000_000)))
    assert sessions == {cases.HERE: (*range(1, MOST_SESSIONS), 7_000_000)}


def test_a_damaged_baseline_is_replaced(baselines):
    path = baselines.write(cases.baseline())
    path.write_text("<<<<<<< HEAD")
    accept(cases.result(measured()), baselines, now=NOW)
    kept = baselines.read(PLAIN)
    assert kept is not None and set(kept.measured) == {cases.HERE}


def new(case=None, **changes):
    return dataclasses.replace(cases.record(case, accepting=True), state=TrialState.NEW, **changes)


def test_first_numbers_become_baselines_and_nothing_else_does(baselines):
    known = cases.baseline()
    result = cases.result(new(), dataclasses.replace(measured("slower"), state=TrialState.MEASURED), unchanged(known), failed())
    assert accept_new(result, baselines, now=NOW) == (PLAIN,)
    assert baselines.trials() == (PLAIN,)


def test_first_numbers_of_a_machine_leave_what_is_the_same_everywhere_as_it_was_reviewed(baselines):
    known = cases.baseline()
    baselines.write(known)
    versions = cases.content(numpy="2.5.0")
    case = cases.case(
        baseline=known,
        derivation=cases.derivation(versions),
        environment_key=cases.ELSEWHERE,
        predictions=cases.answers([0] * 10, targets=range(10)),
    )
    assert accept_new(cases.result(new(case), commit="d" * 40), baselines, now="2026-12-01T10:00:00+00:00") == (PLAIN,)
    kept = baselines.read(PLAIN)
    assert kept is not None and kept.portable == known.portable
    assert kept.measured[cases.HERE] == known.measured[cases.HERE]
    assert set(kept.measured) == {cases.HERE, cases.ELSEWHERE}


def test_first_numbers_of_another_source_are_a_whole_new_baseline(baselines):
    baselines.write(cases.baseline())
    case = cases.case(derivation=cases.derivation(cases.content("b")), environment_key=cases.ELSEWHERE)
    accept_new(cases.result(new(case), commit="d" * 40), baselines, now=NOW)
    kept = baselines.read(PLAIN)
    assert kept is not None and (kept.portable.content.source, kept.portable.commit) == ("b" * 64, "d" * 40)
    assert set(kept.measured) == {cases.ELSEWHERE}


def test_new_numbers_that_were_not_measured_to_the_end_are_none(baselines):
    assert accept_new(cases.result(new(material=None)), baselines, now=NOW) == ()
    assert baselines.trials() == ()
