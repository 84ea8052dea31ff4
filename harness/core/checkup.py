"""What ``harness doctor`` found: how fit a machine is to measure on, and how small a change the gate can see on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.core.errors import ExitCode
from harness.core.estimate import Absent, ConfidenceInterval


class State(StrEnum):
    """How a machine stands in one respect. ``not visible`` is no praise: it could not be read, and is not guessed."""

    FINE = "fine"
    NOTICE = "notice"
    UNFIT = "unfit"
    NOT_VISIBLE = "not visible"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: its value as people are told it, and what to do, in one line ("" where there is nothing to do)."""

    name: str
    state: State
    value: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """What an A/A, identical code in both arms, says of one gated metric.

    ``spread`` is the standard deviation of a launch pair's log ratio; ``pair_s`` the seconds that a pair takes; ``fresh_pairs`` how many
    the budget leaves after the screen. ``smallest_change`` is the least true worsening (0.02: 2 %) that the gate calls REGRESSED four times
    of five with the budget, ``with_twice`` with twice the budget; None where the budget is too short to call anything so. ``floor`` is the
    metric's smallest absolute change that counts, here as a share of the value measured. ``effect`` and
    ``interval`` are the ratio of the two arms; ``red`` is True where the interval lies wholly beyond ``tolerance``, in either direction.
    """

    metric: str
    tolerance: float
    pairs: int
    spread: float
    pair_s: float
    fresh_pairs: int
    smallest_change: float | None
    with_twice: float | None
    floor: float
    effect: float
    interval: ConfidenceInterval
    red: bool


@dataclass(frozen=True, slots=True)
class Checkup:
    """Everything ``harness doctor`` found. ``subject`` is what was launched, "" where nothing was; ``unseen`` are gated metrics without a
    value, and why; ``notes`` say what the reader must know of the subject. ``budget_s`` is what one trial's launch pairs may take."""

    findings: tuple[Finding, ...]
    sights: tuple[Sight, ...]
    budget_s: float
    headline: str
    subject: str = ""
    unseen: tuple[Absent, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fit(self) -> bool:
        return not any(finding.state is State.UNFIT for finding in self.findings) and not any(sight.red for sight in self.sights)

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.PASS if self.fit else ExitCode.NOT_DECIDED
