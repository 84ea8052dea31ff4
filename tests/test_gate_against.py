"""``harness gate --against REF``: an earlier commit in the place of accepted baselines, in a repository that has none."""

import re

import pytest
from fakes.workplaces import SCENARIO, TRIAL, accepted, workplace


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A repository whose main has a scenario and no baseline, with an artifact in its cache."""
    folder = tmp_path_factory.mktemp("against")
    place = workplace(folder / "repository", folder / "cache")
    place.git("tag", "base")
    return place


@pytest.fixture
def place(base):
    """The repository as main has it."""
    base.git("checkout", "--quiet", "--force", "base")
    base.git("clean", "--quiet", "-fd")
    return base


def test_a_change_of_documents_measures_nothing(place):
    place.write("README.md", "What this is.\n")
    place.commit()
    ended = place.harness("gate", "scenarios", "--against", "main")
    assert ended.code == 0
    assert ended.told.startswith("PASS: 1 trial unchanged\n\n")
    assert re.search(r"note: compared with main \([0-9a-f]{12}\) as it is built now, not with accepted baselines\n", ended.told)
    assert place.launches() == []


def test_a_slower_model_is_red_and_says_what_differs_from_the_commit(place):
    place.replace("scenarios/tiny.yaml", "latency_us: 300", "latency_us: 600")
    ended = place.harness("gate", "scenarios", "--against", "base")
    assert ended.code == 1
    assert ended.told.startswith("REGRESSED: 1 metric regressed\n")
    assert re.search(rf"latency_p50 of {TRIAL} went from 3\d\d µs to 6\d\d µs", ended.told)
    assert f"{TRIAL} differs from its baseline: step only in the baseline: fake" in ended.told
    assert {event["run"]["arm"] for event in place.launches()} == {"baseline", "candidate"}


def test_what_the_commit_does_not_have_is_new_and_no_reason_to_fail(place):
    place.replace("scenarios/tiny.yaml", "  base: {runtime: fake}\n", "  base: {runtime: fake}\n  other: {runtime: fake}\n")
    ended = place.harness("gate", "scenarios", "--against", "base", "--json")
    assert ended.code == 0
    states = {trial["recipe"]: (trial["state"], trial["reason"]) for trial in ended.summary["trials"]}
    assert states["base"][0] == "UNCHANGED"
    assert states["other"][0] == "NEW"
    assert re.fullmatch(r"base \([0-9a-f]{12}\) does not have it: there is nothing to compare with", states["other"][1])


def test_the_data_and_the_code_are_those_of_the_commit(place):
    """Half of the samples get another label: the same model is less accurate on the candidate's data, in both arms."""
    place.replace("scenarios/data.py", "labels % 10", "(labels + labels % 2) % 10")
    ended = place.harness("gate", "scenarios", "--against", "base", "--json")
    accuracy = next(item for item in ended.summary["comparisons"] if item["metric"] == "accuracy")
    assert accuracy["baseline"] == accuracy["candidate"] == 0.5
    assert accuracy["verdict"] == "PASS"


def test_a_commit_that_is_not_there_is_bad_input_with_the_next_step(place):
    ended = place.harness("gate", "scenarios", "--against", "nowhere")
    assert ended.code == 2
    assert "error: --against nowhere: there is no such commit in " in ended.err
    assert "'git fetch origin main'" in ended.err


def test_a_scenario_that_cannot_be_read_as_the_commit_has_it_is_named(place):
    place.replace("scenarios/tiny.yaml", "version: 1", "version: 7")
    place.commit("broken")
    place.git("tag", "--force", "broken")
    place.write("scenarios/tiny.yaml", SCENARIO)
    ended = place.harness("gate", "scenarios", "--against", "broken")
    assert ended.code == 3
    assert "the scenario cannot be read as broken (" in ended.told


def test_accepting_first_baselines_and_comparing_with_a_commit_exclude_each_other(place):
    ended = place.harness("gate", "scenarios", "--against", "base", "--new-baselines", "accept")
    assert ended.code == 2
    assert "--against compares with a commit" in ended.err


def test_accepted_numbers_of_the_same_content_serve_the_sla(tmp_path, tmp_path_factory):
    place = accepted(tmp_path_factory.getbasetemp(), tmp_path / "repository")
    place.write("scenarios/tiny.yaml", SCENARIO + "sla: {latency_p50: at most 50 ms}\n")
    ended = place.harness("gate", "scenarios", "--against", "main", "--json")
    assert ended.code == 0
    assert [finding["state"] for finding in ended.summary["sla"]] == ["KEPT"]
    assert place.launches() == []


def test_a_resumed_run_is_compared_with_the_same_commit_though_the_branch_has_moved(place):
    place.replace("scenarios/tiny.yaml", "latency_us: 300", "latency_us: 330")
    ended = place.harness("gate", "scenarios", "--against", "base")
    measured = len(place.launches())
    place.git("tag", "--force", "base-moved")
    again = place.harness("gate", "--resume", "latest")
    assert again.code == ended.code == 1
    assert len(place.launches()) >= measured
    assert re.search(r"note: compared with [0-9a-f]{40} as it is built now", again.told)


def test_two_models_that_fill_a_device_are_launched_one_after_the_other(place):
    place.replace("scenarios/tiny.yaml", "{latency_us: 300}", "{latency_us: 300, fills: gate-test}")
    place.commit("fills")
    place.replace("scenarios/tiny.yaml", "latency_us: 300", "latency_us: 600")
    ended = place.harness("gate", "scenarios", "--against", "HEAD")
    assert ended.code == 1
    assert f"note: {TRIAL}: both arms did not fit into memory together" in ended.told
    times = [(run["arm"], run["slices"][0]["started_ns"], run["slices"][-1]["started_ns"]) for run in (e["run"] for e in place.launches())]
    first, second, third, fourth = sorted(times[:4], key=lambda item: item[1])
    assert first[2] < second[1] and third[2] < fourth[1]  # never at once
    assert [first[0], second[0], third[0], fourth[0]] == ["baseline", "candidate", "candidate", "baseline"]
