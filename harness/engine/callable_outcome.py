"""What came of one call of ``gate``, in words."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.comparison import Comparison, Verdict
from harness.core.units import Unit, format_value
from harness.core.wording import sentence_of

METRIC = "latency_p50"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one call of ``gate``.

    ``compared_with`` is a commit or the other callable, for people; None where there was nothing. ``verdict`` is None where nothing was
    measured against it (there is nothing, it has no such test, or nothing has changed), and ``reason`` says why. ``latency_ns`` is the
    candidate's median; None where it could not be measured.
    """

    subject: str
    compared_with: str | None
    verdict: Verdict | None
    reason: str
    latency_ns: float | None = None
    comparison: Comparison | None = None

    @property
    def told(self) -> str:
        """In one sentence."""
        if self.comparison is not None:
            return sentence_of(self.comparison)
        latency = "" if self.latency_ns is None else f"{METRIC} {format_value(self.latency_ns, Unit.NANOSECONDS)}; "
        return f"{self.subject}: {latency}{self.reason}" + ("" if self.verdict is None else f": {self.verdict}")

    @property
    def because(self) -> tuple[str, ...]:
        """What it rests on, a line each."""
        if self.comparison is None:
            return ()
        return (self.reason, f"compared with {self.compared_with}: {self.comparison.n} {self.comparison.n_of}; {self.comparison.method}")

    @property
    def properties(self) -> tuple[tuple[str, object], ...]:
        """For programs, the units in the names."""
        latency = () if self.latency_ns is None else ((f"{METRIC}_ns", self.latency_ns),)
        ratio = () if self.comparison is None else ((f"{METRIC}_ratio", self.comparison.effect),)
        verdict = () if self.verdict is None else (("harness_verdict", str(self.verdict)),)
        return (*latency, *ratio, *verdict)
