from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from harness.core.estimate import ConfidenceInterval
from harness.core.result import QualityChange
from harness.reports._recipes import bargain, pareto_front, recipe_groups
from harness.reports._tradeoff import place_names

points = st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 1)), min_size=1, max_size=12)


def test_a_recipe_that_is_slower_and_worse_is_not_worth_a_choice():
    assert pareto_front([(1.0, 0.9), (2.0, 0.95), (3.0, 0.94)]) == [True, True, False]


def test_equal_recipes_are_both_worth_a_choice():
    assert pareto_front([(1.0, 0.9), (1.0, 0.9)]) == [True, True]


@given(points)
def test_something_is_always_worth_a_choice_and_nothing_on_the_front_beats_another(found):
    front = [point for point, best in zip(found, pareto_front(found), strict=True) if best]
    assert front
    assert not any(a[0] < b[0] and a[1] > b[1] for a in front for b in front)


def test_recipes_are_grouped_by_what_can_be_compared(results):
    groups = recipe_groups(results.result())
    assert [(group.hardware, group.batch_size, len(group.trials)) for group in groups] == [("cpu", 1, 6), ("cpu", 8, 1)]
    assert groups[0].reference.recipe == "fp32"
    assert groups[1].reference is None and groups[1].quality is None


def test_names_of_neighbouring_points_do_not_cover_each_other():
    crowd = [(100.0, 100.0), (112.0, 101.0), (124.0, 100.0)]
    places = place_names(crowd, [80.0] * 3, plot_width=600)
    boxes = [(left, left + 80, middle - 7, middle + 7) for left, middle in places]
    for number, (left, right, top, bottom) in enumerate(boxes):
        assert not any(left < r and x < right and top < b and y < bottom for x, r, y, b in boxes[number + 1 :])


def test_a_name_never_leaves_the_plot():
    (place,) = place_names([(598.0, 50.0)], [120.0], plot_width=600)
    assert 0 <= place[0] <= 480


def test_a_recipe_is_told_in_one_sentence_what_it_buys_and_what_it_costs(results):
    group = recipe_groups(results.result())[0]
    int8 = next(trial for trial in group.trials if trial.recipe == "int8")
    plain = replace(int8, quality_change=None)
    assert bargain(plain, group.reference).startswith("Buys ") and "of the size" in bargain(plain, group.reference)
    drop = QualityChange("accuracy", -0.0042, ConfidenceInterval(-0.011, 0.002, 0.95), 540)
    assert bargain(replace(plain, quality_change=drop), group.reference).endswith(
        "costs -0.42 points of accuracy (-1.10 points to +0.20 points at 95 %)."
    )


def test_the_reference_and_a_recipe_without_one_are_not_told_as_a_bargain(results):
    group = recipe_groups(results.result())[0]
    assert bargain(group.reference, group.reference) == ""
    assert bargain(group.trials[1], None) == ""
