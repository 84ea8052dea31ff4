"""``harness profile``: artifacts built as for a run, each opened under its runtime's profiler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import CannotMeasure
from harness.core.profile import Profile
from harness.engine import toolchain
from harness.engine.build import Builder
from harness.engine.content import derive
from harness.engine.launcher import Launcher
from harness.engine.make_plan import make_plan
from harness.engine.procedure import Procedure
from harness.engine.profile_arms import LEAST_NS, profile_arms
from harness.engine.read_environment import read_environment
from harness.engine.read_scenario import read_scenarios
from harness.store.cache import Cache, cache_folder, cache_limit

if TYPE_CHECKING:
    from harness.core.progress import Progress
    from harness.engine.profile_nsight import Nsight


@dataclass(frozen=True, slots=True)
class Profiled:
    """One trial's profile and the trace that its profiler left; ``nsight`` is the report of Nsight Systems, where it was asked for."""

    trial: str
    profile: Profile
    trace: Path
    nsight: Path | None = None


def profile_trials(
    paths: Sequence[Path],
    overrides: Sequence[str],
    only: Sequence[str],
    folder: Path,
    progress: Progress,
    *,
    least_ns: int = LEAST_NS,
    nsight: Nsight | None = None,
) -> Iterator[Profiled]:
    """Every trial's profile, as soon as it is taken; traces go into ``folder``. ``nsight`` records each once more, in a worker of its own.

    Raises CannotMeasure, naming the trial, where a runtime has no profiler or a worker does not answer.
    """
    files = read_scenarios(paths, overrides=overrides)
    plan = make_plan(files, read_environment(files[0].root), only=only)
    packages = toolchain.installed()
    logs = folder / "logs"
    with Cache(cache_folder(), cache_limit()) as cache:
        builder = Builder(cache, logs, progress)
        progress.phase("Profiling", len(plan.trials))
        for trial in plan.trials:
            derivation = derive(trial, packages)
            subject = builder.subject(trial, derivation, builder.artifact(trial, derivation))
            progress.step(f"{trial.id}: under the profiler of '{subject.runtime.name}'")
            procedure = Procedure(logs, trial.source.scenario.measure, {}, Launcher())
            into = folder / trial.id.replace("/", "-")
            found = profile_arms({"candidate": subject}, procedure, into, least_ns=least_ns)
            if not found:
                raise CannotMeasure(f"{trial.id}: runtime '{subject.runtime.name}' has no profiler here")
            report = None
            if nsight is not None:
                progress.step(f"{trial.id}: under Nsight Systems")
                report = nsight.record(subject, procedure, into / "nsight", least_ns=least_ns)
            yield Profiled(trial.id, found["candidate"], into / "candidate-0.json", report)
