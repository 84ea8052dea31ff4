"""``harness compare``: machines side by side, for someone who buys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import click

from harness.commands.options import REPORTS

if TYPE_CHECKING:
    from harness.core.purchase import Purchase


class _PurchasePages(Protocol):
    """What this command asks of the HTML report."""

    def compare_page(self, purchase: Purchase) -> bytes: ...


@click.command(short_help="Compare machines: promises kept, speed, cost.")
@click.argument("names", metavar="[NAME=]RUN...", nargs=-1, required=True)
@click.option(
    "--hardware", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE", help="Prices from this hardware.yaml."
)
@click.option("--price", "prices", multiple=True, metavar="NAME=PRICE", help="What a machine costs an hour, such as 'small=1.20 USD'.")
@click.option("--energy-price", metavar="PRICE", help="What energy costs, such as '0.30 USD/kWh', where the price an hour is without it.")
@click.option("--utilisation", metavar="SHARE", help="How much of an hour a machine works.  [default: 100 %]")
@click.option(
    "--load", "loads", multiple=True, metavar="RATE", help="Count machines for a load, such as '1,000 /s'; may be given several times."
)
@click.option("--session-margin", metavar="SHARE", help="By how much two runs of one machine may differ.  [default: 15 %]")
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a page that opens offline.")
@click.option("--csv", "table", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a table for a spreadsheet.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON (docs/compare.md).")
@REPORTS
def compare(
    names: tuple[str, ...],
    hardware: Path | None,
    prices: tuple[str, ...],
    energy_price: str | None,
    utilisation: str | None,
    loads: tuple[str, ...],
    session_margin: str | None,
    page: Path | None,
    table: Path | None,
    as_json: bool,
    reports: Path,
) -> None:
    """Compare machines by runs of the same scenario: which keeps its promises for the least money.

    \b
    harness compare RUN RUN RUN                   ids, folders, or files of 'harness export run'
    harness compare small=RUN.zip big=RUN.zip     with names of your own

    Nothing is measured. Runs of other work, such as an older scenario, are listed with what differs and not compared.
    Exit codes: 0; 2 bad input; 3 where no run has timings.
    """
    from harness.core.plain_text import plain_text
    from harness.engine.compare_machines.compare import Wishes
    from harness.engine.compare_machines.compare import compare as compare_machines
    from harness.engine.compare_machines.tell import csv_of, json_of, text_of
    from harness.store.files import write_atomically

    wishes = Wishes(prices, hardware, energy_price, utilisation, loads, session_margin)
    found = compare_machines(names, reports, wishes)
    if page is not None:
        from harness import plugins

        pages = cast("_PurchasePages", plugins.load("reports", "html")())
        write_atomically(page, pages.compare_page(found))
    if table is not None:
        write_atomically(table, csv_of(found).encode())
    click.echo(json_of(found) if as_json else plain_text(text_of(found)), nl=False)
    for written in (page, table):
        if written is not None:
            click.echo(f"wrote {written}", err=True)
