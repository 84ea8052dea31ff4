"""What a search has found: the answer, and the candidates as a result that the reports of a run can show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness import __version__
from harness.core.comparison import SlaState, Verdict
from harness.core.errors import ExitCode
from harness.core.result import SCHEMA, RunResult, ScenarioText, TrialRecord
from harness.core.search import Checked, Entrant, Outcome, Search
from harness.core.units import Unit, format_points
from harness.engine.read_environment import read_environment
from harness.engine.record import record_of
from harness.engine.searching.field import RACE, is_timed
from harness.engine.searching.told import exit_code_of, headline_of
from harness.engine.sla import check_sla
from harness.engine.trade_offs import note_trade_offs

if TYPE_CHECKING:
    from harness.core.bisection import Effect
    from harness.core.scenario import Recipe
    from harness.engine.case import Case
    from harness.engine.searching.candidates import Space
    from harness.engine.searching.confirm import Final
    from harness.engine.searching.exact import Exact
    from harness.engine.searching.field import Field, Runner
    from harness.engine.searching.request import Request
    from harness.store.runs import RunFolder

LAST = 1_000_000
NOT_PAIRED = (
    "numbers of a recipe are of its own launches, which were taken in other minutes than another's: the search decides by pairs alone"
)


@dataclass(frozen=True, slots=True)
class Concluded:
    """The answer, the winner's recipe under its candidate's name, and what the result is made from."""

    found: Search
    recipe: Recipe | None
    space: Space
    field: Field


def timed(space: Space, field: Field, final: Final | None, effect: Effect | None) -> Concluded:
    """``effect`` is of the winner against the reference, of pairs that nothing was chosen by."""
    effects = {runner.name: found for runner in field.runners for found in [_raced(field, runner)] if found is not None}
    if final is None:
        return _conclude(space, field, None, (), None, effects)
    return _conclude(space, field, final.winner, final.tied, effect, effects, final.leader)


def exactly(space: Space, field: Field, exact: Exact) -> Concluded:
    effect = None if exact.winner is None else exact.effects[exact.winner.name]
    return _conclude(space, field, exact.winner, exact.tied, effect, exact.effects)


def _conclude(
    space: Space,
    field: Field,
    winner: Runner | None,
    tied: tuple[Runner, ...],
    effect: Effect | None,
    effects: dict[str, Effect],
    leader: Runner | None = None,
) -> Concluded:
    trial = field.reference.trial
    found = Search(
        scenario=trial.scenario,
        hardware=trial.target.name,
        batch_size=trial.batch_size,
        objective=field.rule.metric,
        unit=field.rule.unit,
        better=field.rule.better,
        constraints=tuple(clause.text for clause in field.constraints.clauses),
        reference=space.reference,
        outcome=_outcome(field, winner, tied, effect),
        headline="",
        winner=None if winner is None else winner.name,
        effect=effect,
        entrants=tuple(_entrant(runner, winner, tied, effects.get(runner.name), leader) for runner in _in_order(field.runners)),
        pairs=field.place.pairs,
        seconds=field.clock() - field.begin,
        notes=_notes(field, winner, tied),
    )
    recipe = None if winner is None else winner.candidate.recipe
    return Concluded(replace(found, headline=headline_of(found)), recipe, space, field)


def _outcome(field: Field, winner: Runner | None, tied: tuple[Runner, ...], effect: Effect | None) -> Outcome:
    if winner is None or effect is None:
        return Outcome.NONE_LEFT
    shown = effect.interval.low > 1 if field.rule.better == "higher" else effect.interval.high < 1
    if not shown:
        return Outcome.NONE_BETTER
    if any(check.state is not SlaState.KEPT for check in winner.checks):
        return Outcome.UNPROVEN
    return Outcome.TIED if tied else Outcome.FOUND


def _raced(field: Field, runner: Runner) -> Effect | None:
    duel = runner.duels.get((RACE, field.reference.id))
    return None if duel is None else field.effect(duel)


def _in_order(runners: list[Runner]) -> list[Runner]:
    """By rank; then those that were never compared, in the order of the space."""
    return sorted(runners, key=lambda runner: (runner.rank or LAST, runner.order))


def _entrant(runner: Runner, winner: Runner | None, tied: tuple[Runner, ...], effect: Effect | None, leader: Runner | None) -> Entrant:
    reason = runner.reason or ""
    if runner is winner:
        reason = "the winner" if not tied else "the smaller or simpler of those that cannot be told apart"
    elif not reason:
        reason = "cannot be told apart from the best" if runner in tied else "not the best"
    if runner.head_to_head is not None and leader is not None:
        reason += f"; ×{runner.head_to_head.ratio:.3f} of {leader.name} in {runner.head_to_head.n} fresh pairs"
    return Entrant(
        name=runner.name,
        key=runner.candidate.key,
        choices=runner.candidate.choices,
        recipe=runner.candidate.recipe,
        stage=runner.stage,
        rank=runner.rank,
        reason=reason,
        race=effect,
        head_to_head=runner.head_to_head,
        constraints=runner.checks,
    )


def _notes(field: Field, winner: Runner | None, tied: tuple[Runner, ...]) -> tuple[str, ...]:
    notes = []
    if is_timed(field.rule) and any(runner.rank is not None for runner in field.runners):
        notes.append("only the winner's ratio is of fresh launch pairs: those of the others are of the pairs that they were dropped by")
    if tied and winner is not None:
        others = ", ".join(runner.name for runner in tied)
        notes.append(f"{winner.name} was taken for its size, then its number of passes: nothing else tells it apart from {others}")
    notes += [] if winner is None else [told for check in winner.checks if (told := _difference_told(winner.name, check)) is not None]
    return tuple(notes)


def _difference_told(name: str, check: Checked) -> str | None:
    """What a metric of samples costs, and what other samples would have shown; a constraint on it is decided by this set alone."""
    if check.interval is None or check.difference is None:
        return None
    if check.interval.low == check.interval.high == 0:
        return f"{check.metric} of {name} is the same on every sample of this set"
    tell = format_points if check.unit is Unit.FRACTION else "{:+.4g}".format
    low, high = tell(check.interval.low), tell(check.interval.high)
    level = f"{100 * check.interval.level:.0f} %"
    return (
        f"{check.metric} of {name} differs by {tell(check.difference)} on this set; samples like these would give {low} to {high} ({level})"
    )


def result_of(concluded: Concluded, request: Request, folder: RunFolder) -> RunResult:
    """The candidates as the trials of a run, for its reports. They keep nothing that a baseline could be made of."""
    field, found = concluded.field, concluded.found
    seed = field.place.seed
    measured = [runner for runner in _in_order(field.runners) if runner.case.subject is not None or runner.case.failure is not None]
    field.collect(measured)
    cases = [field.reference, *(runner.case for runner in measured)]
    note_trade_offs(cases, seed)
    notes = {runner.case.id: _place_told(entrant) for runner, entrant in zip(_in_order(field.runners), found.entrants, strict=True)}
    records = [_record(case, notes.get(case.id)) for case in cases]
    figures = {case.id: told for case in cases if (told := case.launch_figures()) is not None}
    file = field.constraints.file
    code = exit_code_of(found)
    return RunResult(
        schema=SCHEMA,
        program_version=__version__,
        id=folder.id,
        command=request.command,
        started_at=folder.begun().started_at,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=seed,
        environment=read_environment(concluded.space.file.root),
        scenarios=(ScenarioText(file.scenario.name, _path_of(concluded), file.text, concluded.space.reference),),
        verdict=Verdict.PASS if code is ExitCode.PASS else Verdict.INCONCLUSIVE,
        exit_code=code,
        headline=found.headline,
        trials=tuple(records),
        comparisons=(),
        sla=check_sla(file, records, figures),
        notes=(*found.notes, *((NOT_PAIRED,) if is_timed(field.rule) else ())),
    )


def _record(case: Case, note: str | None) -> TrialRecord:
    record = record_of(case, gated=False, accepting=False)
    return replace(record, material=None, notes=(*((note,) if note else ()), *record.notes))


def _place_told(entrant: Entrant) -> str:
    place = "not compared" if entrant.rank is None else f"place {entrant.rank}"
    return f"search: {place}, {entrant.stage}: {entrant.reason}"


def _path_of(concluded: Concluded) -> str:
    file = concluded.space.file
    path = file.path.resolve()
    return (path.relative_to(file.root) if path.is_relative_to(file.root) else path).as_posix()
