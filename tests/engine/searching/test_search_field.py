"""A whole search over candidates whose truth is known: who wins, who leaves, when, and why."""

import math

import pytest
from fakes.searches import Track, field_of

from harness.core.errors import BadInput
from harness.core.search import Outcome, Stage
from harness.engine import contest
from harness.engine.searching.candidates import Space
from harness.engine.searching.conclude import exactly, timed
from harness.engine.searching.confirm import LEAST_EFFECT_PAIRS, confirm, measure_effect
from harness.engine.searching.constraints import broken, read_constraints
from harness.engine.searching.exact import choose_exactly
from harness.engine.searching.field import ReferenceFailed
from harness.engine.searching.race import FINALISTS, race
from harness.engine.searching.told import exit_code_of, text_of

FAST, GOOD, SLOW = math.log(0.5), math.log(0.7), math.log(1.2)


@pytest.fixture
def searched(monkeypatch):
    """Search as the command does, from the constraints on; what was concluded, the field and the track."""

    def search(candidates, *, spread=0.01, seed=0, pair_s=1.0, **options):
        field, clock = field_of(candidates, **options)
        track = Track(clock, spread=spread, seed=seed, pair_s=pair_s)
        monkeypatch.setattr(contest, "launch", track.launch)
        space = Space(field.constraints.file, "plain", (), {})
        for runner in field.alive():
            runner.stage, runner.checks = Stage.CONSTRAINTS, field.constraints.check(runner.case, field.reference)
            if (why := broken(runner.checks, measured=False)) is not None:
                runner.leave(Stage.CONSTRAINTS, why)
        if field.rule.plugin.kind != "launch":
            return exactly(space, field, choose_exactly(field)).found, field, track
        finalists = race(field)
        while (final := confirm(field, finalists)) is not None:
            effect = measure_effect(field, final.winner)
            field.check(final.winner, Stage.FINAL, last=True)
            if final.winner.reason is None and effect is not None:
                return timed(space, field, final, effect).found, field, track
            finalists = [runner for runner in finalists if runner.reason is None]
        return timed(space, field, None, None).found, field, track

    return search


def of(found, name):
    return next(entrant for entrant in found.entrants if entrant.name == name)


def test_the_winner_is_told_by_pairs_that_it_was_not_chosen_by(searched):
    found, field, _ = searched({"fast": {"truth": FAST}, "good": {"truth": GOOD}, "slow": {"truth": SLOW}})
    assert (found.winner, found.outcome, exit_code_of(found)) == ("fast", Outcome.FOUND, 0)
    fresh = field.runners[0].duels["effect", field.reference.id]
    assert found.effect.n == fresh.pairs == 8
    assert found.effect.interval.low < 0.5 < found.effect.interval.high
    assert found.headline.startswith("fast is the best of 3 candidates: latency_p50 ×0.")
    assert [entrant.name for entrant in found.entrants] == ["fast", "good", "slow"]


@pytest.mark.parametrize("seed", range(5))
def test_a_candidate_that_breaks_a_constraint_never_wins_however_fast_it_is(searched, seed):
    candidates = {"wrong": {"truth": math.log(0.1), "wrong": 2}, "fast": {"truth": FAST, "wrong": 1}, "good": {"truth": GOOD}}
    found, _, track = searched(candidates, subject_to=("accuracy: at most 0.5 points below plain",), seed=seed)
    assert found.winner == "fast"
    left = of(found, "wrong")
    assert (left.stage, left.rank) == (Stage.CONSTRAINTS, None)
    assert left.reason.startswith("breaks 'accuracy: at most 0.5 points below plain': 99.00 % against 100.00 % of 'plain'")
    assert not any("wrong" in names for names in track.launched)


def test_the_value_on_this_set_decides_and_what_other_samples_would_give_stands_beside_it(searched):
    found, *_ = searched({"fast": {"truth": FAST, "wrong": 1}}, subject_to=("accuracy drop at most 0.5 points",))
    (check,) = of(found, "fast").constraints
    assert check.state == "KEPT" and check.difference == pytest.approx(-0.005)
    assert check.interval.low < -0.005 < check.interval.high
    assert any(
        note.startswith("accuracy of fast differs by -0.50 points on this set; samples like these would give") for note in found.notes
    )


def test_a_constraint_on_launches_drops_whom_they_show_to_break_it(searched):
    candidates = {"hungry": {"truth": FAST, "memory_mib": 300}, "good": {"truth": GOOD}, "slow": {"truth": SLOW}}
    found, *_ = searched(candidates, subject_to=("peak_memory: at most 200 MiB",))
    assert found.winner == "good"
    assert of(found, "hungry").reason.startswith("breaks 'peak_memory: at most 200 MiB': 300 MiB")


def test_whom_no_launch_can_tell_apart_the_smaller_is_taken_and_it_is_said(searched):
    candidates = {"large": {"truth": FAST, "size_bytes": 4096}, "small": {"truth": FAST, "size_bytes": 1024}, "slow": {"truth": SLOW}}
    found, *_ = searched(candidates, spread=0.02)
    assert (found.winner, found.outcome, exit_code_of(found)) == ("small", Outcome.TIED, 0)
    assert of(found, "large").reason.startswith("cannot be told apart from the best")
    assert "small is taken of 3 candidates, 2 of which are the best and cannot be told apart" in found.headline
    assert any("nothing else tells it apart from large" in note for note in found.notes)


def test_a_candidate_whose_launch_fails_is_dropped_by_name_and_the_others_go_on(searched):
    candidates = {"dies": {"truth": FAST, "fails": 0}, "dies-later": {"truth": FAST, "fails": 3}, "good": {"truth": GOOD}}
    found, *_ = searched(candidates)
    assert found.winner == "good"
    assert of(found, "dies").reason == "candidate, slice: the worker was killed: out of memory"
    assert of(found, "dies").stage is Stage.RACE
    assert of(found, "dies-later").stage is Stage.FINAL
    assert "out of memory" in of(found, "dies-later").reason


def test_a_reference_that_fails_ends_the_search(searched):
    field, clock = field_of({"fast": {"truth": FAST}})
    field.reference.subject.runtime.options["fails"] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contest, "launch", Track(clock).launch)
        with pytest.raises(ReferenceFailed, match=r"the reference tiny/plain-cpu-b1 cannot be measured: baseline, slice: .* out of memory"):
            race(field)


def test_what_is_not_better_than_the_reference_is_no_answer(searched):
    found, *_ = searched({"slow": {"truth": SLOW}, "slower": {"truth": 2 * SLOW}})
    assert (found.winner, found.outcome, exit_code_of(found)) == ("slow", Outcome.NONE_BETTER, 3)
    assert "is not shown to be better than plain" in found.headline


def test_when_everybody_was_dropped_there_is_no_winner(searched):
    found, *_ = searched({"wrong": {"truth": FAST, "wrong": 50}}, subject_to=("accuracy: at least 99 %",))
    assert (found.winner, found.outcome, exit_code_of(found)) == (None, Outcome.NONE_LEFT, 3)
    assert found.headline == "none of 1 candidate is left: 1 at 'constraints'"


def test_every_round_halves_the_field_and_doubles_the_pairs(searched):
    candidates = {f"c{number:02}": {"truth": math.log(0.5 + number / 20)} for number in range(12)}
    found, field, _ = searched(candidates, spread=0.001)
    pairs = sorted((runner.duels["race", field.reference.id].pairs for runner in field.runners), reverse=True)
    assert pairs == [4] * 6 + [2] * 6
    assert sum(entrant.stage is Stage.FINAL for entrant in found.entrants) == FINALISTS
    assert [entrant.rank for entrant in found.entrants] == list(range(1, 13))
    assert of(found, "c11").reason == "round 1: place 12 of 12 by the mean of 2 launch pairs"


def test_a_budget_ends_the_races_early_and_the_winner_is_confirmed_all_the_same(searched):
    candidates = {f"c{number:02}": {"truth": math.log(0.5 + number / 20)} for number in range(12)}
    found, _, track = searched(candidates, spread=0.001, budget_s=50.0)
    assert found.winner == "c00"
    assert len(track.launched) <= 50
    assert any("the budget of the races was spent" in entrant.reason for entrant in found.entrants)


def test_a_budget_that_is_spent_at_once_measures_the_least_that_says_anything(searched):
    found, _, track = searched({"fast": {"truth": FAST}}, budget_s=4.0)
    assert found.effect.n == LEAST_EFFECT_PAIRS
    assert len(track.launched) == 2 + LEAST_EFFECT_PAIRS


def test_an_objective_that_does_not_vary_needs_no_launch(searched):
    candidates = {"large": {"truth": FAST, "size_bytes": 900}, "small": {"truth": SLOW, "size_bytes": 256}}
    found, _, track = searched(candidates, objective="model_size")
    assert (found.winner, found.outcome, found.effect.ratio, found.effect.n) == ("small", Outcome.FOUND, 0.25, 0)
    assert track.launched == []
    assert "model_size ×0.250 (exact) of plain" in text_of(found)


def test_a_constraint_on_launches_is_measured_of_the_best_by_size_in_turn(searched):
    candidates = {"large": {"truth": FAST, "size_bytes": 900}, "small": {"truth": SLOW, "size_bytes": 256}}
    found, _, track = searched(candidates, objective="model_size", subject_to=("latency_p50: at most 100 % of plain",))
    assert found.winner == "large"
    assert of(found, "small").reason.startswith("breaks 'latency_p50: at most 100 % of plain'")
    assert {names[1] for names in track.launched} == {"large", "small"}


def test_more_is_better_where_the_metric_says_so(searched):
    found, *_ = searched({"good": {"truth": GOOD}, "fast": {"truth": FAST}}, objective="throughput")
    assert found.winner == "fast"
    assert found.effect.interval.low < 2 < found.effect.interval.high


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("accuracy", "names no metric"),
        ("acuracy: at least 97 %", "did you mean 'accuracy'"),
        ("accuracy: at least 97 ms", "accuracy is a share"),
        ("accuracy: at most 1 point below fp32", "unknown recipe 'fp32'"),
        ("fast.accuracy: at least 97 %", "name the metric alone"),
        ("accuracy: at most 1 point below fast", "is not measured by this search"),
    ],
)
def test_a_wrong_constraint_names_the_option(written, message):
    field, _ = field_of({"fast": {"truth": FAST}})
    field_recipes = field.constraints.file
    both = field_recipes.scenario.recipes["plain"]
    scenario = field_recipes.scenario.model_copy(update={"recipes": {"plain": both, "fast": both}})
    file = type(field_recipes)(scenario, *(getattr(field_recipes, name) for name in ("path", "root", "text", "targets", "lines")))
    with pytest.raises(BadInput) as caught:
        read_constraints(file, [written], "plain")
    assert f"--subject-to '{written}'" in str(caught.value) and message in str(caught.value)
