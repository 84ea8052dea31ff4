"""How launches are made, whatever is launched: the times, who goes first, and what is no evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.measurement import Failure, FailureReason
from harness.engine.workers import WorkerFailed

if TYPE_CHECKING:
    from harness.core.scenario import MeasureSpec
    from harness.core.telemetry import Telemetry
    from harness.engine.launcher import Launcher
    from harness.engine.protocol import Subject

LEAST_QUERIES = 20
UNSTEADY = 0.10
"""A launch whose halves differ by more than this is called unsteady."""


@dataclass(frozen=True, slots=True)
class Procedure:
    """How launches are made: the folder for worker logs, the times, each arm's interpreter where it is not ours, and who starts them.

    ``least_queries`` is how many a launch should hold, so that what the scenario gates has a figure. ``run`` is the run's own folder, that
    files of raw data are named from. ``wants_energy``: slices are made as long as the device's counter of energy needs. ``unwatched`` are
    arms whose slices run without telemetry, to see what it costs.
    """

    logs: Path
    times: MeasureSpec
    pythons: Mapping[str, Path]
    launcher: Launcher
    least_queries: int = LEAST_QUERIES
    run: Path = Path()
    wants_energy: bool = False
    unwatched: frozenset[str] = frozenset()

    @property
    def timeout_s(self) -> float:
        return self.times.timeout / 1e9


def in_turn(arms: Mapping[str, Subject], turn: int) -> list[str]:
    """The arms, every other time the other way round.

    Who is started first gets other physical pages: of two processes forked one after the other the first was 0.8 % slower (36 pairs of a
    query of 31 µs). Alternating makes that spread instead of bias.
    """
    return list(arms) if turn % 2 == 0 else list(arms)[::-1]


def refuse_disturbed(telemetry: Mapping[str, Telemetry]) -> None:
    """Raises WorkerFailed for the first arm that has a grave mark: its times are no evidence, whatever they say."""
    for arm, seen in telemetry.items():
        if grave := [mark for mark in seen.marks if mark.grave]:
            told = "; ".join(f"{mark.what} ({mark.evidence})" for mark in grave)
            raise WorkerFailed(Failure(FailureReason.DISTURBED, f"{arm}, slice", told))
