"""``harness import``: a run that another machine wrote as one file."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.options import REPORTS


@click.command("import", short_help="Take over a run that 'harness export run' wrote.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@REPORTS
def import_run(files: tuple[Path, ...], reports: Path) -> None:
    """Take over runs that 'harness export run' wrote on other machines.

    Every digest in a file is checked before anything becomes a run; reports are rendered here. A run that is there already stays as it is;
    one of the same id with other content is refused.
    """
    from harness import pipeline
    from harness.store.files import write_atomically
    from harness.store.run_archives import import_run as take_over
    from harness.store.runs import Runs

    for file in files:
        folder, new = take_over(file, Runs(reports))
        if new:
            for report, data in pipeline.render(folder.result()).items():
                write_atomically(folder.path / report, data)
        click.echo(f"{folder.path}" if new else f"{folder.path} (was there already, the same)")
