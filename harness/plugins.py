"""Finds plugins by file name and loads one file at a time.

A family is a folder of this package; a plugin is a file in it that ends in ``PLUGIN = ClassName``. Users add their own by path. Listing
reads names and help from the syntax tree and imports nothing.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.core.errors import BadInput, MissingPackage, Problem

if TYPE_CHECKING:
    from harness.core.plugin import Options

Family = Literal["sources", "passes", "runtimes", "loads", "metrics", "reports", "serving", "fleets"]
PACKAGE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A plugin as its file tells it: name, first line of help, file."""

    name: str
    help: str
    path: Path


def names(family: Family) -> tuple[str, ...]:
    """The built-in plugins of a family, sorted."""
    return tuple(sorted(path.stem for path in (PACKAGE / family).glob("*.py") if not path.stem.startswith("_")))


def find(family: Family, name: str, folder: Path | None = None) -> Path:
    """The file of a plugin: a built-in by name, or the user's own by a path relative to ``folder``.

    Raises BadInput with the nearest known name.
    """
    kind = _singular(family)
    if name.endswith(".py"):
        path = ((folder or Path()) / name).resolve()
        if not path.is_file():
            raise BadInput(Problem(f"{kind} file '{name}' does not exist", hint=f"looked for {path}"))
        return path
    if name not in names(family):
        near = difflib.get_close_matches(name, names(family), n=1)
        hint = f"'harness list {family}' shows all {len(names(family))}"
        raise BadInput(Problem(f"unknown {kind} '{name}'", hint=f"did you mean '{near[0]}'? {hint}" if near else hint))
    return PACKAGE / family / f"{name}.py"


def describe(path: Path) -> PluginInfo:
    """Name and help of a plugin file, from its syntax tree: nothing is imported.

    Raises BadInput when the file has no ``PLUGIN = ClassName``.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except SyntaxError as error:
        raise BadInput(Problem(f"not valid Python: {error.msg}", path=path, line=error.lineno)) from error
    except ValueError as error:
        raise BadInput(Problem(f"not valid Python: {error}", path=path)) from error
    except (RecursionError, MemoryError) as error:
        raise BadInput(Problem("is nested too deeply to be looked at", path=path)) from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in reversed(tree.body):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id in classes:
            if any(isinstance(target, ast.Name) and target.id == "PLUGIN" for target in node.targets):
                text = ast.get_docstring(classes[node.value.id]) or ""
                return PluginInfo(path.stem, text.split("\n")[0], path)
    raise BadInput(Problem("a plugin file ends with 'PLUGIN = ClassName', naming a class in it", path=path))


def load(family: Family, name: str, folder: Path | None = None) -> type[Options]:
    """The class of a plugin; imports its one file. A user's own file runs its code: never call this for a scenario that is not trusted."""
    from harness.core.plugin import Options

    path = find(family, name, folder)
    describe(path)
    if not name.endswith(".py"):
        module = importlib.import_module(f"harness.{family}.{name}")
    else:
        key = f"harness_plugin_{digest(path)[:16]}"
        if key not in sys.modules:
            spec = importlib.util.spec_from_file_location(key, path)
            if spec is None or spec.loader is None:
                raise BadInput(Problem("cannot be loaded as Python", path=path))
            module = importlib.util.module_from_spec(spec)
            sys.modules[key] = module
            try:
                spec.loader.exec_module(module)
            except Exception as error:
                del sys.modules[key]
                raise BadInput(Problem(f"the plugin could not be imported: {type(error).__name__}: {error}", path=path)) from error
        module = sys.modules[key]
    plugin: type[Options] = module.PLUGIN
    if not issubclass(plugin, Options):
        raise BadInput(Problem(f"'{plugin.__name__}' is no plugin: derive it from harness.core.plugin.Options", path=path))
    return plugin


def digest(path: Path) -> str:
    """SHA-256 of a plugin's file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require(package: str, *, plugin: str, extra: str) -> None:
    """Raise MissingPackage with the install line unless ``package`` can be imported."""
    if importlib.util.find_spec(package) is None:
        raise MissingPackage(package, extra=extra, needed_by=f"'{plugin}'")


def _singular(family: Family) -> str:
    return {"passes": "pass", "serving": "server"}.get(family, family.removesuffix("s"))
