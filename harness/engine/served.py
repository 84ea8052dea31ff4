"""What a trial under a load over the network needs beyond any other: its server, and what its scenario promises under that load."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness import plugins
from harness.core.plugin import NetworkLoad
from harness.core.scenario import PluginRef
from harness.engine.protocol import CapacitySearch, Promise, Served
from harness.engine.sla import quantile_of
from harness.kserve.endpoint_file import FORMAT as ENDPOINT

if TYPE_CHECKING:
    from harness.core.plan import Trial
    from harness.core.scenario import Scenario

ERRORS = "error_rate"
RUNNING = PluginRef(name="running")


def under_network_load(trial: Trial) -> bool:
    """Whether its requests go over the network to a server."""
    return is_network_load(trial.source.scenario.measure.load.name, trial.source.folder.resolve())


def served_of(trial: Trial, format_: str) -> Served | None:
    """How the trial's artifact is served; None under a load inside the worker. A model that runs elsewhere is asked where it runs."""
    if not under_network_load(trial):
        return None
    scenario, recipe = trial.source.scenario, trial.recipe
    promises = promises_of(scenario, recipe.name)
    latencies = [promise for promise in promises if promise.q is not None]
    highest = max(latencies, key=lambda promise: (promise.q or 0.0, -promise.limit), default=None)
    spec = scenario.measure.capacity
    return Served(
        server=RUNNING if format_ == ENDPOINT and recipe.server.name == "embedded" else recipe.server,
        model=scenario.name,
        limit_ns=None if highest is None else round(highest.limit),
        promises=promises,
        capacity=None if spec is None else CapacitySearch(spec.at_least, spec.at_most, round(spec.step), spec.runs, spec.precision),
    )


def promises_of(scenario: Scenario, recipe: str) -> tuple[Promise, ...]:
    """The latencies and the share of broken requests that are promised of a recipe, in absolute numbers; none broken where nothing is
    said of it."""
    clauses = [clause for clause in scenario.clauses() if clause.recipe in (None, recipe) and clause.relation == "absolute"]
    latencies = [
        Promise(q, clause.limit) for clause in clauses if clause.bound == "at most" and (q := quantile_of(clause.metric)) is not None
    ]
    broken = min((clause.limit for clause in clauses if clause.metric == ERRORS), default=0.0)
    return (*latencies, Promise(None, broken))


@cache
def is_network_load(name: str, folder: Path) -> bool:
    """Whether a load drives a server; one of the user's own is read, not run."""
    if not name.endswith(".py"):
        return issubclass(plugins.load("loads", name), NetworkLoad)
    tree = ast.parse(plugins.find("loads", name, folder).read_bytes())
    return any(isinstance(node, ast.FunctionDef) and node.name == "drive" for node in ast.walk(tree))
