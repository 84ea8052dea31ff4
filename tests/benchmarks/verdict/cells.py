"""What is compared with what: workloads, planted changes, and a machine that is quiet or is not."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path

SCENARIOS = Path(__file__).parent / "scenarios"
UNITS = 200
"""Units of work in the baseline's model."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A scenario, and the time in seconds within which a trial of it must be decided."""

    name: str
    scenario: Path
    budget_s: float
    told: str


@dataclass(frozen=True, slots=True)
class Arm:
    """What the candidate is: its units of work, and the change in percent that is planted by them."""

    name: str
    units: int

    @property
    def planted(self) -> float:
        """0.05 for five units of a hundred more; the fixed part of a query makes the true change a little smaller."""
        return self.units / UNITS - 1


@dataclass(frozen=True, slots=True)
class Cell:
    """One workload under one condition with one candidate: ``onnx/quiet/+5%``."""

    workload: str
    condition: str
    arm: str

    @property
    def id(self) -> str:
        return f"{self.workload}/{self.condition}/{self.arm}"


IDENTICAL = "identical"
QUIET, NOISY = CONDITIONS = ("quiet", "noisy")
WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("onnx", SCENARIOS / "verdict-onnx.yaml", 60.0, "ONNX Runtime, a convolutional net"),
        Workload("torch", SCENARIOS / "verdict-torch.yaml", 120.0, "PyTorch eager, a transformer"),
    )
}
ARMS = {arm.name: arm for arm in (Arm(IDENTICAL, 200), Arm("+1%", 202), Arm("+2.5%", 205), Arm("+5%", 210), Arm("+10%", 220))}


def cells(only: str | None = None) -> tuple[Cell, ...]:
    """Every cell, or those whose id matches a glob pattern or holds it as a part."""
    every = tuple(Cell(workload, condition, arm) for workload in WORKLOADS for condition in CONDITIONS for arm in ARMS)
    return tuple(cell for cell in every if only is None or fnmatch.fnmatchcase(cell.id, f"*{only}*"))
