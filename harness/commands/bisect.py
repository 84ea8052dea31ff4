"""See ``bisect``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.options import ALLOW_OUTSIDE, TRUST_REMOTE_CODE, command_line

if TYPE_CHECKING:
    from harness.engine.bisecting.question import Question

METRIC, BAD, BUDGET = "latency_p50", "HEAD", "60 s"


@click.command(short_help="Find the commit that made a metric worse.")
@click.argument("scenario", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--good", metavar="REF", help="A commit before the change.")
@click.option("--bad", metavar="REF", help=f"A commit with the change.  [default: {BAD}]")
@click.option("--metric", metavar="METRIC", help=f"What became worse.  [default: {METRIC}]")
@click.option("--only", multiple=True, metavar="PATTERN", help="The trial to look at, such as 'int8' or '*-b8', where there are several.")
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a key of the scenario, at every commit.")
@click.option("--same-scenario", is_flag=True, help="Read the bad commit's scenario file at every commit, also where there is none.")
@click.option("--budget", metavar="TIME", help=f"What the launch pairs of one step may take.  [default: {BUDGET}]")
@ALLOW_OUTSIDE
@TRUST_REMOTE_CODE
@click.option("--resume", metavar="RUN", help="Go on with an interrupted search: an id, its beginning, 'latest', or a folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON (docs/bisect.md).")
@click.option(
    "--reports", type=click.Path(path_type=Path, file_okay=False), default=Path("reports"), show_default=True, help="Where it is kept."
)
def bisect(
    scenario: Path | None,
    good: str | None,
    bad: str | None,
    metric: str | None,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    same_scenario: bool,
    budget: str | None,
    outside: tuple[Path, ...],
    remote_code: bool,
    resume: str | None,
    as_json: bool,
    reports: Path,
) -> None:
    """Find the commit that made inference slower, or another metric worse.

    Commits between --good and --bad, along first parents, are built in worktrees of their own and measured in launch pairs; what does
    not change the trial's content is not measured. Exit codes: 0 found and confirmed, 2 bad input, 3 not decided.
    """
    from harness.commands.duration import seconds_of
    from harness.engine.bisecting.question import Question, resumed
    from harness.engine.bounds import allowed_here

    allowed = allowed_here(outside, remote_code=remote_code)
    if resume is not None:
        if scenario or good or bad or metric or only or overrides or same_scenario:
            raise click.UsageError("--resume goes on with what was asked: only --budget may be another; leave --resume out to ask anew")
        question = resumed(resume, reports, allowed)
        if budget is not None:
            question = replace(question, budget_s=seconds_of(budget))
    else:
        if scenario is None or good is None:
            raise click.UsageError("name a scenario and a commit before the change: harness bisect scenarios/my-model.yaml --good v1.2")
        question = Question(
            command=command_line(),
            scenario=scenario,
            good=good,
            bad=bad or BAD,
            metric=metric or METRIC,
            only=only,
            overrides=overrides,
            budget_s=seconds_of(budget or BUDGET),
            same_scenario=same_scenario,
            reports=reports,
            allowed=allowed,
        )
    _carry_out(question, as_json)


def _carry_out(question: Question, as_json: bool) -> None:
    from harness.core.plain_text import plain_text
    from harness.engine.bisecting import told
    from harness.engine.bisecting.bisect import bisect as search
    from harness.engine.progress_bar import shown_progress

    with shown_progress() as progress:
        found, folder = search(question, progress)
    click.echo(told.json_of(found).decode() if as_json else plain_text(told.text_of(found)), nl=False)
    click.echo(f"\nkept in {folder}", err=as_json)
    sys.exit(told.exit_code_of(found))
