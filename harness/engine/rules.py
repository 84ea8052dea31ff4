"""Which metrics a scenario gates, and how much worse each may become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import plugins
from harness.engine.evaluate import metric_of

if TYPE_CHECKING:
    from harness.core.estimate import Direction
    from harness.core.plugin import ExactMetric, LaunchMetric, SampleMetric
    from harness.core.scenario import GateRule, Scenario
    from harness.core.units import Unit

    Metric = LaunchMetric | SampleMetric | ExactMetric


MEDIAN_QUERIES = 20


@dataclass(frozen=True, slots=True)
class Rule:
    """A gated metric: its tolerance on its scale (0.02: 2 %, or 2 points) and its floor in its unit."""

    metric: str
    plugin: Metric
    tolerance: float
    floor: float

    @property
    def unit(self) -> Unit:
        return self.plugin.unit

    @property
    def better(self) -> Direction:
        return self.plugin.better


def rules_of(scenario: Scenario) -> tuple[Rule, ...]:
    """Every gated metric: those that have a tolerance of their own, as the scenario's ``gate`` changes, adds or switches off."""
    rules = []
    for name in plugins.names("metrics"):
        plugin = metric_of(name)
        written = scenario.gate.get(name)
        tolerance = _tolerance(written, plugin.tolerance)
        if tolerance is not None and plugin.better != "none":
            floor = plugin.floor if written is None or written.floor is None else written.floor.value
            rules.append(Rule(name, plugin, tolerance, floor))
    return tuple(rules)


def queries_wanted(scenario: Scenario) -> int:
    """How many queries a launch should hold: enough for the median, and for every metric that the scenario itself gates."""
    named = [metric_of(name) for name, rule in scenario.gate.items() if not rule.off]
    return max([MEDIAN_QUERIES, *(plugin.queries for plugin in named if plugin.kind == "launch")])


def wants_energy(scenario: Scenario) -> bool:
    """Whether the scenario itself asks for the energy of a query, so that slices are worth making longer for it."""
    promised = (clause.metric for clause in scenario.clauses())
    gated = (name for name, rule in scenario.gate.items() if not rule.off)
    return bool({"energy_per_inference", "power_mean"} & {*promised, *gated})


def _tolerance(written: GateRule | None, default: float | None) -> float | None:
    if written is None:
        return default
    if written.off:
        return None
    return default if written.tolerance is None else written.tolerance.value
