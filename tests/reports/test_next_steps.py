from dataclasses import replace

from harness.core.comparison import Verdict
from harness.core.wording import NOTHING_TO_DO, next_steps


def test_a_good_run_asks_for_nothing(results):
    assert next_steps(results.passing()) == [NOTHING_TO_DO]


def test_the_worst_metric_is_named_first(results):
    assert next_steps(results.result())[0].startswith("Look first at accuracy of digits-resnet50/pruned-cpu-b1 (-1.85 points).")


def test_a_red_null_control_comes_before_everything_else(results):
    result = results.result()
    red = replace(result, null_control=replace(result.null_control, red=True))
    assert "called identical code different" in next_steps(red)[0]


def test_what_is_only_told_asks_for_nothing(results):
    advice = replace(results.comparison(verdict=Verdict.REGRESSED), advisory=True)
    assert next_steps(replace(results.passing(), comparisons=(advice,))) == [NOTHING_TO_DO]


def test_where_timings_were_not_compared_the_reason_is_told_and_not_that_all_is_well(results):
    result = results.passing()
    why = "versions differ (torch 2.12 -> 2.13): --base-python can tell what that does to timings"
    first = replace(result.trials[0], verdict=Verdict.INCONCLUSIVE, reason=why)
    (step,) = next_steps(replace(result, trials=(first, *result.trials[1:])))
    assert step == f"The timings of 1 trial were not compared, {first.id} first: {why}."
