import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_model_optimization")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("sklearn")

pytestmark = pytest.mark.slow
SCENARIO = Path(__file__).parents[2] / "scenarios" / "tensorflow" / "digits-keras.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs the bundled scenario as a user does, into a cache of its own."""
    folder = tmp_path_factory.mktemp("scenario")
    environment = {**os.environ, "HARNESS_CACHE_DIR": str(folder / "cache"), "HARNESS_HISTORY": str(folder / "history.sqlite")}

    def run(*arguments):
        command = [
            sys.executable,
            "-P",
            "-m",
            "harness.cli",
            "run",
            str(SCENARIO),
            "--reports",
            str(folder / "reports"),
            "--json",
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800, check=False)
        latest = folder / "reports" / "latest" / "result.json"
        assert latest.is_file(), done.stderr
        return done, json.loads(latest.read_text(encoding="utf-8"))

    return run


@pytest.fixture(scope="module")
def whole(run):
    return run("--set", "measure.launches=2")


@pytest.fixture(scope="module")
def trials(whole):
    return {trial["recipe"]: trial for trial in whole[1]["trials"]}


def value(trial, metric):
    (found,) = (estimate["value"] for estimate in trial["estimates"] if estimate["metric"] == metric)
    return found


def test_every_promise_of_the_bundled_scenario_is_kept(whole):
    done, result = whole
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (0, "PASS"), done.stderr
    assert {clause["state"] for clause in result["sla"]} == {"KEPT"} and len(result["sla"]) == 8


def test_what_runs_is_told_by_the_runtimes(trials):
    told = {name: trial["facts"]["precision"] for name, trial in trials.items()}
    assert told == {"keras": "float32", "tflite": "float32", "pruned": "float32", "int8": "int8", "int8-qat": "int8"}
    assert "4 DENSIFY" in trials["pruned"]["facts"]["details"]
    assert {trial["facts"]["threads"] for trial in trials.values()} == {1}


def test_recipes_trade_what_they_are_for(trials):
    size = {name: value(trial, "model_size") for name, trial in trials.items()}
    assert size["int8"] < 0.4 * size["tflite"] and size["int8-qat"] < 0.4 * size["tflite"]
    assert size["pruned"] < 0.6 * size["tflite"]
    accuracy = {name: value(trial, "accuracy") for name, trial in trials.items()}
    assert accuracy["keras"] == accuracy["tflite"] > 0.97
    assert min(accuracy.values()) > accuracy["keras"] - 0.02
    assert value(trials["tflite"], "latency_p50") < value(trials["keras"], "latency_p50")


def test_a_second_run_builds_nothing(run, whole):
    done, result = run("--set", "measure.launches=2", "--only", "*/pruned-*")
    before = next(trial for trial in whole[1]["trials"] if trial["recipe"] == "pruned")
    assert "tfmot_prune_magnitude" not in done.stderr and "launch 1 of 2" in done.stderr
    assert result["trials"][0]["material"]["artifact_key"] == before["material"]["artifact_key"]


def test_messages_of_tensorflow_stay_in_the_logs(whole):
    assert not [line for line in whole[0].stderr.splitlines() if "tensorflow/" in line or "cuda" in line.lower() or "XNNPACK" in line]
