"""``harness export``: a saved run as one file, or in the form of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.options import REPORTS

if TYPE_CHECKING:
    from harness.core.tracked import TrackedRun


@click.group(short_help="Write a saved run as one file, or for another tool.")
def export() -> None:
    """Write a saved run as one file, or in the form of another tool."""


@export.command("bench-file", short_help="Write a run as files of pytest-benchmark or pyperf.")
@click.argument("name", metavar="[RUN]", default="latest")
@click.option("--format", "format_", type=click.Choice(["pytest-benchmark", "pyperf"]), required=True, help="Whose files.")
@click.option("--arm", type=click.Choice(["candidate", "baseline"]), default="candidate", show_default=True, help="Whose launches.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path(), show_default=True, help="The folder for them.")
@REPORTS
def bench_file(name: str, format_: str, arm: str, output: Path, reports: Path) -> None:
    """Write a run's launches as files that pytest-benchmark or pyperf reads.

    pytest-benchmark gets one file for each launch ('pytest-benchmark compare'), pyperf one file with a run for each ('pyperf compare_to').
    """
    from harness.store.bench_files import written_files
    from harness.store.files import write_atomically
    from harness.store.runs import Runs

    for file_name, data in written_files(Runs(reports).find(name).result(), format_, arm).items():
        write_atomically(output / file_name, data)
        click.echo(output / file_name)


@export.command("run", short_help="Write a run as one file for 'harness import' or 'harness compare'.")
@click.argument("name", metavar="[RUN]", default="latest")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The file.  [default: RUN.zip, here]")
@REPORTS
def run_archive(name: str, output: Path | None, reports: Path) -> None:
    """Write a finished run as one zip file with the SHA-256 of every file in it.

    For machines that share no disk: 'harness import FILE' and 'harness compare FILE...' read it elsewhere.
    """
    from harness.store.run_archives import export_run
    from harness.store.runs import Runs

    folder = Runs(reports).find(name)
    click.echo(export_run(folder, output or Path(f"{folder.id}.zip")))


@export.command("kubernetes", short_help="Write manifests that serve a recipe, sized by its measured capacity.")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--recipe", required=True, metavar="NAME", help="The recipe to serve.")
@click.option("--image", required=True, metavar="IMAGE", help="An image that has harness, the project and its artifact cache.")
@click.option("--run", "name", metavar="RUN", default="latest", show_default=True, help="The run whose capacity counts.")
@click.option("--load", "load_", metavar="RATE", help="What all replicas together must take, such as '2000 /s'.")
@click.option("--capacity", metavar="RATE", help="One replica's capacity, in place of the measured one.")
@click.option(
    "--headroom", type=click.FloatRange(0.1, 1.0), default=0.7, show_default=True, help="Share of its capacity that a replica is given."
)
@click.option("--namespace", metavar="NAME", help="Where the objects go.  [default: where they are applied]")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The file.  [default: stdout]")
@REPORTS
def kubernetes(
    scenario: Path,
    recipe: str,
    image: str,
    name: str,
    load_: str | None,
    capacity: str | None,
    headroom: float,
    namespace: str | None,
    output: Path | None,
    reports: Path,
) -> None:
    """Write a Deployment, a Service, a HorizontalPodAutoscaler and a ServiceMonitor for 'harness serve'.

    Replicas, memory and what the autoscaler holds follow from a run under a load over the network; the file's head says how
    (docs/kubernetes.md).
    """
    from harness.core.errors import BadInput, Problem
    from harness.core.units import Unit, parse_quantity
    from harness.engine.kubernetes.manifests import Deployed, as_yaml, manifests
    from harness.engine.kubernetes.sizing import size, trial_of
    from harness.engine.read_scenario import read_scenario
    from harness.store.files import write_atomically
    from harness.store.runs import Runs

    def rate(option: str, text: str | None) -> float | None:
        if text is None:
            return None
        try:
            quantity = parse_quantity(text)
        except ValueError as error:
            raise BadInput(Problem(f"{option}: {error}")) from error
        if quantity.unit is not Unit.PER_SECOND or quantity.value <= 0:
            raise BadInput(Problem(f"{option}: {text!r} is no rate", hint="write '600 /s'"))
        return quantity.value

    wanted, one = rate("--load", load_), rate("--capacity", capacity)
    file = read_scenario(scenario)
    if recipe not in file.scenario.recipes:
        raise BadInput(Problem(f"{scenario} has no recipe '{recipe}'", hint=f"it has {', '.join(file.scenario.recipes)}"))
    folder = Runs(reports).find(name)
    trial = trial_of(folder.result(), file.scenario.name, recipe)
    sizing = size(trial, load_per_s=wanted, capacity_per_s=one, headroom=headroom)
    path = file.path.resolve().relative_to(file.root).as_posix()
    deployed = Deployed(path, recipe, file.scenario.name, image, folder.id, namespace)
    text = as_yaml(manifests(deployed, sizing), sizing)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_atomically(output, text.encode())
        click.echo(output)


@export.command("wandb", short_help="Send a run's trials to Weights & Biases.")
@click.argument("name", metavar="[RUN]", default="latest")
@click.option("--project", envvar="WANDB_PROJECT", default="harness", show_default=True, show_envvar=True, help="The project there.")
@click.option("--entity", envvar="WANDB_ENTITY", show_envvar=True, help="The user or team there.  [default: yours]")
@click.option("--offline", is_flag=True, help="Send nothing: write folders under ./wandb for 'wandb sync'.")
@REPORTS
def wandb(name: str, project: str, entity: str | None, offline: bool, reports: Path) -> None:
    """Send a run to Weights & Biases: a W&B run for each trial, grouped by the run's id.

    The same run sent again replaces its own values (docs/export.md).
    """
    from harness.trackers.wandb import send

    for trial, where in send(_tracked(name, reports), project=project, entity=entity, offline=offline):
        _tell(trial, where)


@export.command("mlflow", short_help="Send a run's trials to MLflow.")
@click.argument("name", metavar="[RUN]", default="latest")
@click.option("--tracking-uri", metavar="URI", help="The server or store.  [env: MLFLOW_TRACKING_URI; default: MLflow's own]")
@click.option(
    "--experiment", envvar="MLFLOW_EXPERIMENT_NAME", default="harness", show_default=True, show_envvar=True, help="The experiment there."
)
@REPORTS
def mlflow(name: str, tracking_uri: str | None, experiment: str, reports: Path) -> None:
    """Send a run to MLflow: a parent run with the reports, and in it a run for each trial.

    The same run sent again adds only what is not there yet (docs/export.md).
    """
    from harness.trackers.mlflow import send

    for trial, where in send(_tracked(name, reports), tracking_uri=tracking_uri, experiment=experiment):
        _tell(trial, where)


def _tracked(name: str, reports: Path) -> TrackedRun:
    """A saved run for a tracker, with the reports that people and programs read, rendered anew."""
    from harness import pipeline
    from harness.core.tracked import tracked
    from harness.store.runs import Runs

    result = Runs(reports).find(name).result()
    return tracked(result, pipeline.render(result, ("html", "json")))


def _tell(trial: str, where: str) -> None:
    from harness.core.plain_text import plain_text

    click.echo(plain_text(f"{trial}  {where}"))
