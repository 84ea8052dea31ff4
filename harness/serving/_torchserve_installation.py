"""Where TorchServe and its Java are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import BadInput, CannotMeasure, Problem

LEAST_JAVA = 17
INSTALL = (
    "install it in an environment of its own and name its interpreter: python3 -m venv ts && ts/bin/pip install torchserve pyyaml "
    "torch onnxruntime, then 'server: {torchserve: {python: ts/bin/python}}'"
)
_ASK = """
import importlib.util as u, importlib.metadata as m, json
def version(name):
    try:
        return m.version(name)
    except m.PackageNotFoundError:
        return None
found = u.find_spec('ts')
print(json.dumps({'home': found and found.submodule_search_locations[0],
    'versions': {name: version(name) for name in ('torchserve', 'torch', 'onnxruntime')}}))
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """Where TorchServe is, its version, and what opens the model with its version."""

    home: str
    version: str
    library: str


def installed(python: Path, kind: str) -> Installed:
    """The TorchServe of an interpreter. Raises CannotMeasure with the install step where it, or what opens the model, is missing."""
    try:
        done = subprocess.run([str(python), "-I", "-c", _ASK], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise BadInput(Problem(f"{python} cannot be run as Python: {error}", key="server.torchserve.python")) from error
    told = json.loads(done.stdout)
    versions, package = told["versions"], "onnxruntime" if kind == "onnx" else "torch"
    if not versions["torchserve"] or not told["home"]:
        raise CannotMeasure(f"TorchServe is not installed: {python} has no torchserve", hint=INSTALL)
    if not versions[package]:
        raise CannotMeasure(f"TorchServe's interpreter {python} has no {package}", hint=f"{python} -m pip install {package}")
    return Installed(str(Path(told["home"]).parent), versions["torchserve"], f"{package} {versions[package]}")


def java() -> str:
    """A Java that is new enough. Raises CannotMeasure with the install step."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(f"{home}/bin/java" if home else "java")
    hint = "install it: apt-get install openjdk-17-jre-headless"
    if found is None:
        raise CannotMeasure(f"TorchServe needs Java {LEAST_JAVA}, and there is none in {'JAVA_HOME' if home else 'PATH'}", hint=hint)
    told = subprocess.run([found, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version[1]) < LEAST_JAVA:
        raise CannotMeasure(f"TorchServe needs Java {LEAST_JAVA}; {found} says {told.splitlines()[0] if told else 'nothing'}", hint=hint)
    return found
