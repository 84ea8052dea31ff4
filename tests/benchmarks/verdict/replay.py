"""The gate's own decision, on launch pairs that were taken before: only the launching and the clock are replaced.

A contest asks for one launch pair after the other; here it gets recorded ones. They are drawn with replacement, by whole visits: pairs that
came from one template process stay together and in order, as a gate would have met them. Time is what the pairs took.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from scipy import stats

from harness.core.comparison import Verdict
from harness.core.estimate import Absent
from harness.core.measurement import Measurement
from harness.core.scenario import MeasureSpec
from harness.engine import compare, measure_cases
from harness.engine import contest as contests
from harness.engine.contest import Contest, screen_and_confirm
from harness.engine.launcher import Launcher
from harness.engine.procedure import Procedure
from harness.engine.rules import Rule
from harness.stats import paired

from .records import PairRecord


@dataclass(slots=True)
class Clock:
    """Moves by what a recorded pair took."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(slots=True)
class Source:
    """Stands where a contest has a subject: the visits to one cell, drawn at random for ever."""

    visits: Sequence[Sequence[PairRecord]]
    draw: random.Random
    clock: Clock
    batch_size: int = 1
    _rest: list[PairRecord] = field(default_factory=list)

    def take(self) -> PairRecord:
        if not self._rest:
            self._rest = list(self.draw.choice(self.visits))[::-1]
        pair = self._rest.pop()
        self.clock.now_s += pair.wall_s
        return pair


@dataclass(frozen=True, slots=True)
class Replayed:
    """Stands where a contest has a run."""

    pair: int
    record: PairRecord


@dataclass(frozen=True, slots=True)
class Decided:
    """What a gate of one trial would have said. ``spent_s`` is the trial's; the null control takes ``control_s`` more."""

    verdicts: Mapping[str, Verdict]
    control_red: bool
    pairs: int
    spent_s: float
    control_s: float

    @property
    def red(self) -> bool:
        """Whether anything is called slower, before the null control has its say."""
        return Verdict.REGRESSED in self.verdicts.values()

    @property
    def fails(self) -> bool:
        """Whether the gate would have ended with exit code 1."""
        return self.red and not self.control_red


def decide(
    candidate: Sequence[Sequence[PairRecord]],
    baseline: Sequence[Sequence[PairRecord]],
    rules: Sequence[Rule],
    budget_s: float,
    draw: random.Random,
) -> Decided:
    """One gate of one trial, as ``measure_cases.measure_paired`` goes: screen and confirm, then the null control, which draws from
    ``baseline``, the visits to the cell of identical code. Call it within ``replaying()``."""
    clock = Clock()
    arms = {"baseline": Source(baseline, draw, clock), "candidate": Source(candidate, draw, clock)}
    procedure = Procedure(Path(), MeasureSpec(), {}, Launcher())
    contest = Contest("trial", arms, list(rules), procedure, 0, "single_stream")  # type: ignore[arg-type]  # sources for subjects
    screen_and_confirm([contest], budget_s=budget_s, record=_ignore, step=_ignore, clock=clock)
    with mock.patch.object(measure_cases, "screen_and_confirm", partial(screen_and_confirm, clock=clock)):
        control = measure_cases._null_control([contest], _ignore, _ignore)
    verdicts = {metric: comparison.verdict for metric, comparison in contest.comparisons.items()}
    control_red = control is not None and control.red
    return Decided(verdicts, control_red, len(contest.runs["candidate"]), contest.spent_s, clock.now_s - contest.spent_s)


@contextmanager
def replaying() -> Iterator[None]:
    """Contests launch from their sources, and read figures from records, within the block.

    The quantiles that the rule asks for again and again are remembered, and how many pairs would tell is not worked out for anyone: the
    same decisions, ten times sooner.
    """
    remembered = SimpleNamespace(t=_RememberedT(), nct=stats.nct, chi2=stats.chi2)
    with (
        mock.patch.object(contests, "launch", _launch),
        mock.patch.object(contests, "launch_log_ratios", _log_ratios),
        mock.patch.object(contests, "launch_figures", _figures),
        mock.patch.object(compare, "_pairs_that_would_tell", lambda *_: ""),
        mock.patch.object(paired, "stats", remembered),
        mock.patch.object(paired, "_distance", cache(paired._distance)),
    ):
        yield


def visits_of(records: Sequence[PairRecord]) -> list[list[PairRecord]]:
    """The pairs of one cell by visit, in order."""
    found: dict[int, list[PairRecord]] = {}
    for record in records:
        found.setdefault(record.visit, []).append(record)
    return list(found.values())


class _RememberedT:
    """Student's t with a memory."""

    def __init__(self) -> None:
        self.ppf, self.isf, self.sf = cache(stats.t.ppf), cache(stats.t.isf), stats.t.sf


def _launch(arms: Mapping[str, Source], pair: int, procedure: Procedure, seed: int, **how: object) -> dict[str, Replayed]:
    taken = Replayed(pair, arms["candidate"].take())
    return {"baseline": taken, "candidate": taken}


def _log_ratios(metric: str, baseline: Measurement, candidate: Measurement) -> list[float] | Absent:
    return _by_metric(metric, [run.record.log_ratios for run in candidate.runs])  # type: ignore[attr-defined]


def _figures(metric: str, measurement: Measurement) -> list[float] | Absent:
    found = _by_metric(metric, [run.record.figures for run in measurement.runs])  # type: ignore[attr-defined]
    return found if isinstance(found, Absent) else [pair[0] for pair in found]


def _by_metric(metric: str, rows: Sequence[Mapping[str, object]]) -> list | Absent:
    """The metric's value of every pair; Absent where one has none, as the gate has it."""
    if all(metric in row for row in rows):
        return [row[metric] for row in rows]
    return Absent(metric, "a launch has no such figure")


def _ignore(*told: object) -> None:
    return None
