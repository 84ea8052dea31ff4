"""``harness diff``: two saved runs, or the files of another benchmark tool, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from harness.commands.options import REPORTS

WITH = "--with"


class _TwoArms(click.Command):
    """Lets a shell's ``head*.json`` stand after ``--with``: all words up to the next option belong to it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_spread(args)))


def _spread(words: list[str]) -> Iterator[str]:
    """``--with a b`` as ``--with a --with b``; a ``--with`` that nothing follows stays, and is an error."""
    of_candidate = False
    for number, word in enumerate(words):
        if word == WITH:
            of_candidate = True
            if number + 1 == len(words) or words[number + 1].startswith("-"):
                yield word
        elif word.startswith("-"):
            of_candidate = False
            yield word
        elif of_candidate:
            yield from (WITH, word)
        else:
            yield word


@click.command(cls=_TwoArms, short_help="Compare two saved runs, or files of other benchmark tools.")
@click.argument("names", metavar="BASE... [HEAD]", nargs=-1)
@click.option(WITH, "candidate", multiple=True, metavar="HEAD...", help="The other arm, where an arm has several: all words that follow.")
@click.option("--tolerance", "tolerances", multiple=True, metavar="[METRIC=]SHARE", help="How much worse is tolerated, such as '3 %'.")
@click.option("--fail", is_flag=True, help="Exit 1 where a regression is shown, 3 where something is not decided.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON (docs/diff.md).")
@REPORTS
def diff(names: tuple[str, ...], candidate: tuple[str, ...], tolerances: tuple[str, ...], fail: bool, as_json: bool, reports: Path) -> None:
    """Compare two saved runs, or files of pytest-benchmark, pyperf and Google Benchmark.

    \b
    harness diff BASE HEAD                       runs (ids, 'latest', folders, result.json) or files
    harness diff base*.json --with head*.json    several files an arm: each is a process launch

    Nothing is measured. What launches that were not measured in pairs can show is told, and what they cannot show too.
    Exit codes: 0; with --fail 1 where a regression is shown, 3 where something is not decided; 2 bad input.
    """
    if candidate:
        baseline = names
        if not baseline:
            raise click.UsageError("name the baseline before --with: harness diff base*.json --with head*.json")
    elif len(names) == 2:
        baseline, candidate = names[:1], names[1:]
    else:
        raise click.UsageError("name two: harness diff BASE HEAD; or several an arm: harness diff base*.json --with head*.json")
    from harness.engine.diffing import arms

    report = arms.diff(baseline, candidate, reports, tolerances)
    code = arms.exit_code_of(report, fail=fail)
    from harness.engine.diffing.text import json_of, text_of

    click.echo(json_of(report, code) if as_json else text_of(report), nl=False)
    sys.exit(code)
