"""``harness doctor``: is this machine fit to measure on, and how small a change can the gate see on it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.commands.duration import seconds_of


@click.command(short_help="Say whether this machine is fit to measure on.")
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@click.option("--only", multiple=True, metavar="PATTERN", help="The first trial whose id matches, such as 'int8' or '*-b8'.")
@click.option("--budget", metavar="TIME", default="60 s", show_default=True, help="What one trial's launch pairs may take in the gate.")
@click.option("--no-launches", is_flag=True, help="Look at the machine alone: nothing is built or launched.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(scenario: Path | None, only: tuple[str, ...], budget: str, no_launches: bool, as_json: bool) -> None:
    """Say whether this machine is fit to measure on, and how small a change the gate can see on it.

    SCENARIO is the model to launch; without one it is the scenario of this folder where there is exactly one, else a small starter model.

    Exit codes: 0 fit, 2 bad input, 3 not fit.
    """
    budget_s = seconds_of(budget)
    from harness.core.checkup_wording import text_of
    from harness.engine.examine import Question, examine
    from harness.engine.progress_bar import shown_progress

    with shown_progress() as progress:
        checkup = examine(Question(scenario, only, budget_s, launches=not no_launches), progress)
    if as_json:
        from harness.engine.examine import checkup_json

        click.echo(checkup_json(checkup).decode(), nl=False)
    else:
        click.echo(text_of(checkup), nl=False)
    sys.exit(checkup.exit_code)
