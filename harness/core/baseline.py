"""What a candidate is compared with: one file for each trial, committed and reviewed.

Schema history of the file (``BASELINE_SCHEMA``):
  1  first version
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.artifact import AppliedStep
from harness.core.estimate import Absent, Estimate
from harness.core.measurement import SessionFacts
from harness.core.result import Content, Distribution, Packed
from harness.core.scenario import PluginRef

BASELINE_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Portable:
    """What is compared on any machine, and what it takes to build the artifact again.

    ``commit`` is the source commit, None outside version control or where the source differed from it. ``scenario_path`` is relative to
    the project. ``estimates`` are those of the artifact and of the evaluation set; ``scores`` are those of the gated metrics among
    the latter, sample by sample, and ``answers`` the class that each sample was given. ``server`` is what served it, None under a load
    inside the worker.
    """

    content: Content
    scenario_path: str
    scenario_text: str
    commit: str | None
    artifact_key: str
    evaluation_key: str
    runtime: PluginRef
    device: str
    steps: tuple[AppliedStep, ...]
    estimates: tuple[Estimate, ...]
    scores: Mapping[str, Packed]
    answers: Packed | None
    server: PluginRef | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured on one kind of machine. ``figures`` are each launch's, by metric; ``sessions`` the means of all sessions that
    were accepted for this content on this kind of machine, oldest first."""

    machine: str
    run: str
    measured_at: str
    facts: SessionFacts
    estimates: tuple[Estimate, ...]
    absent: tuple[Absent, ...]
    distribution: Distribution
    figures: Mapping[str, tuple[float, ...]]
    sessions: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The accepted numbers of one trial; ``measured`` by environment key."""

    schema: int
    trial: str
    program_version: str
    accepted_at: str
    portable: Portable
    measured: Mapping[str, Measured]
