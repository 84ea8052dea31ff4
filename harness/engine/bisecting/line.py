"""The commits between two of them, along first parents: a merge counts as the one commit that it is on its branch."""

from __future__ import annotations

from pathlib import Path

from harness.core.bisection import SHORT, Commit
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.engine.read_environment import git

_FIELDS = "%H%x1f%P%x1f%an%x1f%as%x1f%s"


def commit_named(root: Path, name: str, option: str) -> str:
    """The commit of a ref. Raises BadInput, naming the option, where there is none."""
    found = git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if not found:
        hint = "a shallow clone has no history: fetch it ('git fetch --unshallow', 'fetch-depth: 0' in a GitHub workflow)"
        raise BadInput(Problem(f"{option} {name}: there is no such commit in {root}", hint=hint))
    return found


def line_between(root: Path, good: str, bad: str) -> tuple[Commit, ...]:
    """``good`` and everything after it up to ``bad``, oldest first.

    Raises BadInput where ``bad`` does not come after ``good`` along first parents, and says which commit to name instead.
    """
    if good == bad:
        raise BadInput(Problem(f"--good and --bad are the same commit ({good[:SHORT]})", hint="there is nothing to look for"))
    if git(root, "merge-base", "--is-ancestor", good, bad) is None:
        base = git(root, "merge-base", good, bad)
        hint = f"name the commit that both come from: --good {base[:SHORT]}" if base else "they have no commit in common in this clone"
        raise BadInput(Problem(f"--good {good[:SHORT]} does not come before --bad {bad[:SHORT]}", hint=hint))
    told = git(root, "log", "--first-parent", "--reverse", f"--format={_FIELDS}", f"{good}..{bad}")
    if not told:
        raise CannotMeasure(f"git cannot list the commits from {good[:SHORT]} to {bad[:SHORT]}")
    after = [_commit(line) for line in told.split("\n")]
    if not after[0].parents or after[0].parents[0] != good:
        merge = next(commit for commit in after if git(root, "merge-base", "--is-ancestor", good, commit.hash) is not None)
        message = f"--good {good[:SHORT]} is not on the first-parent line of --bad {bad[:SHORT]}: it came in by the merge {merge.short}"
        raise BadInput(Problem(message, hint=f"name the commit before that merge: --good {merge.parents[0][:SHORT]}"))
    return (_commit(git(root, "log", "-1", f"--format={_FIELDS}", good) or ""), *after)


def inside_of_merge(root: Path, merge: Commit) -> tuple[str, str]:
    """(good, bad) with which the commits that a merge brought in are searched."""
    own, brought = merge.parents[:2]
    base = git(root, "merge-base", own, brought)
    return (base or own)[:SHORT], brought[:SHORT]


def _commit(line: str) -> Commit:
    commit, parents, author, date, subject = (*line.split("\x1f"), "", "", "", "")[:5]
    return Commit(commit, tuple(parents.split()), author, date, subject)
