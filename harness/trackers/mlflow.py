"""A run in MLflow: one parent run with the reports, and in it one run for each trial."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import CannotMeasure
from harness.plugins import require

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from harness.core.tracked import TrackedRun, Value

BATCH = 100
"""Parameters, metrics or tags of one request: the most that MLflow takes."""
RUNS = 50_000
"""The most that MLflow gives for one search."""


def send(run: TrackedRun, *, tracking_uri: str | None, experiment: str) -> Iterator[tuple[str, str]]:
    """Send the run and then trial by trial; yields each one's id and its id in MLflow.

    What was sent before is found again by its tags ``harness.run`` and ``harness.trial``, and gets only what it lacks. Raises
    MissingPackage, and CannotMeasure with what MLflow said.
    """
    require("mlflow", plugin="harness export mlflow", extra="mlflow")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing is sent to anybody but what was asked for
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=tracking_uri)
        into = _experiment(client, experiment)
        found = client.search_runs([into], filter_string=f"tags.`harness.run` = '{run.id}'", max_results=RUNS)
        known = {one.data.tags.get("harness.trial"): one for one in found}
        parent = known.get(None) or _begun(client, into, run, run.id, {"harness.run": run.id})
        _add(client, parent, run, {}, {}, run.tags)
        with tempfile.TemporaryDirectory() as folder:
            for name, data in run.files.items():
                (Path(folder) / name).write_bytes(data)
            client.log_artifacts(parent.info.run_id, folder)
        _end(client, parent, run, failed=False)
        yield run.id, parent.info.run_id
        for trial in run.trials:
            tags = {"harness.run": run.id, "harness.trial": trial.id, "mlflow.parentRunId": parent.info.run_id}
            child = known.get(trial.id) or _begun(client, into, run, trial.id, tags)
            _add(client, child, run, trial.params, trial.metrics, {**run.tags, **trial.tags})
            _end(client, child, run, failed=trial.failed)
            yield trial.id, child.info.run_id
    except (MlflowException, OSError) as error:
        raise CannotMeasure(f"MLflow: {error}") from error


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _begun(client: MlflowClient, experiment: str, run: TrackedRun, name: str, tags: dict[str, str]) -> Run:
    return client.create_run(experiment, start_time=_milliseconds(run.started_at), tags=tags, run_name=name)


def _add(client: MlflowClient, to: Run, run: TrackedRun, params: dict[str, Value], metrics: dict[str, float], tags: dict[str, str]) -> None:
    """What ``to`` lacks: MLflow refuses to change a parameter, and keeps every value that a metric was ever given."""
    from mlflow.entities import Metric, Param, RunTag

    at, has = _milliseconds(run.finished_at), to.data
    lacking = [Param(_key(name), str(value)) for name, value in params.items() if _key(name) not in has.params]
    numbers = [Metric(_key(name), value, at, 0) for name, value in metrics.items() if _key(name) not in has.metrics]
    decided = [RunTag(f"harness.{_key(name)}", value) for name, value in tags.items() if has.tags.get(f"harness.{_key(name)}") != value]
    rest = iter(lacking), iter(numbers), iter(decided)
    while batch := [list(islice(part, BATCH)) for part in rest]:
        if not any(batch):
            break
        client.log_batch(to.info.run_id, params=batch[0], metrics=batch[1], tags=batch[2])


def _end(client: MlflowClient, run: Run, of: TrackedRun, *, failed: bool) -> None:
    client.set_terminated(run.info.run_id, "FAILED" if failed else "FINISHED", _milliseconds(of.finished_at))


def _key(name: str) -> str:
    """A name with the characters that MLflow takes in one."""
    return re.sub(r"[^\w. /:-]", "_", name)


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)
