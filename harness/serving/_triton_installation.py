"""Where Triton is: a binary of its own, with backends beside it, or the one that the PyPI package nvidia-pytriton carries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import BadInput, CannotMeasure, Problem

INSTALL = (
    "install it in an environment of its own and name its interpreter: python3 -m venv triton && triton/bin/pip install "
    "nvidia-pytriton==0.7.0 onnxruntime 'numpy<2', then 'server: {triton: {python: triton/bin/python}}'; "
    "or put a tritonserver binary into PATH, or name it with 'binary:'"
)
_ASK = """
import importlib.metadata as m, json, sys, sysconfig
def version(name):
    try:
        return m.version(name)
    except m.PackageNotFoundError:
        return None
print(json.dumps({
    'minor': '%d.%d' % sys.version_info[:2],
    'library': sysconfig.get_config_var('LIBDIR') or '',
    'packages': list(dict.fromkeys((sysconfig.get_path('purelib'), sysconfig.get_path('platlib')))),
    'versions': {name: version(name) for name in ('nvidia-pytriton', 'onnxruntime', 'onnxruntime-gpu', 'numpy')},
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python as it tells of itself: ``minor`` ("3.11"), the folder of its shared library, its package folders, and versions."""

    path: Path
    minor: str
    library: str
    packages: tuple[str, ...]
    versions: Mapping[str, str | None]

    @property
    def onnxruntime(self) -> str | None:
        return self.versions.get("onnxruntime-gpu") or self.versions.get("onnxruntime")

    @property
    def bundle(self) -> Path | None:
        """The folder of the Triton that nvidia-pytriton carries; None without it."""
        if not self.versions.get("nvidia-pytriton"):
            return None
        folders = (Path(folder) / "pytriton" / "tritonserver" for folder in self.packages)
        return next((folder for folder in folders if (folder / "bin" / "tritonserver").is_file()), None)


@dataclass(frozen=True, slots=True)
class Installation:
    """A Triton that can be started: its binary, the folder of its backends, where its libraries are, and the Python of its models.

    ``bundled`` is the folder of nvidia-pytriton's Triton, whose Python backend is put together before it starts; None for another.
    """

    binary: Path
    backends: Path
    libraries: tuple[str, ...]
    interpreter: Interpreter
    bundled: Path | None

    def has(self, backend: str) -> bool:
        return (self.backends / backend).is_dir()

    def environment(self) -> dict[str, str]:
        """This process's, with the libraries of the server and of its models' Python."""
        folders = (*self.libraries, self.interpreter.library, os.environ.get("LD_LIBRARY_PATH", ""))
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(folder for folder in folders if folder)}


def find(binary: str | None, backends: str | None, python: str | None, here: Path, own_python: Path) -> Installation:
    """The Triton that the options name, else one in PATH, else the one beside ``own_python``.

    Relative paths start at ``here``. Raises BadInput for what is named and is not there, CannotMeasure with the install step where there
    is none.
    """
    interpreter = ask(_named(python, here, "python") if python else own_python)
    named = _named(binary, here, "binary") if binary else None
    if named is None and not interpreter.bundle and (in_path := shutil.which("tritonserver")):
        named = Path(in_path).resolve()
    if named is not None:
        folder = _named(backends, here, "backends") if backends else named.parent.parent / "backends"
        return Installation(named, folder, (str(named.parent.parent / "lib"),), interpreter, None)
    if interpreter.bundle is None:
        where = f"{interpreter.path} has no nvidia-pytriton" if python else "there is no tritonserver in PATH"
        raise CannotMeasure(f"Triton is not installed: {where}", hint=INSTALL)
    libraries = tuple(str(Path(folder) / "nvidia_pytriton.libs") for folder in interpreter.packages)
    return Installation(
        interpreter.bundle / "bin" / "tritonserver", interpreter.bundle / "backends", libraries, interpreter, interpreter.bundle
    )


def ask(python: Path) -> Interpreter:
    """What an interpreter tells of itself. Raises BadInput when it does not run."""
    try:
        done = subprocess.run([str(python), "-I", "-c", _ASK], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise BadInput(Problem(f"{python} cannot be run as Python: {error}", key="server.triton.python")) from error
    told = json.loads(done.stdout)
    return Interpreter(python, told["minor"], told["library"], tuple(told["packages"]), told["versions"])


def python_backend(installation: Installation, folder: Path) -> Path:
    """The backends' folder to start with: the bundled Python backend and the stub for the interpreter, put together under ``folder``.

    Raises CannotMeasure where the bundle has no stub for that Python, or its numpy is one that the stub reads wrongly.
    """
    bundled, interpreter = installation.bundled, installation.interpreter
    if bundled is None:
        return installation.backends
    stub = bundled / "python_backend_stubs" / interpreter.minor / "triton_python_backend_stub"
    if not stub.is_file():
        known = ", ".join(sorted(path.name for path in stub.parent.parent.iterdir()))
        raise CannotMeasure(f"nvidia-pytriton runs models in Python {known}; {interpreter.path} is {interpreter.minor}", hint=INSTALL)
    numpy = interpreter.versions.get("numpy") or ""
    if not numpy.startswith("1."):
        # Seen with numpy 2.4: inputs whose values are all the first one, and outputs of another size.
        raise CannotMeasure(
            f"numpy {numpy or '(none)'} in {interpreter.path}: nvidia-pytriton's Python backend gives wrong values with numpy 2",
            hint=f"install one that it can read there: {interpreter.path} -m pip install 'numpy<2'",
        )
    into = folder / "python"
    into.mkdir(parents=True)
    for file in (*(bundled / "backends" / "python").glob("*.*"), stub):
        if file.is_file():
            shutil.copy(file, into)
    return folder


def _named(written: str, here: Path, option: str) -> Path:
    path = here / Path(written).expanduser()
    if not path.exists():
        raise BadInput(Problem(f"'{written}' does not exist", key=f"server.triton.{option}", hint=f"looked for {path}"))
    return path
