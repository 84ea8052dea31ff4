"""What the commit that was found changed: files of the model's content, steps, versions, the session, and operators. Nothing is judged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.bisection import ChangedFiles, Commit
from harness.core.errors import BadInput, CannotMeasure
from harness.core.profile import operator_table, told_of
from harness.engine.profile_arms import profile_arms
from harness.engine.read_environment import git
from harness.engine.routes import version_changes

if TYPE_CHECKING:
    from harness.core.artifact import AppliedStep
    from harness.core.measurement import SessionFacts
    from harness.core.plan import Trial
    from harness.core.scenario import PluginRef
    from harness.engine.bisecting.build_commits import Built
    from harness.engine.bisecting.read_commits import Reader
    from harness.engine.procedure import Procedure

MOST_FILES = 200
"""Of a larger change the content's files are not looked for: each is read once more."""
MOST_OPERATORS = 5


def changed_files(reader: Reader, parent: Commit, commit: Commit, content: str, trial: Trial) -> ChangedFiles:
    """The commit's files that matter: with the parent's text of one of them the content would be another."""
    told = git(reader.worktrees.root, "diff", "--name-only", "--no-renames", "-z", parent.hash, commit.hash)
    names = [name for name in (told or "").split("\0") if name]
    if len(names) > MOST_FILES:
        return ChangedFiles((), len(names))
    inside = tuple(name for name in names if reader.digest_with(commit.hash, parent.hash, name, trial) != content)
    return ChangedFiles(inside, len(names) - len(inside))


def differences(before: Built, after: Built, facts: Sequence[SessionFacts]) -> tuple[str, ...]:
    """Steps, runtime, size, what the sessions tell, versions, and the names of the parts whose content differs, each in a line."""
    found = list(_steps(before.subject.artifact.steps, after.subject.artifact.steps))
    if before.subject.runtime != after.subject.runtime:
        found.append(f"runtime: {_told(before.subject.runtime)} -> {_told(after.subject.runtime)}")
    if before.subject.artifact.size_bytes != after.subject.artifact.size_bytes:
        found.append(f"model size: {before.subject.artifact.size_bytes:,} -> {after.subject.artifact.size_bytes:,} bytes")
    if len(facts) == 2:
        old_facts, new_facts = facts
        pairs = (
            ("precision", old_facts.precision, new_facts.precision),
            ("session", ", ".join(old_facts.details), ", ".join(new_facts.details)),
        )
        found += [f"{name}: {old} -> {new}" for name, old, new in pairs if old != new]
    found += version_changes(before.derivation.content.toolchain, after.derivation.content.toolchain)
    parts = [built.derivation.parts for built in (before, after)]
    return (*found, *(f"other content: {name}" for name in {**parts[0], **parts[1]} if parts[0].get(name) != parts[1].get(name)))


def operators(before: Built, after: Built, procedure: Procedure, folder: Path) -> tuple[tuple[str, ...], str | None]:
    """The operators that add most to a query, dearest first, by type and by name; or none, and why."""
    try:
        profiles = profile_arms({"baseline": before.subject, "candidate": after.subject}, procedure, folder)
    except (BadInput, CannotMeasure) as error:
        return (), f"no operator table: {str(error).splitlines()[0]}"
    if not profiles:
        return (), f"no operator table: runtime '{after.subject.runtime.name}' has no profiler here"
    table = operator_table(profiles["baseline"], profiles["candidate"])
    return tuple(
        told_of(change) for part in (table.kinds, table.operators) for change in part[:MOST_OPERATORS] if change.added_ns > 0
    ), None


def _steps(before: Sequence[AppliedStep], after: Sequence[AppliedStep]) -> Iterable[str]:
    """Steps that only one of them has; of the same steps in the same places the options and the notes that differ."""
    if [step.plugin for step in before] != [step.plugin for step in after]:
        yield f"steps: {', '.join(step.plugin for step in before)} -> {', '.join(step.plugin for step in after)}"
        return
    for old, new in zip(before, after, strict=True):
        options = [json.loads(step.options) for step in (old, new)]
        for key in sorted({*options[0], *options[1]}):
            values = [json.dumps(one[key], ensure_ascii=False) if key in one else "none" for one in options]
            if values[0] != values[1]:
                yield f"{new.plugin} {key}: {values[0]} -> {values[1]}"
        if old.notes != new.notes:
            yield f"{new.plugin}: {'; '.join(old.notes)} -> {'; '.join(new.notes)}"


def _told(ref: PluginRef) -> str:
    return f"{ref.name} {ref.options}" if ref.options else ref.name
