"""``harness serve``: one trial's artifact, built as for a run, behind the server of its recipe."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import RunningServer, Serving
from harness.core.serving import Deployment
from harness.engine import toolchain
from harness.engine.build import Builder
from harness.engine.content import derive
from harness.engine.datasets import read_dataset
from harness.engine.make_plan import make_plan
from harness.engine.plugin_options import plugin_of
from harness.engine.read_environment import read_environment
from harness.engine.read_scenario import read_scenario
from harness.engine.workers import THIS_PYTHON
from harness.kserve.codec import encode_request
from harness.store.cache import Cache, cache_folder, cache_limit

if TYPE_CHECKING:
    from harness.core.plan import Trial
    from harness.core.progress import Progress
    from harness.core.scenario import ScenarioFile

START_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Served:
    """A server that is up. ``request`` asks for the first samples of the evaluation set, as JSON; ``request_file`` holds it too."""

    trial: str
    server_name: str
    server: RunningServer
    request: bytes
    request_file: Path


@contextmanager
def serve_trial(
    path: Path,
    overrides: Sequence[str],
    recipe: str | None,
    target: str | None,
    batch_size: int | None,
    address: tuple[str, int],
    progress: Progress,
) -> Iterator[Served]:
    """Build the artifact, or take it from the cache, and serve it at ``address`` (port 0: any free one) while the block runs.

    Raises BadInput for a recipe or target that the scenario has not, CannotMeasure where this machine is not the target, an artifact
    cannot be built or the server does not start.
    """
    file = read_scenario(path, overrides=overrides)
    trial = _chosen(file, recipe, target, batch_size)
    with tempfile.TemporaryDirectory(prefix="harness-serve-") as scratch, Cache(cache_folder(), cache_limit()) as cache:
        folder = Path(scratch)
        derivation = derive(trial, toolchain.installed())
        builder = Builder(cache, folder / "logs", progress)
        artifact = builder.artifact(trial, derivation)
        subject = builder.subject(trial, derivation, artifact)
        into = folder / "server"
        into.mkdir()
        deployment = Deployment(
            artifact=artifact,
            runtime=subject.runtime,
            scenario_folder=subject.scenario_folder,
            model=trial.scenario,
            device=subject.device,
            threads=subject.threads,
            cores=subject.cores,
            batch_size=trial.batch_size,
            data=subject.data,
            folder=into,
            python=THIS_PYTHON,
            start_timeout_s=START_TIMEOUT_S,
            host=address[0],
            port=address[1],
        )
        request = encode_request(read_dataset(subject.data).batch(0, trial.batch_size), binary=False).body
        request_file = folder / "request.json"
        request_file.write_bytes(request)
        progress.step(f"{trial.id}: starting '{trial.recipe.server.name}'")
        serving = cast("Serving", plugin_of("serving", trial.recipe.server, trial.source.folder))
        with serving.serve(deployment) as server:
            yield Served(trial.id, trial.recipe.server.name, server, request, request_file)


def _chosen(file: ScenarioFile, recipe: str | None, target: str | None, batch_size: int | None) -> Trial:
    recipes = file.scenario.recipes
    if recipe is None and len(recipes) > 1:
        raise BadInput(Problem(f"which recipe? {', '.join(recipes)}", path=file.path, hint="name one with --recipe"))
    chosen = recipe or next(iter(recipes))
    _known("recipe", chosen, list(recipes), file)
    targets = [one.name for one in file.targets]
    where = target or targets[0]
    _known("hardware target", where, targets, file)
    plan = make_plan([file], read_environment(file.root))
    trials = [trial for trial in plan.trials if trial.recipe.name == chosen and trial.target.name == where]
    if not trials:
        reason = next(item.reason for item in plan.skipped if item.trial.target.name == where)
        raise CannotMeasure(f"'{where}' is not this machine: {reason}", hint="name another target with --target")
    fitting = [trial for trial in trials if trial.batch_size == batch_size]
    return fitting[0] if fitting else replace(trials[0], batch_size=batch_size or trials[0].batch_size)


def _known(what: str, name: str, names: list[str], file: ScenarioFile) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise BadInput(Problem(f"there is no {what} '{name}'", path=file.path, hint=f"{hint}the scenario has {', '.join(names)}"))
