"""What a load showed, whichever generator made it, and what all of them share."""

from __future__ import annotations

from dataclasses import dataclass

QUANTILES = (0.5, 0.9, 0.99)
LEAD_IN_S = 1.0
PER_CLIENT_PER_S = 10
"""h2load has one request of a connection in flight: 10 a second leave each 100 ms for an answer."""
SERVICE_MS = 5
TAIL_EVERY = 50
"""Every 50th answer takes 20 ms instead of 5: p99 then lies in the middle of those, where it does not depend on luck."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one load showed: quantiles in ms, requests, and for this project's own generator its lateness and CPU."""

    generator: str
    setting: str
    quantiles_ms: tuple[float, ...]
    requests: int
    failed: int = 0
    late_p99_ms: float | None = None
    cpu: float | None = None
    doubt: str | None = None
