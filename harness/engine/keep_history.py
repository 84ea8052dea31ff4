"""Appends a finished run to the history, and brings what the history tells of its trials. It changes no verdict."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness import plugins
from harness.core.errors import HarnessError
from harness.engine.evaluate import metric_of
from harness.engine.read_environment import git
from harness.store.history import History, history_here

if TYPE_CHECKING:
    from harness.core.audit import Audit
    from harness.core.result import RunResult
    from harness.core.trend import Trend

BRANCHES = ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME")
"""Where CI systems tell the branch; the first that is not empty holds. A pull request's own branch comes before its merge ref."""
LEAST_POINTS = 3
"""Two points show no trend."""
DEFAULT_TOLERANCE = 0.02


def keep_history(result: RunResult, root: Path) -> RunResult:
    """The result with the trends of its own trials, on its own kinds of machine; what is neither gated nor changed is left out.

    A history that cannot be kept or read costs a note, never the run.
    """
    try:
        history = history_here()
        if history is None:
            return result
        project = project_of(root)
        history.append(result, project, ref_of(os.environ, git(root, "rev-parse", "--abbrev-ref", "HEAD")))
        trends = _own_trends(result, history, project)
    except HarnessError as error:
        told = " ".join(str(error).split())
        return dataclasses.replace(result, notes=(*result.notes, f"the history was left out: {told}"))
    return dataclasses.replace(result, trends=trends)


def keep_release(audit: Audit) -> str | None:
    """Tell the history which release a run was audited for, with its promises as the audit found them.

    What could not be kept, in one line; None where it was kept or the history is switched off.
    """
    try:
        history = history_here()
        if history is not None:
            history.name_release(audit, _direction)
    except HarnessError as error:
        return f"the history was left out: {' '.join(str(error).split())}"
    return None


def _direction(metric: str) -> str | None:
    return metric_of(metric).better if metric in plugins.names("metrics") else None


def project_of(root: Path) -> str:
    """What sessions of this project are kept under, on every machine: its remote ``origin``, else its folder's name."""
    return project_name(git(root, "config", "--get", "remote.origin.url"), root)


def project_name(remote: str | None, root: Path) -> str:
    """``github.com/owner/name`` for each way to write that remote: without scheme, user, password, port and ``.git``."""
    if not remote:
        return root.resolve().name
    if re.match(r"[A-Za-z][\w+.-]*://", remote):
        parts = urlsplit(remote)
        name = f"{parts.hostname or ''}{parts.path}"
    else:
        # git's short form, [user@]host:path; what has a slash before its first colon is a folder
        short = re.match(r"(?:[^/@:]+@)?([^/:@]+):(.+)", remote)
        name = f"{short[1].lower()}/{short[2].lstrip('/')}" if short else remote
    return name.rstrip("/").removesuffix(".git")


def ref_of(environment: Mapping[str, str], branch: str | None) -> str | None:
    """The branch that a session belongs to: what CI tells, else git's answer; None on a detached commit that nobody names."""
    told = next((environment[name] for name in BRANCHES if environment.get(name)), None)
    return told or (branch if branch != "HEAD" else None) or None


def default_tolerance(metric: str) -> float:
    """What a metric tolerates unless a scenario says otherwise, on its scale; 2 % where it says nothing."""
    told = metric_of(metric).tolerance if metric in plugins.names("metrics") else None
    return DEFAULT_TOLERANCE if told is None else told


def _own_trends(result: RunResult, history: History, project: str) -> tuple[Trend, ...]:
    gated = {(comparison.trial, comparison.metric): comparison.tolerance for comparison in result.comparisons}
    own = {trial.id: trial.environment_key for trial in result.trials if trial.environment_key is not None}

    def tolerance(trial: str, metric: str) -> float:
        return gated[trial, metric] if (trial, metric) in gated else default_tolerance(metric)

    trends = history.trends(project, trials=tuple(own), environment_keys=set(own.values()), tolerance=tolerance)
    return tuple(
        trend
        for trend in trends
        if own[trend.trial] == trend.environment_key
        and len(trend.points) >= LEAST_POINTS
        and (trend.changes or (trend.trial, trend.metric) in gated or _is_gated(trend.metric))
    )


def _is_gated(metric: str) -> bool:
    return metric in plugins.names("metrics") and metric_of(metric).tolerance is not None
