"""What the user lets a scenario do beyond its own project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Allowed:
    """Said on the command line or in the environment; a scenario itself can allow nothing.

    ``outside`` are folders in which files that are only read may lie. ``remote_code``: code that comes with a model may be run where the
    scenario asks for it too.
    """

    outside: tuple[Path, ...] = ()
    remote_code: bool = False


NOTHING_MORE = Allowed()
