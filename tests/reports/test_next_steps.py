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
