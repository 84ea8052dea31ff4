"""Which commit the user's own callables are compared with, and how a process comes to import the code of that commit."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.engine.against import Ref, resolve
from harness.engine.read_environment import git, read_commit
from harness.engine.serve_callable import is_of_project, project_modules

DEFAULT_BRANCHES = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
"""Asked for in this order; a clone that was made from a server knows the first."""


@dataclass(frozen=True, slots=True)
class Base:
    """What callables are compared with: a commit, or nothing and ``why``. ``unchanged``: the work tree holds just what the commit does."""

    ref: Ref | None
    why: str = ""
    unchanged: bool = False


def choose_base(root: Path, against: str | None) -> Base:
    """The commit that was asked for; else the one where the present branch left the default branch; else HEAD, where something was changed
    since.

    Raises BadInput where ``against`` names no commit.
    """
    commit, dirty = read_commit(root)
    if against is not None:
        ref = resolve(root, against)
        return Base(ref, unchanged=commit == ref.commit and dirty is False)
    if commit is None:
        return Base(None, f"{root} is under no version control, or has no commit yet")
    branch = next((name for name in DEFAULT_BRANCHES if git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")), None)
    if branch is not None:
        left = git(root, "merge-base", "HEAD", branch)
        if left is None:
            return Base(None, f"HEAD and {branch} have no common commit in this clone ('fetch-depth: 0' in a GitHub workflow brings it)")
        if left != commit:
            return Base(Ref(branch, left))
    if dirty:
        return Base(Ref("HEAD", commit))
    if branch is not None:
        return Base(Ref("HEAD", commit), unchanged=True)
    return Base(None, f"there is no default branch ({', '.join(DEFAULT_BRANCHES)}) to compare with")


def import_roots(project: Path) -> list[Path]:
    """The folders of the project that its code was imported from in this process: those of ``sys.path`` first, then those that only the
    modules tell of (an editable install may have a finder of its own)."""
    roots = [path for entry in sys.path if (path := Path(entry).resolve()) and is_of_project(path, project)]
    for name, file in project_modules(project):
        parts = name.split(".")
        place = file.parent if file.stem == "__init__" else file.with_suffix("")
        if list(place.parts[-len(parts) :]) == parts:
            roots.append(place.parents[len(parts) - 1])
    return list(dict.fromkeys(roots))


def elsewhere(path: Path, project: Path, tree: Path) -> Path:
    """Where a file or folder of the project lies in another work tree of it; a path outside the project stays what it is."""
    return tree / path.relative_to(project) if path.is_relative_to(project) else path


def python_path(roots: Sequence[Path], project: Path, tree: Path, present: str) -> str:
    """PYTHONPATH for a process that imports from ``tree`` what this one imports from the project; ``present`` is this one's.

    It goes before what is installed, so that an editable install of the project does not give the work tree's code to both sides.
    """
    others = [entry for entry in present.split(os.pathsep) if entry and not is_of_project(Path(entry), project)]
    return os.pathsep.join([*(str(elsewhere(root, project, tree)) for root in roots), *others])
