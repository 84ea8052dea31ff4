"""What ``--on`` names: an address, or a file that describes a fleet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import ValidationError

from harness.core.errors import BadInput, Problem
from harness.core.scenario import Model, PluginRef
from harness.engine.explain import explain
from harness.engine.plugin_options import plugin_of
from harness.engine.read_yaml import read_yaml

if TYPE_CHECKING:
    from harness.core.plugin import FleetSource


class FleetFile(Model):
    """A fleet, as ``--on FILE.yaml`` names it."""

    version: Literal[1]
    """The version of this language."""
    fleet: PluginRef
    """What runs the machines, with its options: ``ray: {hosts: [...]}``, or a file of your own, relative to this one."""


def read_fleet(on: str) -> FleetSource:
    """The fleet of a file (``*.yaml``), else the Ray cluster at that address. Raises BadInput with the line of what is wrong."""
    if not on.endswith((".yaml", ".yml")):
        return cast("FleetSource", plugin_of("fleets", PluginRef.model_validate({"ray": on}), Path()))
    path = Path(on)
    if not path.is_file():
        raise BadInput(Problem("does not exist", path=path, hint="--on takes the address of a Ray cluster, or a file (docs/fleet.md)"))
    document = read_yaml(path)
    try:
        file = FleetFile.model_validate(document.value)
    except ValidationError as error:
        raise BadInput(*explain(error, document, FleetFile, path=path)) from error
    try:
        return cast("FleetSource", plugin_of("fleets", file.fleet, path.parent))
    except BadInput as error:
        place = document.places.get("fleet")
        line = None if place is None else place.line
        raise BadInput(*(Problem(one.message, path, line, one.key or "fleet", one.hint) for one in error.problems)) from error
