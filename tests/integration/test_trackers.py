"""Runs in Weights & Biases (offline) and MLflow (a local store), read back with what these tools wrote themselves."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import results
from fakes.wandb_file import read_offline_run

from harness import pipeline
from harness.cli import cli
from harness.core.errors import CannotMeasure, MissingPackage
from harness.core.result import TrialState
from harness.core.tracked import tracked
from harness.store.runs import RunFolder
from harness.trackers.wandb import run_id

WHOLE = results.result()
RESULT = replace(
    WHOLE,
    trials=tuple(trial for trial in WHOLE.trials if trial.recipe == "int8" or trial.state is TrialState.FAILED),
    id="20261124-093012-9f3a",
)
TOLD = {trial.id: trial for trial in tracked(RESULT, {}).trials}
REPORTS = ("report.html", "summary.json")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with one saved run."""
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_ERROR_REPORTING", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, {"WANDB_ERROR_REPORTING": "false"}.get(name, "true"))
    for name in (
        "WANDB_MODE",
        "WANDB_API_KEY",
        "WANDB_PROJECT",
        "WANDB_ENTITY",
        "WANDB_DIR",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_NAME",
    ):
        monkeypatch.delenv(name, raising=False)
    RunFolder(tmp_path / "reports" / RESULT.id).save(RESULT, {})
    return tmp_path


def told(*words):
    done = CliRunner().invoke(cli, ["export", *words, f"reports/{RESULT.id}"], catch_exceptions=False, standalone_mode=False)
    return [line.split("  ") for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_wandb_gets_a_run_for_each_trial_with_all_that_is_known_of_it(project):
    lines = told("wandb", "--offline", "--project", "inference")
    assert [trial for trial, _ in lines] == list(TOLD)
    for trial, folder in lines:
        run, expected = read_offline_run(Path(folder)), TOLD[trial]
        assert (run.name, run.group, run.project) == (trial, RESULT.id, "inference")
        assert run.id == run_id(RESULT.id, trial)
        assert {name: run.config.get(name) for name in expected.params} == expected.params
        own = {name: value for name, value in run.summary.items() if not name.startswith("_")}
        assert own == {**expected.metrics, **expected.tags, **tracked(RESULT, {}).tags}
        assert run.tags == tuple(expected.tags[name] for name in ("state", "verdict") if name in expected.tags)
        assert run.artifacts == {f"harness-{RESULT.id}": REPORTS}
        assert run.exit_code == int(expected.failed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_wandb_is_told_nothing_of_the_machine_that_sends(project):
    (_, folder), *_ = told("wandb", "--offline")
    written = sorted(path.name for path in (Path(folder) / "files").rglob("*"))
    run = read_offline_run(Path(folder))
    assert written == [] and not run.kinds & {"environment", "stats", "output_raw", "history"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_key_that_is_missing_is_one_error_with_the_next_step(project, monkeypatch):
    monkeypatch.setenv("NETRC", str(project / "no-netrc"))
    with pytest.raises(CannotMeasure, match="'--offline' writes folders that 'wandb sync' sends later"):
        told("wandb")


def runs_in(store):
    """What MLflow's own client reads, by the trial's id; the parent under None."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("harness")
    runs = client.search_runs([experiment.experiment_id])
    return client, {run.data.tags.get("harness.trial"): run for run in runs}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_gets_a_parent_run_and_in_it_each_trial_and_nothing_twice(project):
    store = f"sqlite:///{project / 'ml.db'}"
    first = told("mlflow", "--tracking-uri", store)
    assert [name for name, _ in first] == [RESULT.id, *TOLD]
    assert told("mlflow", "--tracking-uri", store) == first

    client, runs = runs_in(store)
    parent = runs.pop(None)
    assert sorted(runs) == sorted(TOLD)
    assert parent.info.run_name == RESULT.id and parent.data.tags["harness.headline"] == RESULT.headline
    assert sorted(item.path for item in client.list_artifacts(parent.info.run_id)) == list(REPORTS)
    saved = Path(client.download_artifacts(parent.info.run_id, "summary.json")).read_bytes()
    assert saved == pipeline.render(RESULT, ["json"])["summary.json"] and json.loads(saved)["run"]["id"] == RESULT.id
    for trial, run in runs.items():
        expected = TOLD[trial]
        assert run.data.metrics == expected.metrics
        assert run.data.params == {name: str(value) for name, value in expected.params.items()}
        assert {name: run.data.tags.get(f"harness.{name}") for name in expected.tags} == expected.tags
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id and run.data.tags["harness.run"] == RESULT.id
        assert run.info.status == ("FAILED" if expected.failed else "FINISHED")
        for metric in expected.metrics:
            assert len(client.get_metric_history(run.info.run_id, metric)) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_store_that_mlflow_cannot_open_is_one_error(project):
    with pytest.raises(CannotMeasure, match=r"^MLflow: "):
        told("mlflow", "--tracking-uri", "nosuch://store")


@pytest.mark.parametrize("tool", ["wandb", "mlflow"])
def test_a_package_that_is_not_installed_is_named_with_the_line_that_installs_it(project, monkeypatch, tool):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None if name == tool else real(name, package))
    with pytest.raises(MissingPackage, match=rf"pip install 'harness\[{tool}\]'"):
        told(tool)
