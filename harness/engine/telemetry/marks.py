"""When telemetry makes a launch doubtful, and when it makes it INVALID. The rule stands here once; docs/telemetry.md tells it.

INVALID  the device's hardware took its clock away in the timed part (heat, a slowdown, the power brake); another process was seen to
         compute on the device; the device stopped to answer
marked   any other reason that held the clock back (power cap, software's limit for heat, board limit); another process held the device
         and was not seen to compute, or the driver does not tell; the CPU counted throttle events
nothing  the device was idle between queries, or somebody has locked its clock: that is no fault
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.core.telemetry import Mark
from harness.engine.machine.check_gpu import GRAVE, HARMLESS

if TYPE_CHECKING:
    from harness.core.telemetry import Company, HeldBack

CPU = "CPU"
CPU_HEAT = "throttle events"


def marks_of(held_back: Sequence[HeldBack], company: Sequence[Company], lost: str | None, source: str, samples: int) -> tuple[Mark, ...]:
    """Every mark of a launch, the grave ones first; ``samples`` is how many looks at the device fell into its slices."""
    marks = []
    if lost is not None:
        marks.append(Mark(f"{source} stopped to answer", lost, grave=True))
    for held in held_back:
        if held.source == CPU:
            marks.append(Mark("the CPU was throttled", f"{held.samples:,} {held.reason} from the first slice to the last"))
        elif held.reason not in HARMLESS:
            what = f"{held.source} was held back: {held.reason}"
            marks.append(Mark(what, f"in {held.samples} of {samples} samples", grave=held.reason in GRAVE))
    marks += [_mark_of(guest) for guest in company]
    return tuple(sorted(marks, key=lambda mark: not mark.grave))


def _mark_of(guest: Company) -> Mark:
    if guest.busy is None:
        return Mark(f"{guest.source} was shared with process {guest.pid}", "whether it computed, the driver does not tell")
    if guest.busy > 0:
        return Mark(f"process {guest.pid} computed on {guest.source}", f"in up to {guest.busy * 100:.0f} % of the time", grave=True)
    return Mark(f"{guest.source} was shared with process {guest.pid}", "it was not seen to compute")
