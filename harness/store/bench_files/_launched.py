"""What the writers of files for other tools are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.result import TrialRecord


@dataclass(frozen=True, slots=True)
class Launched:
    """One launch of a trial to be written: its ``values`` are seconds for one query, each over ``loops`` queries; ``number`` is from 1."""

    trial: TrialRecord
    number: int
    values: tuple[float, ...]
    loops: int
    queries: int
