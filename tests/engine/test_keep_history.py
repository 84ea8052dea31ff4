import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import results

from harness.core.result import TrialState
from harness.engine.keep_history import default_tolerance, keep_history, project_name, project_of, ref_of


@pytest.fixture(autouse=True)
def own_history(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_HISTORY", str(tmp_path / "history.sqlite"))
    for name in ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME"):
        monkeypatch.delenv(name, raising=False)


def run(number, *trials, **changes):
    made = trials or (results.trial(charts=False, slower=1.08 if number > 12 else 1.0),)
    facts = {"id": f"run-{number:02}", "started_at": f"2026-10-{number:02}T08:00:00Z", "trials": made, "comparisons": (), "notes": ()}
    return results.result(**(facts | changes))


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/owner/digits.git",
        "https://github.com/owner/digits/",
        "https://user:secret@github.com/owner/digits.git",
        "https://x-access-token:secret@GitHub.com:443/owner/digits?token=secret",
        "ssh://git@github.com:22/owner/digits.git",
        "git@github.com:owner/digits.git",
        "github.com:/owner/digits",
    ],
)
def test_every_way_to_write_a_remote_is_one_project_without_a_password(remote):
    assert project_name(remote, Path("/somewhere")) == "github.com/owner/digits"


@pytest.mark.parametrize(
    ("remote", "name"), [(None, "checkout"), ("", "checkout"), ("/srv/git/digits.git", "/srv/git/digits"), ("../up:stream", "../up:stream")]
)
def test_a_folder_is_its_own_name(remote, name):
    assert project_name(remote, Path("/home/user/checkout")) == name


def test_the_remote_is_asked_of_git(tmp_path):
    assert project_of(tmp_path) == tmp_path.name
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", "git@example.com:team/model.git"], check=True)
    assert project_of(tmp_path) == "example.com/team/model"


@pytest.mark.parametrize(
    ("environment", "branch", "ref"),
    [
        ({"GITHUB_HEAD_REF": "topic", "GITHUB_REF_NAME": "12/merge"}, "HEAD", "topic"),
        ({"GITHUB_HEAD_REF": "", "GITHUB_REF_NAME": "main"}, "HEAD", "main"),
        ({"CI_COMMIT_REF_NAME": "release"}, "other", "release"),
        ({}, "main", "main"),
        ({}, "HEAD", None),
        ({}, None, None),
    ],
)
def test_the_branch_is_what_ci_tells_and_else_what_git_does(environment, branch, ref):
    assert ref_of(environment, branch) == ref


def test_a_run_is_appended_and_told_the_trends_of_what_is_gated(tmp_path):
    assert keep_history(run(1), tmp_path).trends == () == keep_history(run(2), tmp_path).trends
    told = keep_history(run(3), tmp_path)
    assert [trend.metric for trend in told.trends] == ["accuracy", "latency_p50", "latency_p99", "model_size", "throughput"]
    assert told == replace(run(3), trends=told.trends)
    assert [point.run for point in told.trends[0].points] == ["run-01", "run-02", "run-03"]


def test_a_drift_is_told_of_the_trials_and_machines_of_this_run_alone(tmp_path):
    other = results.trial("onnx", charts=False)
    for number in range(1, 25):
        keep_history(run(number, results.trial(charts=False, slower=1.08 if number > 12 else 1.0), other), tmp_path)
    told = keep_history(run(25), tmp_path)
    assert {trend.trial for trend in told.trends} == {results.trial().id}
    assert {trend.metric for trend in told.trends if trend.changes} == {"latency_p50", "throughput"}
    elsewhere = keep_history(run(26, results.trial(charts=False, environment_key="elsewhere")), tmp_path)
    assert elsewhere.trends == ()


def test_the_tolerance_of_the_run_holds_before_that_of_the_metric(tmp_path):
    for number in range(1, 25):
        keep_history(run(number), tmp_path)
    lenient = keep_history(run(25, comparisons=(results.comparison(results.trial().id, tolerance=0.2),)), tmp_path)
    assert {trend.metric for trend in lenient.trends if trend.changes} == {"throughput"}


def test_a_trial_that_was_not_measured_is_told_its_history_all_the_same(tmp_path):
    for number in (1, 2, 3):
        keep_history(run(number), tmp_path)
    unchanged = results.trial(charts=False, state=TrialState.UNCHANGED)
    assert {len(trend.points) for trend in keep_history(run(4, unchanged), tmp_path).trends} == {3}


def test_a_history_that_fails_costs_a_note_and_never_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_HISTORY", str(tmp_path))
    (note,) = keep_history(run(1), tmp_path).notes
    assert note.startswith(f"the history was left out: the history {tmp_path} cannot be written: unable to open database file ")
    monkeypatch.setenv("HARNESS_HISTORY", "nothing://x")
    kept = keep_history(run(1), tmp_path)
    assert "HARNESS_HISTORY: 'nothing' is no database known here" in kept.notes[0]
    assert replace(kept, notes=()) == run(1)


def test_a_history_that_is_switched_off_changes_nothing_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_HISTORY", "off")
    assert keep_history(run(1), tmp_path) == run(1)
    assert list(tmp_path.iterdir()) == []


def test_a_metric_without_a_tolerance_of_its_own_is_given_two_percent():
    told = {"latency_p99": 0.1, "accuracy": 0.005, "latency_mean": 0.02, "of an older program": 0.02}
    assert {name: default_tolerance(name) for name in told} == told
