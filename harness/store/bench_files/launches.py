"""What a benchmark file says, in the words of this program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from harness.core.units import Unit


@dataclass(frozen=True, slots=True)
class Place:
    """Where a launch ran. ``machine`` must be equal before two timings may be compared; ``facts`` (versions, settings) are told where
    they differ; ``host`` is the computer's name. What the file does not say is left out or None."""

    machine: Mapping[str, str]
    facts: Mapping[str, str]
    host: str | None


@dataclass(frozen=True, slots=True)
class BenchLaunch:
    """One process launch of one benchmark: ``figure`` is the median of its ``samples`` values, in ``unit``.

    ``at`` is when the tool says that it ran, in UTC or, where the tool gives no zone, by its own clock. ``raw`` is False where the file has
    statistics only, so that the median is the tool's.
    """

    benchmark: str
    unit: Unit
    figure: float
    samples: int
    raw: bool
    at: datetime | None
    place: Place


@dataclass(frozen=True, slots=True)
class BenchFile:
    """One file. ``digest`` is over its bytes; ``source`` is the commit, ``dirty`` whether the tree differed from it; ``unmeasured`` are
    benchmarks without a number and why; ``notes`` are warnings that the file gives of itself."""

    path: Path
    tool: str
    digest: str
    launches: tuple[BenchLaunch, ...]
    source: str | None = None
    dirty: bool | None = None
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
