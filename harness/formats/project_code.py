"""The project's own code that a saved model needs, copied beside it: the model opens in a fresh process when the files have changed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

from harness.formats.torch_module import CODE, NAMES, SavedCode


def copy_code(folder: Path, root: Path, homes: Collection[str]) -> None:
    """Copy the project's files that are imported now, and those that came with an artifact that is open; ``homes`` are modules of classes.

    The layout is the one that ``torch_module.restore_code`` reads. Without a home in the project nothing is written.
    """
    files: dict[str, tuple[Path, Path]] = {}
    for finder in sys.meta_path:
        if isinstance(finder, SavedCode) and set(homes).intersection(finder.names):
            files |= {name: (finder.folder / relative, Path(relative)) for name, relative in finder.names.items()}
    for name, imported in list(sys.modules.items()):
        if name not in files and (path := _project_file(name, imported, root.resolve())) is not None:
            files[name] = path, path.relative_to(root.resolve())
    needed = sorted(set(homes).intersection(files))
    if not needed:
        return
    into = folder / CODE
    for path, relative in files.values():
        (into / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, into / relative)
    names = {name: relative.as_posix() for name, (_, relative) in files.items()}
    (into / NAMES).write_text(json.dumps({"names": names, "needed": needed}, indent=1, sort_keys=True))


def needed_modules(folder: Path) -> tuple[str, ...]:
    """The modules of a saved model's own classes, by the names that they were imported under; none where it has no code."""
    names = folder / CODE / NAMES
    return tuple(json.loads(names.read_text())["needed"]) if names.is_file() else ()


def _project_file(name: str, module: object, root: Path) -> Path | None:
    """The file of an imported module where it belongs to the user's project."""
    file = getattr(module, "__file__", None)
    if name == "__main__" or name.split(".")[0] == "harness" or file is None or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    return path if path.is_file() and path.is_relative_to(root) and "site-packages" not in path.parts else None
