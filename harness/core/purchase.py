"""What ``harness compare`` finds: which machine does the same work for the least money within its promises, why, and what could change it.

Schema history of its JSON (``SCHEMA``):
  1  first version
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.core.comparison import SlaState
from harness.core.estimate import ConfidenceInterval, Estimate

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Price:
    """What an hour of one machine costs, and where that is written."""

    per_hour: float
    currency: str
    source: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A hardware target on the hardware that its runs were measured on; several runs of it are its sessions.

    ``cores`` are those that launches were pinned to, None where the run does not tell. ``versions`` are of what was measured with.
    """

    name: str
    target: str
    cpu: str
    cpu_count: int
    cores: int | None
    threads: int | None
    device: str
    gpus: tuple[str, ...]
    memory_bytes: int
    runs: tuple[str, ...]
    measured: tuple[str, ...]
    price: Price | None
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked of every machine: one recipe of a scenario, at one batch size, under one load."""

    scenario: str
    recipe: str
    batch_size: int
    load: str

    @property
    def told(self) -> str:
        """``int8, batch 1``; the load where it is not the usual one."""
        load = "" if self.load == "single_stream" else f", {self.load}"
        return f"{self.recipe}, batch {self.batch_size}{load}"


@dataclass(frozen=True, slots=True)
class Clause:
    """One promise on one machine. Of several sessions the gravest state counts."""

    text: str
    metric: str
    state: SlaState
    reason: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the arithmetic: what it is, how it comes about, its value with interval and unit, and where it is from."""

    what: str
    formula: str
    value: float
    interval: ConfidenceInterval | None
    unit: str
    source: str


@dataclass(frozen=True, slots=True)
class Amount:
    """Money with the interval that comes from what was measured; a price is taken as exact."""

    value: float
    interval: ConfidenceInterval | None
    currency: str


@dataclass(frozen=True, slots=True)
class Room:
    """Memory that the model takes and the machine has; ``copies`` of it fit at once."""

    peak_bytes: float
    total_bytes: int
    of: str

    @property
    def free(self) -> float:
        """The share of memory that is left."""
        return 1 - self.peak_bytes / self.total_bytes

    @property
    def copies(self) -> int:
        return int(self.total_bytes // self.peak_bytes)


@dataclass(frozen=True, slots=True)
class Offer:
    """One machine doing one work. ``rate`` is what a machine does in a second, ``rate_told`` what kind of rate that is.

    ``cost`` is for a million inferences; ``no_cost`` says why there is none. ``figures`` are each session's launches by metric.
    """

    machine: str
    work: Work
    estimates: tuple[Estimate, ...]
    rate: Estimate | None
    rate_told: str
    clauses: tuple[Clause, ...]
    lines: tuple[Line, ...]
    cost: Amount | None
    no_cost: str
    room: Room | None
    figures: Mapping[str, tuple[tuple[float, ...], ...]]
    notes: tuple[str, ...] = ()

    def estimate(self, metric: str) -> Estimate | None:
        return next((estimate for estimate in self.estimates if estimate.metric == metric), None)

    @property
    def keeps_all(self) -> bool:
        """Every promise is shown to be kept; true where nothing is promised."""
        return all(clause.state is SlaState.KEPT for clause in self.clauses)


class Apart(StrEnum):
    """What a pair of machines showed: which is better, that they cannot be told apart, or that there was nothing to test."""

    FIRST = "first is better"
    SECOND = "second is better"
    NOT_APART = "cannot be told apart"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two machines in one metric: ``ratio`` is second over first. ``margin`` is what two runs of one machine may differ by, which the whole
    interval must lie beyond; 0 where sessions themselves were compared. ``sessions`` is true for two sessions of one machine."""

    first: str
    second: str
    work: str
    metric: str
    ratio: float | None
    interval: ConfidenceInterval | None
    margin: float
    n: tuple[int, int]
    n_of: str
    found: Apart
    reason: str
    sessions: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A trial of a run that is not the same work as the others', and everything that differs from them."""

    run: str
    machine: str
    work: Work
    started_at: str
    reason: str
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BreakEven:
    """The price an hour at which a machine costs as much as ``against``, and what it costs now (None: not known)."""

    machine: str
    against: str
    price_now: float | None
    price_even: float
    interval: ConfidenceInterval | None
    currency: str
    told: str


@dataclass(frozen=True, slots=True)
class FleetCell:
    """So many machines of one kind for a load: the number, the numbers at both ends of the rate's interval, and the cost of a month."""

    machine: str
    machines: int
    fewest: int
    most: int | None
    cost_month: float | None


@dataclass(frozen=True, slots=True)
class Fleet:
    """One load in inferences a second, on every machine that keeps the promises; ``cheapest`` are the machines with the lowest cost."""

    load_per_s: float
    cells: tuple[FleetCell, ...]
    cheapest: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One scenario: the answer in a sentence, why, what could change it, and the evidence.

    ``best`` is every machine's own best offer, the cheapest first; ``winner`` the cheapest that keeps all promises, with ``ties`` the
    machines whose cost cannot be told apart from it.
    """

    scenario: str
    headline: str
    decided: bool
    why: tuple[str, ...]
    could_change: tuple[str, ...]
    winner: str | None
    ties: tuple[str, ...]
    clauses: tuple[str, ...]
    offers: tuple[Offer, ...]
    best: tuple[Offer, ...]
    pairs: tuple[Pair, ...]
    left_out: tuple[LeftOut, ...]
    break_even: tuple[BreakEven, ...]
    fleets: tuple[Fleet, ...]

    @property
    def shown(self) -> tuple[Offer, ...]:
        """One offer of every machine: its best, else the cheapest that does not keep all promises, else the first; the best come first."""
        found = {offer.machine: offer for offer in self.best}
        priced = [(offer.cost.value, number, offer) for number, offer in enumerate(self.offers) if offer.cost is not None]
        for offer in [*(offer for *_, offer in sorted(priced, key=lambda one: one[:2])), *self.offers]:
            found.setdefault(offer.machine, offer)
        return tuple(found.values())


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the buyer said: how busy the machines will be, what energy costs, which hourly prices, what a session may differ by."""

    utilisation: float
    utilisation_told: str
    energy_price_per_kwh: float | None
    currency: str | None
    session_margin: float
    hours_a_month: float


@dataclass(frozen=True, slots=True)
class Purchase:
    """All of it. ``differs`` are facts that are not the same on all machines and do not decide whether they are compared."""

    machines: tuple[Machine, ...]
    answers: tuple[Answer, ...]
    assumptions: Assumptions
    differs: tuple[str, ...]
    notes: tuple[str, ...]

    def machine(self, name: str) -> Machine:
        return next(machine for machine in self.machines if machine.name == name)
