"""Whether a load over the network gets to the server of each launch, and whether a capacity can be looked for under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.errors import Problem
from harness.core.plugin import NetworkLoad, PlacesServer
from harness.engine.served import promises_of
from harness.kserve.endpoint_file import FORMAT as ENDPOINT

if TYPE_CHECKING:
    from harness.core.plugin import Options
    from harness.core.scenario import Scenario


def check_served(scenario: Scenario, load: Options | None) -> list[Problem]:
    """Problems of the load and ``measure.capacity``; ``load`` is None where it is wrong itself, or is the user's own and was not run."""
    if load is None or isinstance(load, NetworkLoad):
        return [*_reach(scenario, load), *_capacity(scenario)]
    if scenario.measure.capacity is None:
        return []
    hint = "write 'load: {locust: {rate: 100 /s, duration: 20 s}}'"
    return [Problem("only a load over the network has a capacity", key="measure.capacity", hint=hint)]


def _reach(scenario: Scenario, load: Options | None) -> list[Problem]:
    """A server that is started for the load listens on this machine alone, unless the load says where else."""
    if not isinstance(load, PlacesServer) or not load.comes_from_elsewhere or load.server_host is not None:
        return []
    if scenario.model.source.name == ENDPOINT:
        return []  # what runs already is where it is
    told = "the server of each launch listens on this machine alone, and machines that are to send cannot reach it"
    hint = "say where it listens, 'server_host: 10.0.0.5' with an address of this machine that they reach"
    return [Problem(told, key=f"measure.load.{scenario.measure.load.name}", hint=hint)]


def _capacity(scenario: Scenario) -> list[Problem]:
    """A capacity is the highest rate that keeps a promised latency: every recipe needs one."""
    if scenario.measure.capacity is None:
        return []
    try:
        without = [name for name in scenario.recipes if not any(promise.q is not None for promise in promises_of(scenario, name))]
    except ValueError:  # a clause that cannot be read is told where it stands
        return []
    if not without:
        return []
    told = f"a capacity is the highest rate that keeps a promised latency, and none is promised of '{without[0]}'"
    return [Problem(told, key="measure.capacity", hint="add 'sla: {latency_p99: at most 50 ms}'")]
