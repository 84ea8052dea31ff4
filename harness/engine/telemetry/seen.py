"""What a watch has collected of a launch pair, raw; ``tell`` makes each arm's telemetry of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.telemetry import Gauge
    from harness.engine.telemetry.nvml import GpuSample


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one time while a slice of ``arm`` ran; ``memory_bytes`` is the launch's own on the device, where that is told."""

    at_ns: int
    arm: str
    cpu: Mapping[Gauge, float]
    gpu: GpuSample | None
    memory_bytes: int | None = None


@dataclass(slots=True)
class Turns:
    """What was read at the ends of one arm's slices. ``joules`` by domain; None once a counter was set back or could not be read."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    joules: dict[str, float | None] = field(default_factory=dict)

    @property
    def timed_ns(self) -> int:
        return sum(end - begin for begin, end in self.spans)


@dataclass(slots=True)
class Seen:
    """All that was collected. ``source`` is the device's name (``GPU 0``), None where the session runs on the CPU or its GPU could not be
    opened; ``trouble`` says why the device's energy cannot be read at all. ``wanted`` are the domains that a query's energy is made of, and
    ``steps`` how often each counter moves, in ns (None: it does not). Process numbers: ``before`` our sessions were opened, ``seen`` on the
    device, and which of them are ``ours``. ``busy`` is each process's share of the device, None where it is not told."""

    period_ns: int
    source: str | None
    trouble: str | None
    wanted: tuple[str, ...]
    steps: dict[str, int | None] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    turns: dict[str, Turns] = field(default_factory=lambda: defaultdict(Turns))
    before: frozenset[int] = frozenset()
    seen: set[int] = field(default_factory=set)
    ours: set[int] = field(default_factory=set)
    busy: Mapping[int, float] | None = None
    throttled: int | None = None
    lost: str | None = None
