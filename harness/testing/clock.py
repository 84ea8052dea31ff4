"""A clock that only moves when it is told to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class FakeClock:
    """Integer ns; call it to read it, as ``time.perf_counter_ns``."""

    now_ns: int = 0

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
