"""What several commands share: options that mean the same everywhere, and the command line as it was typed."""

from __future__ import annotations

import shlex
import sys
from itertools import dropwhile
from pathlib import Path

import click

REPORTS = click.option(
    "--reports", type=click.Path(path_type=Path, file_okay=False), default=Path("reports"), show_default=True, help="Where runs are saved."
)
ALLOW_OUTSIDE = click.option(
    "--allow-outside",
    "outside",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Files that are only read, such as weights, may lie in this folder too.  [env: HARNESS_ALLOW_OUTSIDE]",
)
TRUST_REMOTE_CODE = click.option(
    "--trust-remote-code",
    "remote_code",
    is_flag=True,
    help="Run code that comes with a model, where the scenario asks for it too.  [env: HARNESS_TRUST_REMOTE_CODE]",
)


def command_line() -> str:
    """As it was typed, without what stands before the command: ``gate scenarios --only int8``."""
    return shlex.join(dropwhile(lambda word: word.startswith("-"), sys.argv[1:]))
