"""A search space as it is declared, and the candidates that it stands for."""

import re

import pytest

from harness.core.errors import BadInput
from harness.core.scenario import SearchSpec
from harness.engine.read_scenario import read_scenario
from harness.engine.searching.candidates import read_space
from harness.engine.searching.space import check_space, expand


def candidates(*space, limit=200):
    return expand(SearchSpec.model_validate({"space": list(space)}), limit)


def names(*space):
    return [candidate.name for candidate in candidates(*space)]


STATIC = {"quantize_static": {"per_channel": {"one_of": [True, False]}, "method": {"one_of": ["minmax", "entropy"]}}}


def test_every_combination_of_choices_is_a_candidate_in_the_order_written():
    found = candidates({"passes": ["export_onnx", STATIC], "runtime": "onnxruntime"})
    assert [candidate.name for candidate in found] == [
        "quantize_static-per_channel-minmax",
        "quantize_static-per_channel-entropy",
        "quantize_static-no_per_channel-minmax",
        "quantize_static-no_per_channel-entropy",
    ]
    assert [candidate.recipe.passes[1].options for candidate in found][2] == {"per_channel": False, "method": "minmax"}
    assert found[0].choices == ("per_channel", "minmax")
    assert {candidate.key for candidate in found} == {"search.space[0]"}


def test_a_list_without_one_of_is_the_value_of_an_option_and_no_choice():
    (only,) = candidates({"passes": [{"quantize_static": {"exclude": ["head", "stem"]}}], "runtime": "onnxruntime"})
    assert only.recipe.passes[0].options == {"exclude": ["head", "stem"]}


def test_an_option_that_takes_a_list_chooses_among_lists():
    two = candidates({"passes": [{"quantize_static": {"exclude": {"one_of": [["head"], []]}}}], "runtime": "onnxruntime"})
    assert [candidate.recipe.passes[0].options["exclude"] for candidate in two] == [["head"], []]


def test_a_choice_may_be_of_whole_sets_of_options_of_plugins_and_of_none():
    assert names({"passes": [{"prune": {"one_of": [{"ratio": 0.3}, {"ratio": 0.5, "finetune": True}, None]}}], "runtime": "torch"}) == [
        "prune-ratio0_3",
        "prune-ratio0_5-finetune",
        "prune-defaults",
    ]
    found = candidates({"passes": ["export_onnx", {"one_of": ["fold_constants", None]}], "runtime": "onnxruntime"})
    assert [candidate.name for candidate in found] == ["export_onnx-fold_constants", "export_onnx-no_fold_constants"]
    assert [len(candidate.recipe.passes) for candidate in found] == [2, 1]
    assert names({"runtime": {"one_of": ["torch", {"torch_compile": {"mode": {"one_of": ["default", "max-autotune"]}}}]}}) == [
        "torch",
        "torch_compile-default",
        "torch_compile-max_autotune",
    ]


def test_names_are_told_apart_fit_a_file_and_do_not_change_when_a_choice_is_added():
    entry = {"passes": ["export_onnx"], "runtime": "onnxruntime"}
    assert names(entry, {**entry, "runtime": "openvino"}) == ["export_onnx-onnxruntime", "export_onnx-openvino"]
    assert names(entry, entry) == ["export_onnx-onnxruntime-1", "export_onnx-onnxruntime-2"]
    assert names({**entry, "name": "float"}) == ["float"]
    long = {"runtime": {"onnxruntime": {f"option_number_{number}": {"one_of": [True, False]} for number in range(5)}}}
    found = names(long)
    assert len(set(found)) == 32
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name) for name in found)
    more = {"quantize_static": {**STATIC["quantize_static"], "method": {"one_of": ["minmax", "entropy", "percentile"]}}}
    runtime = {"runtime": "onnxruntime"}
    assert set(names({"passes": [STATIC], **runtime})) < set(names({"passes": [more], **runtime}))


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            {"runtime": {"onnxruntime": {"threads": {"one_of": []}}}},
            "search.space[0].runtime.onnxruntime.threads.one_of: a list of at least",
        ),
        (
            {"runtime": {"onnxruntime": {"threads": {"one_of": 4}}}},
            "search.space[0].runtime.onnxruntime.threads.one_of: a list of at least",
        ),
        ({"runtime": {"onnxruntime": {"threads": {"one_of": [1, 1]}}}}, "threads.one_of[1]: stands twice in this choice"),
        ({"runtime": {"onnxruntime": {"threads": {"one_of": [1], "of": 2}}}}, "threads: 'one_of' stands alone"),
        ({"runtime": {"one_of": ["torch", {"one_of": ["a", "b"]}]}}, "runtime.one_of[1]: a choice stands in a choice"),
        ({"runtime": {"one_of": ["torch", 3]}}, "runtime.one_of[1]: write one name, or one name with its options"),
        ({"runtime": {"one_of": ["torch", None]}}, "runtime.one_of[1]: write one name, or one name with its options"),
    ],
)
def test_a_choice_that_is_none_is_told_with_its_key(entry, told):
    with pytest.raises(BadInput) as caught:
        candidates(entry)
    assert told in str(caught.value)


def test_more_candidates_than_allowed_are_refused_before_one_is_made():
    many = {"runtime": {"onnxruntime": {f"o{number}": {"one_of": list(range(100))} for number in range(10)}}}
    with pytest.raises(BadInput, match=r"100,000,000,000,000,000,000 candidates, 200 are allowed\n.*--limit 1000"):
        candidates(many)
    assert len(candidates({"passes": [STATIC], "runtime": "onnxruntime"}, limit=4)) == 4
    with pytest.raises(BadInput, match="4 candidates, 3 are allowed"):
        candidates({"passes": [STATIC], "runtime": "onnxruntime"}, limit=3)


SCENARIO = """\
version: 1
name: tiny
model: {fake: {latency_us: 300}}
data: {random: {x: "float32[4]"}}
recipes:
  base: {runtime: fake}
reference: base
search:
  space:
    - runtime: {fake: {add_latency_us: {one_of: [0, 5, fast]}}}
    - passes: [export_onnx]
      runtime: fake
"""


def read(tmp_path, text=SCENARIO):
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    return read_space(read_scenario(path, root=tmp_path), 200)


def test_a_candidate_that_no_recipe_can_be_is_named_with_the_reason_and_the_others_stay(tmp_path):
    space = read(tmp_path)
    assert [candidate.name for candidate in space.candidates] == [
        "fake-add_latency_us0",
        "fake-add_latency_us5",
        "fake-fast",
        "export_onnx",
    ]
    assert set(space.impossible) == {"fake-fast", "export_onnx"}
    assert "'fast' is not a number" in space.impossible["fake-fast"]
    assert "'export_onnx' takes torch_module" in space.impossible["export_onnx"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("search:\n", "searches:\n", "tiny.yaml:8 searches: unknown key 'searches'\n  did you mean 'search'?"),
        ("  space:\n", "  against: bsae\n  space:\n", "tiny.yaml:9 search.against: unknown recipe 'bsae'\n  did you mean 'base'?"),
        ("reference: base\n", "", "tiny.yaml:7 search.against: names no recipe to measure candidates against"),
        ("[0, 5, fast]", "[]", "tiny.yaml:10 search.space[0].runtime.fake.add_latency_us.one_of: a list of at least one value"),
        ("- runtime", "- name: base\n      runtime", ""),
        ("      runtime: fake\n", "", "tiny.yaml:11 search.space[1].runtime: is missing"),
    ],
)
def test_what_is_wrong_with_a_space_has_file_line_and_key(tmp_path, old, new, told):
    assert old in SCENARIO
    text = SCENARIO.replace(old, new)
    if not told:
        assert read(tmp_path, text).candidates[0].name == "base-add_latency_us0"
        return
    with pytest.raises(BadInput) as caught:
        read(tmp_path, text)
    assert told in str(caught.value)


def test_the_form_of_a_space_is_checked_without_making_a_candidate(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO.replace("  space:\n", "  against: bsae\n  space:\n").replace("[0, 5, fast]", "5"))
    with pytest.raises(BadInput) as caught:
        read_scenario(path, root=tmp_path)
    assert [problem.key for problem in caught.value.problems] == [
        "search.against",
        "search.space[0].runtime.fake.add_latency_us.one_of",
    ]
    path.write_text(SCENARIO)
    scenario = read_scenario(path, root=tmp_path).scenario
    assert check_space(scenario.model_copy(update={"search": None})) == []


def test_a_candidate_may_not_be_called_as_the_reference_is(tmp_path):
    text = SCENARIO.replace("    - passes: [export_onnx]\n", "    - name: base\n")
    with pytest.raises(BadInput, match=r"tiny\.yaml:11 search\.space\[1\]: a candidate would be called 'base', as the reference is"):
        read(tmp_path, text)
