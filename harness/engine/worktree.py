"""The project as an earlier commit had it, in git worktrees that are gone when the block is left."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from harness.core.errors import CannotMeasure
from harness.engine.read_environment import git


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
            if git(self.root, "cat-file", "-e", f"{commit}^{{commit}}") is None:
                hint = "a shallow clone has no history: fetch it ('fetch-depth: 0' in a GitHub workflow)"
                raise CannotMeasure(f"commit {commit[:12]} is not in this clone", hint=hint)
            path = Path(tempfile.mkdtemp(prefix="harness-base-")).resolve() / "tree"
            without_hooks = ("-c", f"core.hooksPath={os.devnull}")  # they are for people who check out, and may fail in an old commit
            if git(self.root, *without_hooks, "worktree", "add", "--detach", "--force", str(path), commit) is None:
                self._remove(path)
                raise CannotMeasure(f"git cannot check out commit {commit[:12]} into a worktree")
            self._paths[commit] = path
        return self._paths[commit]

    def _remove(self, path: Path) -> None:
        git(self.root, "worktree", "remove", "--force", str(path))
        shutil.rmtree(path.parent, ignore_errors=True)
        git(self.root, "worktree", "prune")
