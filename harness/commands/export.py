"""``harness export``: what a saved run holds, in the form of another tool."""

from __future__ import annotations

from pathlib import Path

import click


@click.group(short_help="Write a saved run in the form of another tool.")
def export() -> None:
    """Write a saved run in the form of another tool."""


@export.command("bench-file", short_help="Write a run as files of pytest-benchmark or pyperf.")
@click.argument("name", metavar="[RUN]", default="latest")
@click.option("--format", "format_", type=click.Choice(["pytest-benchmark", "pyperf"]), required=True, help="Whose files.")
@click.option("--arm", type=click.Choice(["candidate", "baseline"]), default="candidate", show_default=True, help="Whose launches.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path(), show_default=True, help="The folder for them.")
@click.option(
    "--reports", type=click.Path(path_type=Path, file_okay=False), default=Path("reports"), show_default=True, help="Where runs are saved."
)
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
