"""From a scenario to candidates that can be made: the search space expanded, each checked as the recipe that it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core.errors import BadInput, Problem
from harness.core.search import Candidate, Stage
from harness.engine.bounds import Bounds
from harness.engine.check_scenario import check
from harness.engine.searching.space import check_space, expand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.core.scenario import Scenario, ScenarioFile
    from harness.engine.searching.field import Runner

EXAMPLE = "search: {space: [{passes: [export_onnx], runtime: {onnxruntime: {optimization: {one_of: [basic, all]}}}}]}"


@dataclass(frozen=True, slots=True)
class Space:
    """``file`` is the scenario with the reference and the candidates as its recipes; ``impossible`` says of candidates why they are."""

    file: ScenarioFile
    reference: str
    candidates: tuple[Candidate, ...]
    impossible: Mapping[str, str]


def read_space(file: ScenarioFile, limit: int) -> Space:
    """What there is to search. Raises BadInput, with file and line, where there is no search space, or a wrong or too large one."""
    scenario, spec = file.scenario, file.scenario.search
    if spec is None:
        raise BadInput(Problem("declares no search space", path=file.path, key="search", hint=f"add one: {EXAMPLE}"))
    if problems := check_space(scenario):
        raise BadInput(*(placed(problem, file) for problem in problems))
    reference = spec.against or scenario.reference
    if reference is None:
        problem = Problem("names no recipe to measure candidates against", key="search.against", hint="add 'against', or 'reference'")
        raise BadInput(placed(problem, file))
    try:
        candidates = expand(spec, limit)
    except BadInput as error:
        raise BadInput(*(placed(problem, file) for problem in error.problems)) from error
    for candidate in candidates:
        if candidate.name == reference:
            hint = "give this entry of the space a 'name' of its own"
            raise BadInput(
                placed(Problem(f"a candidate would be called '{reference}', as the reference is", key=candidate.key, hint=hint), file)
            )
    recipes = {reference: scenario.recipes[reference], **{candidate.name: candidate.recipe for candidate in candidates}}
    whole = scenario.model_copy(update={"recipes": recipes, "reference": reference, "sla": {}})
    return Space(replace(file, scenario=whole), reference, candidates, _impossible(whole, file, candidates))


def _impossible(scenario: Scenario, file: ScenarioFile, candidates: Sequence[Candidate]) -> dict[str, str]:
    """Candidates that no recipe can be, each with every reason: what ``harness validate`` would say of it."""
    found: dict[str, list[str]] = {}
    problems = check(scenario, file.targets, file.folder, Bounds(file.root.resolve(), file.allowed.outside))
    for candidate in candidates:
        key = f"recipes.{candidate.name}"
        for problem in problems:
            own = problem.key or ""
            if own == key or own.startswith((f"{key}.", f"{key}[")):
                where = own.removeprefix(key).removeprefix(".")
                told = f"{where}: {problem.message}" if where else problem.message
                found.setdefault(candidate.name, []).append(f"{told} ({problem.hint})" if problem.hint else told)
    return {name: "; ".join(reasons) for name, reasons in found.items()}


def drop_the_same(runners: Sequence[Runner], reference: str, reference_content: str) -> None:
    """Candidates with the content of the reference, or of one before them, have left."""
    seen = {reference_content: reference}
    for runner in runners:
        if runner.reason is None:
            digest = runner.case.derivation.content.digest
            if digest in seen:
                runner.leave(Stage.CHECK, f"is made of the same as {seen[digest]}")
            seen.setdefault(digest, runner.name)


def placed(problem: Problem, file: ScenarioFile) -> Problem:
    """A problem at the line of its key, or of the nearest key above it that stands in the file."""
    key = problem.key or ""
    while key and key not in file.lines:
        cut = max(key.rfind("."), key.rfind("["))
        key = key[:cut] if cut > 0 else ""
    return replace(problem, path=file.path, line=file.lines.get(key))
