import dataclasses

import pytest
from fakes import cases

from harness.engine.routes import Route, choose_route, version_changes

SAME = cases.content()
OTHER_VERSIONS = cases.content(numpy="2.5.0")
OTHER_SOURCE = cases.content("b")
HERE, ELSEWHERE = cases.HERE, cases.ELSEWHERE


def measured_on(*keys):
    """A baseline of the usual content with numbers of these kinds of machine."""
    baseline = cases.baseline()
    return dataclasses.replace(baseline, measured=dict.fromkeys(keys, baseline.measured[HERE]))


@pytest.mark.parametrize("wishes", [{}, {"measure_all": True}, {"accept_new": True}])
def test_a_trial_without_a_baseline_is_measured_alone(wishes):
    assert choose_route(None, SAME, HERE, **wishes) == (Route.ALONE, "no baseline yet")


@pytest.mark.parametrize("keys", [(), (HERE,), (ELSEWHERE,)])
@pytest.mark.parametrize("wishes", [{}, {"measure_all": True}, {"accept_new": True}])
def test_a_change_of_the_source_is_always_measured_against_its_baseline(keys, wishes):
    route, reason = choose_route(measured_on(*keys), OTHER_SOURCE, HERE, **wishes)
    assert (route, reason) == (Route.PAIRED, "its content is not its baseline's")


@pytest.mark.parametrize("content", [SAME, OTHER_VERSIONS])
@pytest.mark.parametrize("accept_new", [False, True])
def test_the_same_source_is_not_measured_again_where_this_kind_of_machine_has_numbers(content, accept_new):
    route, reason = choose_route(measured_on(HERE, ELSEWHERE), content, HERE, accept_new=accept_new)
    assert (route, reason) == (Route.UNCHANGED, "its content is its baseline's, and this kind of machine has numbers of it")


def test_the_very_same_content_is_unchanged_on_a_machine_without_numbers_too():
    route, reason = choose_route(measured_on(ELSEWHERE), SAME, HERE)
    assert (route, reason) == (Route.UNCHANGED, "its content is its baseline's; this kind of machine has no numbers of it")


@pytest.mark.parametrize("content", [SAME, OTHER_VERSIONS])
def test_first_numbers_of_a_machine_are_taken_where_they_are_wanted(content):
    route, reason = choose_route(measured_on(ELSEWHERE), content, HERE, accept_new=True)
    assert (route, reason) == (Route.ALONE, "its content is its baseline's; this kind of machine has no numbers of it yet")


@pytest.mark.parametrize("content", [SAME, OTHER_VERSIONS])
@pytest.mark.parametrize("keys", [(), (HERE,), (ELSEWHERE,)])
def test_whoever_asks_for_everything_gets_everything_measured(content, keys):
    route, reason = choose_route(measured_on(*keys), content, HERE, measure_all=True, accept_new=True)
    assert (route, reason) == (Route.PAIRED, "unchanged, and measured because all were asked for")


def test_where_only_versions_differ_their_effect_on_timings_is_not_guessed():
    route, reason = choose_route(measured_on(ELSEWHERE), OTHER_VERSIONS, HERE)
    assert route is Route.PORTABLE
    assert (
        reason == "its source is its baseline's, versions differ (numpy 2.4.1 -> 2.5.0): --base-python can tell what that does to timings"
    )


@pytest.mark.parametrize("keys", [(), (HERE,), (ELSEWHERE,)])
def test_with_an_interpreter_that_has_the_other_versions_their_effect_is_measured(keys):
    route, reason = choose_route(measured_on(*keys), OTHER_VERSIONS, HERE, base_python=True)
    assert (route, reason) == (Route.PAIRED, "its source is its baseline's, versions differ (numpy 2.4.1 -> 2.5.0)")


def test_an_interpreter_for_baselines_makes_nothing_of_what_is_the_same_to_the_last_version():
    assert choose_route(measured_on(HERE), SAME, HERE, base_python=True)[0] is Route.UNCHANGED


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({}, {}, []),
        ({"torch": "2.12.0"}, {"torch": "2.12.0"}, []),
        ({"torch": "2.12.0"}, {"torch": "2.13.0"}, ["torch 2.12.0 -> 2.13.0"]),
        ({"torch": "2.12.0"}, {}, ["torch 2.12.0 -> none"]),
        ({}, {"torch": "2.13.0"}, ["torch none -> 2.13.0"]),
        (
            {"harness.passes.export_onnx": "51f0", "torch": "2", "numpy": "1"},
            {"harness.passes.export_onnx": "77aa", "torch": "3", "numpy": "2"},
            ["numpy 1 -> 2", "torch 2 -> 3", "harness.passes.export_onnx 51f0 -> 77aa"],
        ),
    ],
)
def test_versions_that_differ_are_told_the_users_own_packages_first(before, now, told):
    assert version_changes(before, now) == told
