"""Runs code of the user's own: factories for models and data, found as ``file.py:callable`` beside a scenario."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import types
from collections.abc import Mapping
from pathlib import Path

from harness.core.errors import BadInput, CannotMeasure, Problem


def module_name(path: Path, root: Path) -> str:
    """The name that a file is imported under: its path inside the project, so that two files of one name do not meet."""
    relative = path.resolve().relative_to(root.resolve()).with_suffix("")
    return "harness_user_" + "_".join("".join(c if c.isalnum() else "_" for c in part) for part in relative.parts)


def import_file(path: Path, root: Path) -> types.ModuleType:
    """Import one file; its own imports find files beside it first, then the project's root, then installed packages."""
    name = module_name(path, root)
    if name in sys.modules:
        return sys.modules[name]
    for folder in (str(root.resolve()), str(path.resolve().parent)):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadInput(Problem("cannot be loaded as Python", path=path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        del sys.modules[name]
        hint = f"install it, or put it beside {path.name}"
        raise CannotMeasure(f"{path.name} imports '{error.name}', which is not installed", hint=hint) from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def call_factory(target: str, *, folder: Path, root: Path, args: Mapping[str, object]) -> object:
    """Call ``file.py:callable`` with keyword arguments and return what it gives; its exceptions pass through with their traceback.

    Raises BadInput when the file or callable is not there or does not take the arguments.
    """
    file, _, name = target.rpartition(":")
    path = (folder / file).resolve()
    if not path.is_file():
        raise BadInput(Problem(f"'{file}' does not exist", hint=f"looked for {path}"))
    factory = getattr(import_file(path, root), name, None)
    if not callable(factory):
        raise BadInput(Problem(f"{file} has no function '{name}'"))
    signature = inspect.signature(factory)
    try:
        signature.bind(**args)
    except TypeError as error:
        raise BadInput(Problem(f"{name}{signature} in {file} cannot be called with the scenario's args: {error}")) from error
    return factory(**args)
