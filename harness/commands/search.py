"""See ``search``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.options import ALLOW_OUTSIDE, TRUST_REMOTE_CODE, command_line

if TYPE_CHECKING:
    from harness.engine.searching.conclude import Concluded
    from harness.engine.searching.request import Request

OBJECTIVE, BUDGET, LIMIT = "latency_p50", "10 min", 200


@click.command(short_help="Find the best recipe of a declared search space.")
@click.argument("scenario", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--objective", metavar="METRIC", help=f"What is to be as good as possible.  [default: {OBJECTIVE}]")
@click.option(
    "--subject-to",
    multiple=True,
    metavar="CLAUSE",
    help="What has to be kept, such as 'accuracy: at most 0.5 points below fp32'. May be given several times.",
)
@click.option("--budget", metavar="TIME", help=f"What the whole search may take.  [default: {BUDGET}]")
@click.option("--limit", type=click.IntRange(1), help=f"The most candidates.  [default: {LIMIT}]")
@click.option("--write", "name", metavar="NAME", help="Write the winner into the scenario, as a recipe of this name.")
@click.option("--force", is_flag=True, help="Let --write replace a recipe.")
@click.option("--only", multiple=True, metavar="PATTERN", help="The machine and batch size to search on, such as '*-b8'.")
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a key of the scenario.")
@ALLOW_OUTSIDE
@TRUST_REMOTE_CODE
@click.option("--resume", metavar="RUN", help="Go on with an interrupted search: an id, its beginning, 'latest', or a folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON (docs/search.md).")
@click.option(
    "--reports", type=click.Path(path_type=Path, file_okay=False), default=Path("reports"), show_default=True, help="Where it is kept."
)
def search(
    scenario: Path | None,
    objective: str | None,
    subject_to: tuple[str, ...],
    budget: str | None,
    limit: int | None,
    name: str | None,
    force: bool,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    outside: tuple[Path, ...],
    remote_code: bool,
    resume: str | None,
    as_json: bool,
    reports: Path,
) -> None:
    """Find the best recipe among those that 'search' in the scenario declares.

    Candidates that cannot be or break a constraint are dropped before they are timed; the others race in pairs of launches, the better half
    goes on, and the last are confirmed by fresh pairs. Exit codes: 0 a recipe is shown to be better than the reference and to keep every
    constraint, 2 bad input, 3 none is.
    """
    from harness.commands.duration import seconds_of
    from harness.engine.bounds import allowed_here
    from harness.engine.searching.request import Request, resumed

    allowed = allowed_here(outside, remote_code=remote_code)
    if resume is not None:
        if scenario or objective or subject_to or only or overrides:
            raise click.UsageError("--resume goes on with what was asked: only --budget, --limit and --write may be others")
        request = resumed(resume, reports, allowed)
    else:
        if scenario is None:
            raise click.UsageError("name a scenario that declares a search space: harness search scenarios/my-model.yaml")
        request = Request(
            command=command_line(),
            scenario=scenario,
            objective=objective or OBJECTIVE,
            subject_to=subject_to,
            only=only,
            overrides=overrides,
            reports=reports,
            allowed=allowed,
        )
    if budget is not None:
        request = replace(request, budget_s=seconds_of(budget))
    if limit is not None:
        request = replace(request, limit=limit)
    _carry_out(request, name, force=force, as_json=as_json)


def _carry_out(request: Request, name: str | None, *, force: bool, as_json: bool) -> None:
    from harness import pipeline
    from harness.core.plain_text import plain_text
    from harness.engine.progress_bar import shown_progress
    from harness.engine.searching import told
    from harness.engine.searching.conclude import result_of
    from harness.engine.searching.search import search as look
    from harness.engine.searching.write_recipe import check_name
    from harness.store.files import write_atomically

    if name is not None:
        check_name(request.scenario, name, allowed=request.allowed, force=force)
    with shown_progress() as progress:
        concluded, folder = look(request, progress)
    found = concluded.found
    result = result_of(concluded, request, folder)
    folder.save(result, pipeline.render(result))
    write_atomically(folder.path / "search.json", told.json_of(found))
    click.echo(told.json_of(found).decode() if as_json else plain_text(told.text_of(found)), nl=False)
    if name is not None:
        _write(request, concluded, name, force=force, quiet=as_json)
    click.echo(f"\nreport: {folder.path / 'report.html'}", err=as_json)
    sys.exit(told.exit_code_of(found))


def _write(request: Request, concluded: Concluded, name: str, *, force: bool, quiet: bool) -> None:
    """The winner into the scenario's file; what is no answer is not written."""
    from harness.core.errors import ExitCode
    from harness.core.plain_text import plain_text
    from harness.engine.bisecting.told import effect_of
    from harness.engine.searching.told import exit_code_of
    from harness.engine.searching.write_recipe import write_recipe

    found, recipe = concluded.found, concluded.recipe
    if recipe is None or found.effect is None or exit_code_of(found) is not ExitCode.PASS:
        click.echo("nothing is written: no candidate is shown to be better and to keep every constraint", err=True)
        return
    comment = f"harness search: {found.objective} {effect_of(found.effect)} of {found.reference}"
    written = write_recipe(request.scenario, name, recipe, plain_text(comment), allowed=request.allowed, force=force)
    click.echo(f"\nwrote {written.path}:{written.line} recipes.{name}; next: harness run {written.path} --only '{name}-*'", err=quiet)
