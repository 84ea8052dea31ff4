"""Where two arms of saved runs were measured and what went into them: everything that is not the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.engine.diffing.report import Difference

if TYPE_CHECKING:
    from harness.core.environment import Environment
    from harness.core.result import RunResult, TrialRecord

MACHINE = ("cpu", "cpu_count", "memory", "os", "gpus")
"""What must be equal before timings are compared, as in the environment key; the rest of the key is the trial's."""


def differences_of(
    baseline: Sequence[RunResult], candidate: Sequence[RunResult], trials: Sequence[tuple[TrialRecord, TrialRecord]]
) -> Iterable[Difference]:
    """The machine first, then versions and settings, then every trial's own."""
    elsewhere = False
    for name in MACHINE:
        arms = [{_machine(result.environment)[name] for result in results} for results in (baseline, candidate)]
        if arms[0] != arms[1] or len(arms[0]) > 1:
            elsewhere = True
            yield Difference(name, ", ".join(sorted(arms[0])), ", ".join(sorted(arms[1])), machine=True)
    first, second = _software(baseline[-1].environment), _software(candidate[-1].environment)
    yield from _told(first, second, "")
    for before, after in trials:
        for name in machine_of_trial(before, after, explained=elsewhere):
            yield Difference(f"{name} of {before.id}", _trial_machine(before)[name], _trial_machine(after)[name], machine=True)
        yield from _told(_content(before), _content(after), f" of {before.id}")


def machine_of_trial(before: TrialRecord, after: TrialRecord, *, explained: bool) -> list[str]:
    """What of the trial's own use of the machine is not the same: its device, threads, or the cores that its key is over.

    The key is a digest: where nothing else that goes into it differs (``explained``: the machine does), it must be the cores.
    """
    first, second = _trial_machine(before), _trial_machine(after)
    names = [name for name in first if first[name] != second[name] and name != "environment key"]
    packages = [record.content.toolchain if record.content else {} for record in (before, after)]
    if not (names or explained) and packages[0] == packages[1] and first["environment key"] != second["environment key"]:
        return ["environment key"]
    return names


def _machine(environment: Environment) -> dict[str, str]:
    return {
        "cpu": environment.cpu_model,
        "cpu_count": str(environment.cpu_count),
        "memory": f"{round(environment.memory_bytes / 2**30)} GiB",
        "os": environment.os,
        "gpus": ", ".join(f"{gpu.name} (driver {gpu.driver})" for gpu in environment.gpus) or "none",
    }


def _software(environment: Environment) -> dict[str, str]:
    plain = {"python": environment.python, "kernel": environment.kernel, "governor": environment.governor or "not told"}
    return {**plain, **environment.packages, **environment.variables}


def _trial_machine(record: TrialRecord) -> dict[str, str]:
    threads = str(record.facts.threads) if record.facts else "not told"
    return {"device": record.device, "threads": threads, "environment key": record.environment_key or "not told"}


def _content(record: TrialRecord) -> dict[str, str]:
    """What went in, in words where the record has them; the digest tells the rest."""
    facts = record.facts
    return {
        "content": record.content.digest[:12] if record.content else "not told",
        "passes": ", ".join(f"{step.plugin} {step.options}" if step.options not in ("", "{}") else step.plugin for step in record.steps)
        or "none",
        "runtime": record.runtime,
        "load": record.load,
        "precision": facts.precision if facts else "not told",
    }


def _told(first: Mapping[str, str], second: Mapping[str, str], suffix: str) -> Iterable[Difference]:
    for name in dict.fromkeys([*first, *second]):
        before, after = first.get(name, "none"), second.get(name, "none")
        if before != after:
            yield Difference(f"{name}{suffix}", before, after, machine=False)
