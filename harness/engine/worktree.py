"""The project as an earlier commit had it, in git worktrees that are gone when the block is left."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from harness.core.errors import CannotMeasure
from harness.engine.read_environment import git

_WITHOUT_HOOKS = ("-c", f"core.hooksPath={os.devnull}")
"""They are for people who check out, and may fail in an old commit."""
_TURNING = "turning"


class Worktrees:
    """Checks commits out beside the project, each once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._paths: dict[str, Path] = {}

    def __enter__(self) -> Worktrees:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for path in self._paths.values():
            self._remove(path)

    def at(self, commit: str) -> Path:
        """The root of the project as ``commit`` had it. Raises CannotMeasure when the commit is not here."""
        if commit not in self._paths:
            self._add(commit, commit)
        return self._paths[commit]

    def turned_to(self, commit: str) -> Path:
        """One worktree that is turned from commit to commit, for reading: what it held before is gone. Git writes only what differs.

        Raises CannotMeasure as ``at`` does.
        """
        if _TURNING not in self._paths:
            self._add(_TURNING, commit)
        elif git(self._paths[_TURNING], *_WITHOUT_HOOKS, "checkout", "--quiet", "--detach", "--force", commit) is None:
            raise CannotMeasure(f"git cannot check out commit {commit[:12]}")
        return self._paths[_TURNING]

    def _add(self, name: str, commit: str) -> None:
        if commit.startswith("-") or git(self.root, "cat-file", "-e", f"{commit}^{{commit}}") is None:
            hint = "a shallow clone has no history: fetch it ('fetch-depth: 0' in a GitHub workflow)"
            raise CannotMeasure(f"commit {commit[:12]} is not in this clone", hint=hint)
        path = Path(tempfile.mkdtemp(prefix="harness-base-")).resolve() / "tree"
        self._paths[name] = path  # before git is asked: what Ctrl-C leaves half made is removed too
        if git(self.root, *_WITHOUT_HOOKS, "worktree", "add", "--detach", "--force", str(path), commit) is None:
            self._remove(self._paths.pop(name))
            raise CannotMeasure(f"git cannot check out commit {commit[:12]} into a worktree")

    def _remove(self, path: Path) -> None:
        git(self.root, "worktree", "remove", "--force", str(path))
        shutil.rmtree(path.parent, ignore_errors=True)
        git(self.root, "worktree", "prune")
