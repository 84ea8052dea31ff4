"""Which Python packages take part, and in which version: they decide what a build gives and how fast it runs."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.core.errors import BadInput, Problem

_ASK = """
import importlib.metadata as m, json, platform
try:
    import harness.engine.worker
    harness = m.version('harness')
except ImportError:
    harness = None
print(json.dumps({'python': platform.python_version(), 'harness': harness,
    'versions': {d.metadata['Name']: d.version for d in reversed(list(m.distributions())) if d.metadata['Name']},
    'providers': {name: list(d) for name, d in m.packages_distributions().items()}}))
"""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """An interpreter's packages: versions by distribution (names normalised), and the distributions that provide an import name."""

    python: str
    versions: Mapping[str, str]
    providers: Mapping[str, tuple[str, ...]]

    def of_packages(self, names: tuple[str, ...]) -> dict[str, str]:
        """Versions of the distributions named, those that are not installed left out."""
        found = {_normal(name): self.versions.get(_normal(name)) for name in names}
        return {name: version for name, version in found.items() if version is not None}

    def of_imports(self, names: frozenset[str]) -> dict[str, str]:
        """Versions of the distributions that provide these import names."""
        owners = {owner for name in names for owner in self.providers.get(name, ())}
        return self.of_packages(tuple(sorted(owners)))


@cache
def installed() -> Toolchain:
    """The packages of the interpreter that runs this."""
    import importlib.metadata

    # Of two versions on the path the first is imported: reversed, it is the one that stays.
    found = reversed(list(importlib.metadata.distributions()))
    versions = {item.metadata["Name"]: item.version for item in found if item.metadata["Name"]}
    return _toolchain(platform.python_version(), versions, importlib.metadata.packages_distributions())


def installed_in(python: Path) -> Toolchain:
    """The packages of another interpreter, asked by running it.

    Raises BadInput when it does not run, or has no harness to be a worker with.
    """
    try:
        done = subprocess.run([str(python), "-P", "-c", _ASK], capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(Problem(f"{python} cannot be run as Python: {error}")) from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BadInput(Problem(f"{python} is not a usable Python: {last}"))
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        raise BadInput(Problem(f"{python} is not a usable Python: it does not answer as one")) from error
    if answer["harness"] is None:
        raise BadInput(Problem(f"{python} has no harness installed", hint="install it there from where you installed it here"))
    return _toolchain(answer["python"], answer["versions"], {name: tuple(owners) for name, owners in answer["providers"].items()})


def _toolchain(python: str, versions: Mapping[str, str], providers: Mapping[str, list[str] | tuple[str, ...]]) -> Toolchain:
    minor = ".".join(python.split(".")[:2])
    return Toolchain(
        minor,
        {_normal(name): version for name, version in versions.items()},
        {name: tuple(sorted({_normal(owner) for owner in owners})) for name, owners in providers.items()},
    )


def _normal(name: str) -> str:
    """A distribution's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
