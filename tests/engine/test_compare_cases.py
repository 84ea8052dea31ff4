import dataclasses

import numpy as np
import pytest
from fakes import cases

from harness.core.comparison import Verdict
from harness.core.errors import CannotMeasure
from harness.core.estimate import Absent
from harness.core.measurement import Failure, FailureReason
from harness.core.result import Content, Packed
from harness.engine.compare import FAMILY_ALPHA
from harness.engine.compare_cases import compare_cases, shared_levels
from harness.engine.routes import Route
from harness.stats.mcnemar import beyond_p
from harness.stats.sequential import holm

SEED = 7
MS = 1_000_000
CHANGED, NEWER = cases.content("b"), cases.content(numpy="2.5.0")


def answering(right, samples=1_000):
    """Predictions of which the first ``right`` samples are right."""
    return cases.answers([(sample + (sample >= right)) % 10 for sample in range(samples)], targets=[n % 10 for n in range(samples)])


def accepted(right=970, *, size_bytes=10_000, latencies_ns=(MS, MS, MS), sessions=(), **changes):
    """A baseline of 1,000 samples, with the means of these sessions."""
    kept = cases.baseline(
        cases.case(subject=cases.subject(size_bytes), predictions=answering(right), measurement=cases.launches(*latencies_ns)), **changes
    )
    here = kept.measured[cases.HERE]
    return dataclasses.replace(kept, measured={cases.HERE: dataclasses.replace(here, sessions={"latency_p50": tuple(sessions)})})


def case(right=970, *, inside: Content = CHANGED, size_bytes=10_000, evaluation="e", **changes):
    """A trial that has a baseline, compared with it by what is the same on every machine."""
    facts = {
        "route": Route.PORTABLE,
        "reason": "versions differ",
        "baseline": accepted(),
        "derivation": cases.derivation(inside, evaluation=evaluation),
        "subject": cases.subject(size_bytes),
        "predictions": answering(right),
        "measurement": None,
    }
    return cases.case(**(facts | changes))


def compared(*some):
    """Compare, and give the first case's comparisons by metric."""
    compare_cases(some, SEED)
    return {comparison.metric: comparison for comparison in some[0].comparisons}


def test_size_and_answers_are_compared_with_the_stored_ones_and_timings_are_not():
    found = compared(case())
    assert {metric: comparison.verdict for metric, comparison in found.items()} == {"model_size": Verdict.PASS, "accuracy": Verdict.PASS}


def test_a_larger_model_and_worse_answers_are_regressions_with_nothing_measured_here():
    found = compared(case(right=900, size_bytes=12_000))
    assert {comparison.verdict for comparison in found.values()} == {Verdict.REGRESSED}
    assert (found["model_size"].baseline, found["model_size"].candidate, found["model_size"].effect) == (10_000, 12_000, 1.2)
    assert found["accuracy"].effect == pytest.approx(-0.07)


FAILURE = Failure(FailureReason.EXCEPTION, "build", "no such layer")


@pytest.mark.parametrize(
    "changes",
    [
        {"route": Route.UNCHANGED},
        {"baseline": None, "route": Route.ALONE},
        {"failure": FAILURE},
        {"subject": None},
        {"route": Route.ALONE, "derivation": cases.derivation(cases.content())},
    ],
)
def test_where_nothing_was_built_or_only_the_machine_is_another_nothing_is_compared(changes):
    one = case(right=500, size_bytes=99_000, **changes)
    assert compared(one) == {} and one.notes == []


def test_first_numbers_with_other_versions_are_compared_by_what_is_the_same_everywhere():
    found = compared(case(right=900, inside=NEWER, route=Route.ALONE, measurement=cases.launches(9 * MS, 9 * MS)))
    assert {metric: comparison.verdict for metric, comparison in found.items()} == {
        "model_size": Verdict.PASS,
        "accuracy": Verdict.REGRESSED,
    }


def test_the_other_arm_is_compared_with_where_there_is_one_and_not_what_was_stored():
    one = case(
        right=970,
        route=Route.PAIRED,
        baseline=accepted(right=1_000, size_bytes=1),
        base=cases.base_arm(size_bytes=10_000),
        base_predictions=answering(970),
    )
    found = compared(one)
    assert {metric: comparison.verdict for metric, comparison in found.items()} == {"model_size": Verdict.PASS, "accuracy": Verdict.PASS}
    assert (found["model_size"].baseline, found["accuracy"].baseline) == (10_000, 0.97)


def test_answers_to_other_samples_are_never_compared():
    one = case(right=500, evaluation="f")
    assert set(compared(one)) == {"model_size"}
    assert one.notes == ["accuracy was not compared: the evaluation data do not come from what the baseline's came from"]


def test_arms_that_answered_another_number_of_samples_are_never_compared():
    one = case(route=Route.PAIRED, base=cases.base_arm(10_000), base_predictions=answering(90, samples=100))
    assert set(compared(one)) == {"model_size"}
    assert one.notes == ["accuracy was not compared: the evaluation set had 100 samples and has 1000"]


def test_what_the_baseline_does_not_have_is_told():
    one = case(baseline=accepted(scores={}, estimates=()))
    assert compared(one) == {}
    assert one.notes == [
        "accuracy was not compared: its baseline does not have it",
        "model_size was not compared: its baseline does not have it",
    ]


def test_a_metric_that_has_no_value_any_more_is_told_with_its_reason():
    one = case(predictions=cases.answers([0] * 1_000))
    assert set(compared(one)) == {"model_size"}
    assert one.notes == ["accuracy was not compared: the evaluation data has no targets"]


def test_a_metric_that_neither_side_has_is_passed_over_in_silence():
    plain = cases.answers([0] * 10, task="other")
    one = case(predictions=plain, base_predictions=plain, base=cases.base_arm(10_000), route=Route.PAIRED)
    assert set(compared(one)) == {"model_size"} and one.notes == []


def test_damaged_scores_are_an_error_and_no_number():
    with pytest.raises(CannotMeasure, match="packed values are damaged"):
        compared(case(baseline=accepted(scores={"accuracy": Packed("bits", 1_000, "AAAA")})))


def test_a_metric_that_is_switched_off_is_not_compared():
    assert set(compared(case(right=500, trial=cases.trial(gate={"accuracy": "off"})))) == {"model_size"}


@pytest.mark.parametrize(("count", "level"), [(1, 0.98), (2, 0.99), (10, 0.998)])
def test_all_comparisons_of_samples_share_the_chance_of_a_false_alarm(count, level):
    found = compared(*(case(right=800) for _ in range(count)))
    assert found["accuracy"].verdict is Verdict.REGRESSED
    assert found["accuracy"].interval.level == pytest.approx(level)


def test_one_red_more_leaves_more_for_the_others():
    """Six comparisons: the first red is shown at a sixth of 1 %, the next at a fifth, and what stands shares the rest."""
    assert shared_levels([0.5, 0.0001, 0.03, 0.0019, 0.4, 0.2]) == pytest.approx([0.01 / part for part in (4, 6, 4, 5, 4, 4)])
    assert shared_levels([0.5, 0.002]) == pytest.approx([0.01, 0.005])
    assert shared_levels([]) == []


def test_a_p_value_is_within_its_level_just_where_holms_adjusted_one_is_within_the_familys():
    for row in np.random.default_rng(20260165).uniform(0, 0.02, (200, 6)):
        assert [p <= level for p, level in zip(row, shared_levels(list(row)), strict=True)] == [p <= FAMILY_ALPHA for p in holm(row)]


@pytest.mark.parametrize(
    ("samples", "gained", "most"), [(400, 0.002, 0.005), (400, 0.05, 0.015), (5_000, 0.002, 0.02), (5_000, 0.05, 0.015)]
)
def test_a_job_of_six_whose_drops_lie_just_on_the_tolerance_is_seldom_red(samples, gained, most):
    """3,000 jobs with few and many changed answers; in the table of ``shared_levels`` are 20,000."""
    shares = [gained + 0.005, gained, 1 - 2 * gained - 0.005]
    counts = np.random.default_rng(20260166).multinomial(samples, shares, (3_000, 6))
    kinds, place = np.unique(counts[..., :2].reshape(-1, 2), axis=0, return_inverse=True)
    p_values = np.array([beyond_p(lost, won, samples, 0.005) for lost, won in kinds.tolist()])[place].reshape(3_000, 6)
    red = sum(any(p <= level for p, level in zip(row, shared_levels(list(row)), strict=True)) for row in p_values)
    assert red / 3_000 <= most


def test_six_real_drops_are_found_more_often_than_by_an_equal_share_for_each():
    counts = np.random.default_rng(20260167).multinomial(400, [0.10, 0.05, 0.85], (300, 6))
    found = np.array(
        [
            [(p <= level, p <= FAMILY_ALPHA / 6) for p, level in zip(row, shared_levels(row), strict=True)]
            for row in ([beyond_p(int(lost), int(won), 400, 0.005) for lost, won, _ in job] for job in counts)
        ]
    )
    assert found[..., 0].mean() > found[..., 1].mean() > 0.2


def with_cosines(scores):
    """A trial whose scenario gates ``output_cosine``, with these scores of its samples."""
    one = case(trial=cases.trial(gate={"output_cosine": "1 %"}), predictions=cases.answers([0] * len(scores), targets=[0] * len(scores)))
    one.scores = {**one.scores, "output_cosine": np.asarray(scores)}
    return one


@pytest.mark.parametrize("scores", [[0.9] * 50, np.linspace(0.98, 0.9999, 50), [0.1, 0.2, 0.3]])
def test_scores_that_did_not_change_are_equal_to_the_stored_ones(scores):
    kept, one = with_cosines(scores), with_cosines(scores)
    kept.measurement, kept.route, kept.baseline = cases.launches(MS, MS), Route.ALONE, None
    one.baseline = cases.baseline(kept)
    found = compared(one)["output_cosine"]
    assert (found.verdict, found.effect, found.method) == (Verdict.PASS, 0.0, "exact: every sample scores the same")


def test_comparisons_that_draw_at_random_are_the_same_every_time():
    draw = np.random.default_rng(1)
    before, after = draw.uniform(0.9, 1.0, 50), draw.uniform(0.9, 1.0, 50)
    found = []
    for _ in range(2):
        one = with_cosines(after)
        one.base, one.base_scores = cases.base_arm(10_000), {"output_cosine": before, "accuracy": Absent("accuracy", "")}
        found.append(compared(one)["output_cosine"])
    assert found[0] == found[1] and found[0].interval.low < found[0].interval.high


UNDECIDED = "the baseline of tiny/plain-cpu-b1 cannot be built here: it is not in the cache"
TEN = (MS, 1.02 * MS, 0.99 * MS, 1.01 * MS, MS, 0.98 * MS, MS, 1.01 * MS, 0.99 * MS, MS)


def stranded(latencies_ns=(2 * MS, 2 * MS, 2 * MS), *, sessions=TEN, stored="advise", **changes):
    """A trial whose other arm cannot be run here, measured alone."""
    facts = {
        "route": Route.PAIRED,
        "trial": cases.trial(stored=stored),
        "baseline": accepted(sessions=sessions),
        "measurement": cases.launches(*latencies_ns),
        "undecided": UNDECIDED,
    }
    return case(**(facts | changes))


def test_without_an_opponent_stored_timings_are_told_and_decide_nothing():
    one = stranded()
    found = compared(one)["latency_p50"]
    assert (found.verdict, found.advisory, found.n, found.n_of) == (Verdict.REGRESSED, True, 10, "sessions")
    assert one.undecided == UNDECIDED and one.notes == []


@pytest.mark.parametrize(("latency_ns", "verdict"), [(2 * MS, Verdict.REGRESSED), (MS, Verdict.INCONCLUSIVE), (MS // 2, Verdict.IMPROVED)])
def test_stored_timings_decide_where_the_scenario_says_so(latency_ns, verdict):
    one = stranded((latency_ns,) * 3, stored="decide")
    found = compared(one)["latency_p50"]
    assert (found.verdict, found.advisory) == (verdict, False)
    assert one.undecided is None
    assert one.notes == [f"decided by stored sessions, as the scenario says ('stored: decide'): {UNDECIDED}"]


def test_too_few_sessions_decide_nothing_even_where_the_scenario_says_so():
    one = stranded(stored="decide", sessions=TEN[:9])
    found = compared(one)["latency_p50"]
    assert (found.verdict, found.advisory, found.n_of) == (Verdict.INCONCLUSIVE, True, "launches")
    assert one.undecided == UNDECIDED


@pytest.mark.parametrize(
    "changes", [{"environment_key": cases.ELSEWHERE}, {"measurement": None}, {"undecided": None, "base": cases.base_arm(10_000)}]
)
def test_stored_timings_are_never_compared_with_another_machine_nor_where_both_arms_ran(changes):
    assert "latency_p50" not in compared(stranded(stored="decide", **changes))


def test_a_timing_that_has_no_value_here_is_not_compared_with_the_stored_one():
    one = stranded()
    assert "latency_p99" not in compared(one), "500 queries of a launch are needed"
