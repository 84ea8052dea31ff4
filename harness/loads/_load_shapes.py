"""How the rate of an open loop goes over time: the options for it, and the curve that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.core.scenario import Duration, Rate

Arrivals = Literal["poisson", "constant"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a load in which the rate goes in a straight line from ``from_per_s`` to ``to_per_s``."""

    duration_ns: int
    from_per_s: float
    to_per_s: float

    @property
    def expected(self) -> float:
        """How many requests are due in it, on average: the area under the line."""
        return (self.from_per_s + self.to_per_s) / 2 * self.duration_ns / 1e9


class Part(BaseModel):
    """Options inside options: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Ramp(Part):
    """The rate goes in a straight line from one to another over the duration."""

    start: Rate = Field(alias="from", description="The rate at the beginning.")
    to: Rate = Field(description="The rate at the end.")


class Spike(Part):
    """For a while the rate is so many times what it is otherwise."""

    factor: float = Field(gt=1, le=1000, description="How many times as many requests a second.")
    at: Duration = Field(description="When it begins, from the start of the measured time.")
    lasts: Duration = Field(alias="for", description="How long it takes.")


def with_spike(flat: Stretch, spike: Spike | None) -> tuple[Stretch, ...]:
    """A constant rate, and the spike in it."""
    if spike is None:
        return (flat,)
    at, lasts, high = round(spike.at), round(spike.lasts), flat.from_per_s * spike.factor
    rest = flat.duration_ns - at - lasts
    low = flat.from_per_s
    return (Stretch(at, low, low), Stretch(lasts, high, high), Stretch(rest, low, low))
