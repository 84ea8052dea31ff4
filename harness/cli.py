"""The command line. Every command imports what it needs when it runs: ``harness --help`` loads no framework, nor numpy.

Results go to stdout, progress and logs to stderr.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness import __version__
from harness.commands.audit import audit
from harness.commands.bisect import bisect
from harness.commands.compare import compare
from harness.commands.diff import diff
from harness.commands.doctor import doctor
from harness.commands.duration import seconds_of
from harness.commands.export import export
from harness.commands.history import history
from harness.commands.import_run import import_run
from harness.commands.options import ALLOW_OUTSIDE, REPORTS, TRUST_REMOTE_CODE, command_line
from harness.commands.profile import profile
from harness.commands.search import search
from harness.commands.serve import serve
from harness.core.errors import ExitCode, HarnessError

if TYPE_CHECKING:
    from harness.core.progress import Progress
    from harness.core.result import RunResult
    from harness.pipeline import Request
    from harness.store.baselines import Baselines

Command = TypeVar("Command", bound=Callable[..., Any])
FAMILIES = ("passes", "runtimes", "serving", "loads", "metrics", "reports", "sources", "fleets")
VERDICT_COLOURS = {
    "REGRESSED": "red",
    "BROKEN": "red",
    "INVALID": "magenta",
    "INCONCLUSIVE": "yellow",
    "UNPROVEN": "yellow",
    "IMPROVED": "blue",
}
PATHS = click.argument("paths", nargs=-1, type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="harness")
@click.option("-v", "--verbose", is_flag=True, help="Log what is done, to stderr.")
def cli(verbose: bool) -> None:
    """A performance gate for machine-learning inference.

    Exit codes: 0 pass, 1 regression or SLA broken, 2 bad input, 3 could not be measured or not decided, 70 a bug in harness.
    """
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)


def _measuring(command: Command) -> Command:
    """The options that 'run' and 'gate' share."""
    for option in reversed(
        (
            click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a key of the scenario."),
            click.option("--only", multiple=True, metavar="PATTERN", help="Only trials whose id matches, such as 'int8' or '*-b8'."),
            click.option("--resume", metavar="RUN", help="Go on with an interrupted run: an id, its beginning, or 'latest'."),
            click.option("--json", "as_json", is_flag=True, help="Print the result as JSON (docs/json-output.md)."),
            ALLOW_OUTSIDE,
            TRUST_REMOTE_CODE,
            REPORTS,
        )
    ):
        command = option(command)
    return command


@cli.command()
@PATHS
@_measuring
@click.option("--on", metavar="FLEET", help="Measure targets with labels on a fleet: a Ray address, or a file (docs/fleet.md).")
@click.option("--retries", type=click.IntRange(0), help="Nodes that a trial is tried on after its first was lost.  [default: 1]")
def run(
    paths: tuple[Path, ...],
    overrides: tuple[str, ...],
    only: tuple[str, ...],
    resume: str | None,
    as_json: bool,
    outside: tuple[Path, ...],
    remote_code: bool,
    reports: Path,
    on: str | None,
    retries: int | None,
) -> None:
    """Measure scenarios (files, or folders of them) and save a run."""
    _check_given(paths, resume)
    from harness import pipeline
    from harness.engine.bounds import allowed_here

    allowed = allowed_here(outside, remote_code=remote_code)
    request = pipeline.Request(command_line(), paths, reports, overrides, only, resume, allowed=allowed, on=on, retries=retries)
    _carry_out(pipeline.run, request, as_json)


@cli.command()
@PATHS
@_measuring
@click.option("--against", metavar="REF", help="Compare with a commit or branch, built anew, in place of accepted baselines.")
@click.option("--budget", metavar="TIME", help="What one trial's launch pairs may take.  [default: 60 s]")
@click.option("--all", "measure_all", is_flag=True, help="Measure unchanged trials too.")
@click.option("--strict", is_flag=True, help="Fail (exit 3) on INCONCLUSIVE, UNPROVEN and UNMEASURED.")
@click.option(
    "--new-baselines",
    type=click.Choice(["accept", "fail"]),
    help="What to do with trials that have no baseline.  [default: fail]",
)
@click.option(
    "--base-python",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An interpreter that has harness and the package versions of the baselines: they run in it.",
)
def gate(
    paths: tuple[Path, ...],
    overrides: tuple[str, ...],
    only: tuple[str, ...],
    resume: str | None,
    as_json: bool,
    outside: tuple[Path, ...],
    remote_code: bool,
    reports: Path,
    against: str | None,
    budget: str | None,
    measure_all: bool,
    strict: bool,
    new_baselines: str | None,
    base_python: Path | None,
) -> None:
    """Measure what changed, compare with the baselines, decide."""
    _check_given(paths, resume)
    if against is not None and new_baselines == "accept":
        raise click.UsageError("--against compares with a commit: there is no baseline to accept ('--new-baselines accept')")
    budget_s = None if budget is None else seconds_of(budget)
    from harness import pipeline
    from harness.engine.bounds import allowed_here

    request = pipeline.Request(
        command=command_line(),
        paths=paths,
        reports=reports,
        overrides=overrides,
        only=only,
        resume=resume,
        budget_s=budget_s,
        measure_all=measure_all,
        strict=strict,
        accept_new=None if new_baselines is None else new_baselines == "accept",
        base_python=base_python,
        against=against,
        allowed=allowed_here(outside, remote_code=remote_code),
    )
    _carry_out(pipeline.gate, request, as_json)


@cli.command()
@PATHS
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a key of the scenario.")
@ALLOW_OUTSIDE
def validate(paths: tuple[Path, ...], overrides: tuple[str, ...], outside: tuple[Path, ...]) -> None:
    """Check scenarios; nothing of them is run."""
    _check_given(paths)
    from harness.core.plain_text import plain_text
    from harness.engine.bounds import allowed_here
    from harness.engine.read_scenario import read_scenarios

    for file in read_scenarios(paths, overrides=overrides, allowed=allowed_here(outside)):
        trials = len(file.scenario.recipes) * len(file.targets) * len(file.scenario.measure.batch_sizes)
        click.echo(f"{plain_text(str(file.path))}: {file.scenario.name} is valid, {trials} {'trial' if trials == 1 else 'trials'}")


@cli.command("list")
@click.argument("family", metavar="FAMILY", type=click.Choice(FAMILIES))
def list_plugins(family: str) -> None:
    """Show the plugins of a family, with their help.

    FAMILY is passes, runtimes, serving, loads, metrics, reports, sources or fleets.
    """
    from harness import plugins

    infos = [plugins.describe(plugins.find(family, name)) for name in plugins.names(family)]  # type: ignore[arg-type]
    width = max(len(info.name) for info in infos)
    for info in infos:
        click.echo(f"{info.name:<{width}}  {info.help}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
def init(folder: Path) -> None:
    """Write a first scenario and a CI workflow into your repository."""
    from harness.engine.init_project import init_project

    for path in init_project(folder):
        click.echo(f"wrote {path}")
    click.echo(f"next: harness gate {folder / 'scenarios'} --new-baselines accept, then commit these files and baselines/")


@cli.command()
@click.argument("name", metavar="[RUN]", default="latest")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["html", "markdown", "junit", "json", "text", "github"]),
    help="Print one report instead of writing all.",
)
@REPORTS
def report(name: str, format_: str | None, reports: Path) -> None:
    """Render a saved run again."""
    from harness.store.runs import Runs

    folder = Runs(reports).find(name)
    result = folder.result()
    from harness import pipeline

    if format_ is not None:
        (data,) = pipeline.render(result, [format_]).values()
        click.echo(data.decode(), nl=False)
        return
    folder.save(result, pipeline.render(result))
    click.echo(folder.path / "report.html")


@cli.group()
def baseline() -> None:
    """Accept, list, show and remove baselines."""


@baseline.command()
@click.argument("name", metavar="[RUN]", default="latest")
@click.option("--only", multiple=True, metavar="PATTERN", help="Only trials whose id matches.")
@click.option("--force", is_flag=True, help="Also of a run of uncommitted or overridden (--set) source, or with trials that failed.")
@REPORTS
def accept(name: str, only: tuple[str, ...], force: bool, reports: Path) -> None:
    """Make a run's numbers the baselines."""
    from datetime import UTC, datetime

    from harness.engine import accept as acceptance
    from harness.store.runs import Runs

    folder = Runs(reports).find(name)
    result = folder.result()
    baselines = _baselines()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for trial in acceptance.accept(result, baselines, now=now, only=only, force=force, overrides=folder.overrides()):
        click.echo(f"{baselines.path(trial).relative_to(baselines.root)} holds {trial} of run {result.id}")
    click.echo("commit it with the change that it belongs to")


@baseline.command("list")
def list_baselines() -> None:
    """Show every baseline: its numbers, where it was measured, its commit."""
    from harness.core.plain_text import plain_text
    from harness.core.wording import baseline_line
    from harness.store.baselines import Unreadable

    baselines = _baselines()
    if not baselines.trials():
        click.echo(f"no baselines under {baselines.folder}: 'harness gate --new-baselines accept' writes the first", err=True)
    for trial in baselines.trials():
        try:
            found = baselines.read(trial)
        except Unreadable as error:
            click.echo(plain_text(f"{trial}  INVALID: {error.message}"))
            continue
        if found is not None:
            click.echo(plain_text(baseline_line(found)))


@baseline.command()
@click.argument("trial")
def show(trial: str) -> None:
    """Print a baseline as JSON, without its packed and sampled parts."""
    from harness.core.errors import BadInput, Problem
    from harness.store.baselines import shown
    from harness.store.files import pretty_json

    found = _baselines().read(trial)
    if found is None:
        raise BadInput(Problem(f"there is no baseline of '{trial}'", hint="'harness baseline list' shows those that there are"))
    click.echo(pretty_json(shown(found)).decode(), nl=False)


@baseline.command()
@click.argument("trial")
def remove(trial: str) -> None:
    """Remove a trial's baseline file."""
    baselines = _baselines()
    click.echo(f"removed {baselines.remove(trial).relative_to(baselines.root)}")


cli.add_command(audit)
cli.add_command(bisect)
cli.add_command(compare)
cli.add_command(diff)
cli.add_command(doctor)
cli.add_command(export)
cli.add_command(history)
cli.add_command(import_run)
cli.add_command(profile)
cli.add_command(search)
cli.add_command(serve)


def _carry_out(work: Callable[[Request, Progress], RunResult], request: Request, as_json: bool) -> None:
    """Run or gate, then tell the result and end with its exit code."""
    from harness import pipeline
    from harness.engine.progress_bar import shown_progress

    request = pipeline.resumed(request)
    with shown_progress() as progress:
        result = work(request, progress)
    (data,) = pipeline.render(result, ["json" if as_json else "text"]).values()
    try:
        click.echo(data.decode() if as_json else _coloured(data.decode()), nl=False)
        if told := _first_baselines(request, result):
            click.echo(f"\n{told}", err=as_json)
        click.echo(f"\nreport: {request.reports / result.id / 'report.html'}", err=as_json)
    except OSError as error:
        _stdout_is_gone(error)  # nobody may read it, but the exit code stays what was found
    sys.exit(result.exit_code)


def _first_baselines(request: Request, result: RunResult) -> str:
    """What 'gate --new-baselines accept' has written, empty where nothing was new."""
    from harness.core.result import TrialState

    number = sum(trial.state is TrialState.NEW and trial.material is not None for trial in result.trials) if request.accept_new else 0
    return f"wrote the first baselines of {number} {'trial' if number == 1 else 'trials'} under baselines/: commit them" if number else ""


def _stdout_is_gone(error: OSError) -> None:
    """Say why, unless the reader has just hung up ('| head'); nothing more is written when the program ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        click.echo(f"stdout cannot be written: {error.strerror}", err=True)


def _coloured(text: str) -> str:
    """The verdicts in colour; click drops the colours where stdout is no terminal."""
    for word, colour in VERDICT_COLOURS.items():
        text = text.replace(f"{word}", click.style(word, fg=colour, bold=True))
    return text


def _check_given(paths: tuple[Path, ...], resume: str | None = None) -> None:
    if not paths and resume is None:
        raise click.UsageError("name a scenario file or a folder of scenarios, such as 'scenarios/'")


def _baselines() -> Baselines:
    from harness.engine.read_scenario import project_root
    from harness.store.baselines import Baselines

    return Baselines(project_root(Path.cwd() / "scenario.yaml"))


def main() -> None:
    """Run the command line; every way that it can end has its exit code."""
    try:
        cli(prog_name="harness", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except HarnessError as error:
        from harness.core.plain_text import plain_text

        click.echo(click.style("error: ", fg="red", bold=True) + plain_text(str(error)), err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError as error:
        _stdout_is_gone(error)
        sys.exit(ExitCode.PASS)
    except Exception:  # noqa: BLE001 - the outermost frame: whatever gets here is a bug, and says so
        traceback.print_exc()
        click.echo("this is a bug in harness: please report it with the traceback above", err=True)
        sys.exit(ExitCode.BUG)


if __name__ == "__main__":
    main()
