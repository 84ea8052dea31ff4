"""The matrix of a scenario's trials, and which of them this machine can run."""

from __future__ import annotations

import difflib
import fnmatch
import os
from collections.abc import Mapping, Sequence

from harness.core.environment import Environment
from harness.core.errors import BadInput, Problem
from harness.core.fleet import labels_told
from harness.core.plan import Plan, SkippedTrial, Trial
from harness.core.scenario import HardwareTarget, ScenarioFile
from harness.core.units import Unit, format_value
from harness.engine.bounds import check_remote_code

NO_LABELS: Mapping[str, str] = {}


def make_plan(
    files: Sequence[ScenarioFile], environment: Environment, *, only: Sequence[str] = (), labels: Mapping[str, str] | None = None
) -> Plan:
    """Every cell recipe x hardware x batch size, in the order written; ``only`` are glob patterns on trial ids.

    A cell whose target is not this machine is skipped by name; ``labels`` are what this machine has as a node of a fleet. Raises BadInput
    when a pattern matches nothing, and where a scenario asks for what the user does not allow.
    """
    check_remote_code(files)
    trials: list[Trial] = []
    skipped: list[SkippedTrial] = []
    for file in files:
        for recipe in file.scenario.recipes.values():
            for target in file.targets:
                reason = mismatch(target, environment, labels or {})
                for size in file.scenario.measure.batch_sizes:
                    trial = Trial(file, recipe, target, size)
                    if reason is None:
                        trials.append(trial)
                    else:
                        skipped.append(SkippedTrial(trial, reason))
    every = [trial.id for trial in trials] + [item.trial.id for item in skipped]
    for pattern in only:
        if not fnmatch.filter(every, pattern) and not fnmatch.filter(every, f"*{pattern}*"):
            near = difflib.get_close_matches(pattern, every, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"trials are {', '.join(every[:8])}"
            raise BadInput(Problem(f"no trial matches '{pattern}'", hint=hint))

    def fits(identity: str, pattern: str) -> bool:
        if pattern in every:  # a trial that is named whole is itself alone: not b16 for b1
            return identity == pattern
        return fnmatch.fnmatch(identity, pattern) or fnmatch.fnmatch(identity, f"*{pattern}*")

    def chosen(identity: str) -> bool:
        return not only or any(fits(identity, pattern) for pattern in only)

    return Plan(
        tuple(trial for trial in trials if chosen(trial.id)),
        tuple(item for item in skipped if chosen(item.trial.id)),
        files[0].scenario.seed,
    )


def mismatch(target: HardwareTarget, environment: Environment, labels: Mapping[str, str] = NO_LABELS) -> str | None:
    """Why this machine is not the target, in words; None when it is."""
    if any(labels.get(name) != value for name, value in target.labels.items()):
        return f"is for a machine labelled {labels_told(target.labels)}: 'harness run --on FLEET' measures it there"
    wanted = target.requires
    gpus = [gpu.name for gpu in environment.gpus]
    if target.device != "cpu" and not gpus:
        return f"needs a CUDA device ('{target.device}'): this machine has none"
    index = int(target.device.partition(":")[2] or 0)
    if target.device != "cpu" and index >= len(gpus):
        return f"needs '{target.device}': this machine has {len(gpus)} GPU"
    if wanted.cpu_model is not None and wanted.cpu_model.lower() not in environment.cpu_model.lower():
        return f"needs a CPU '{wanted.cpu_model}': this machine has {environment.cpu_model}"
    if wanted.gpu is not None and not any(wanted.gpu.lower() in name.lower() for name in gpus):
        return f"needs a GPU '{wanted.gpu}': this machine has {', '.join(gpus) or 'none'}"
    cores = max(wanted.cores or 0, target.cores or 0)
    if cores > environment.cpu_count:
        return f"needs {cores} cores: this machine has {environment.cpu_count}"
    pinned = cores_of(target)
    if target.cores is not None and pinned and len(pinned) < target.cores:
        return f"needs {target.cores} cores: this process may use {len(pinned)} of the machine's {environment.cpu_count}"
    if wanted.memory is not None and environment.memory_bytes < wanted.memory:
        needs, has = (format_value(value, Unit.BYTES) for value in (wanted.memory, environment.memory_bytes))
        return f"needs {needs} of memory: this machine has {has}"
    return None


def cores_of(target: HardwareTarget) -> tuple[int, ...]:
    """The cores that a trial's workers are pinned to: the first that this process may use; empty where pinning does not exist."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    usable = sorted(os.sched_getaffinity(0))
    return tuple(usable[: target.cores or len(usable)])


def threads_of(target: HardwareTarget) -> int:
    """What runtimes are told to use: the target's number, else as many as cores."""
    return target.threads or len(cores_of(target)) or target.cores or os.cpu_count() or 1
