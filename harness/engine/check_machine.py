"""Is this machine fit to measure on: one finding for each thing that was looked at, in the order in which people fix them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.engine.machine import check_cpu, check_gpu, check_system

if TYPE_CHECKING:
    from harness.core.checkup import Finding
    from harness.engine.machine.readings import Readings


def check_machine(readings: Readings, *, gpu: bool = True) -> tuple[Finding, ...]:
    """Every check of what was read; ``gpu`` False leaves out what a trial on the CPU does not use."""
    findings = [check(readings) for check in (*check_cpu.CHECKS, *check_system.CHECKS)]
    return (*findings, *(check_gpu.check_gpus(readings) if gpu else ()))
