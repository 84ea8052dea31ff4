"""See ``profile``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import click

if TYPE_CHECKING:
    from harness.core.profile import OperatorTime, Profile

LINES = 12
"""Operators of each kind on a terminal; the page has more."""


class _ProfilePages(Protocol):
    """What this command asks of the HTML report."""

    def profile_page(self, trial: str, profile: Profile, trace: str) -> bytes: ...


@click.command(short_help="Show where the time of a query goes, operator by operator.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a key of the scenario.")
@click.option("--only", multiple=True, metavar="PATTERN", help="Only trials whose id matches, such as 'int8' or '*-b8'.")
@click.option(
    "--time", "duration", metavar="TIME", default="0.5 s", show_default=True, help="Queries under the profiler, each trial, twice."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports/profiles"),
    show_default=True,
    help="Where the pages and traces go.",
)
@click.option("--nsys", is_flag=True, help="Record each trial with NVIDIA Nsight Systems too (unverified with a real one).")
def profile(paths: tuple[Path, ...], overrides: tuple[str, ...], only: tuple[str, ...], duration: str, output: Path, nsys: bool) -> None:
    """Show where the time of a query goes, operator by operator, by the runtime's own profiler.

    Every trial gets a page that opens offline and a trace that Perfetto opens. Nothing is judged: a profiler slows what it looks at.
    """
    from harness import plugins
    from harness.commands.duration import seconds_of
    from harness.core.plain_text import plain_text
    from harness.engine.profile_nsight import nsight_here
    from harness.engine.profile_trials import profile_trials
    from harness.engine.progress_bar import shown_progress
    from harness.store.files import write_atomically

    least_ns = round(seconds_of(duration, "--time") * 1e9)
    nsight = nsight_here() if nsys else None
    pages = cast("_ProfilePages", plugins.load("reports", "html")())
    with shown_progress() as progress:
        for found in profile_trials(paths, overrides, only, output, progress, least_ns=least_ns, nsight=nsight):
            page = found.trace.parent / "profile.html"
            write_atomically(page, pages.profile_page(found.trial, found.profile, found.trace.name))
            recorded = [] if found.nsight is None else [f"nsight: {found.nsight} (nsys-ui opens it)"]
            click.echo(
                plain_text("\n".join([*_lines(found.trial, found.profile), f"page: {page}", f"trace: {found.trace}", *recorded, ""]))
            )


def _lines(trial: str, profile: Profile) -> list[str]:
    from harness.core.profile import by_kind
    from harness.core.units import Unit, format_value

    total = sum(one.own_ns for one in profile.operators) or 1

    def line(one: OperatorTime) -> str:
        took = format_value(one.own_ns / profile.queries, Unit.NANOSECONDS)
        name = f"{one.kind} {one.name}".strip()
        return f"  {100 * one.own_ns / total:5.1f} %  {took:>9}  {one.calls / profile.queries:>6.4g} x  {name}  ({one.where})"

    per_query = format_value(profile.wall_ns / profile.queries, Unit.NANOSECONDS)
    return [
        f"{trial}: {profile.queries:,} queries under the profiler, {per_query} each",
        "by type",
        *map(line, by_kind(profile).operators[:LINES]),
        "by name",
        *map(line, profile.operators[:LINES]),
    ]
