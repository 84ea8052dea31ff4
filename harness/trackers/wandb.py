"""A run in Weights & Biases: one W&B run for each trial, grouped by the id of the run of harness."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.core.errors import CannotMeasure
from harness.plugins import require

if TYPE_CHECKING:
    import wandb

    from harness.core.tracked import TrackedRun, TrackedTrial


def send(run: TrackedRun, *, project: str, entity: str | None, offline: bool) -> Iterator[tuple[str, str]]:
    """Send trial by trial; yields each trial's id and where it is now: an address, or a folder for ``wandb sync``.

    The id of a W&B run follows from run and trial, so the same run sent again replaces its own values. Numbers and decisions go to the
    summary, for a trial is one point and no curve. Raises MissingPackage, and CannotMeasure with what W&B said.
    """
    require("wandb", plugin="harness export wandb", extra="wandb")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing is sent to anybody but what was asked for
    import wandb

    try:
        for trial in run.trials:
            yield trial.id, _sent(trial, run, project, entity, offline)
    except (wandb.Error, OSError) as error:
        hint = "'wandb login' gives it a key; '--offline' writes folders that 'wandb sync' sends later"
        raise CannotMeasure(f"Weights & Biases: {str(error).strip() or type(error).__name__}", hint=hint) from error
    finally:
        wandb.teardown()


def run_id(run: str, trial: str) -> str:
    """The id of a trial's W&B run: 16 hex digits that are the same whenever and wherever it is sent."""
    return hashlib.sha256(f"{run}\0{trial}".encode()).hexdigest()[:16]


def _sent(trial: TrackedTrial, run: TrackedRun, project: str, entity: str | None, offline: bool) -> str:
    import wandb

    times = {"harness_run": run.id, "started_at": run.started_at, "finished_at": run.finished_at}
    sent = wandb.init(
        project=project,
        entity=entity,
        id=run_id(run.id, trial.id),
        name=trial.id,
        group=run.id,
        job_type="trial",
        tags=[trial.tags[name] for name in ("state", "verdict") if name in trial.tags],
        mode="offline" if offline else None,
        resume=None if offline else "allow",
        reinit="create_new",
        settings=_settings(),
    )
    try:
        sent.config.update({**times, **trial.params}, allow_val_change=True)
        sent.summary.update({**trial.metrics, **run.tags, **trial.tags})
        sent.log_artifact(_reports(run))
    except BaseException:
        sent.finish(exit_code=1)
        raise
    where = str(sent.settings.sync_dir) if sent.offline else str(sent.url)
    sent.finish(exit_code=int(trial.failed))
    return where


def _settings() -> wandb.Settings:
    """Quiet, and blind to this machine and its code: the trial may have been measured on another."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


def _reports(run: TrackedRun) -> wandb.Artifact:
    """The reports of the whole run; W&B keeps one copy of what is the same."""
    import wandb

    artifact = wandb.Artifact(f"harness-{run.id}", type="harness-report")
    for name, data in run.files.items():
        with artifact.new_file(name, mode="wb") as file:
            file.write(data)
    return artifact
