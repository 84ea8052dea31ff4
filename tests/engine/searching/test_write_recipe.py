"""A recipe written into a scenario: the rest of the file stays as it was to the byte."""

import difflib

import pytest

from harness.core.allowed import NOTHING_MORE
from harness.core.errors import BadInput
from harness.core.scenario import Recipe
from harness.engine.read_scenario import read_scenario
from harness.engine.searching.write_recipe import check_name, write_recipe

SCENARIO = """\
# The first line is a comment
version: 1
name:   tiny          # spaces that nobody asked for
model: {fake: {latency_us:   300}}
data: {random: {x: "float32[4]"}}

recipes:   # by hand
  "base": {runtime: fake}   # what we had

  slow:
    runtime:
      fake: {add_latency_us: 1.50e+2}  # as it was found
  # a thought about recipes

# what must hold
sla:
    latency_p50: 'at most 50 ms'
"""
FAST = Recipe.model_validate({"name": "candidate", "runtime": {"fake": {"add_latency_us": 5}}})


@pytest.fixture
def scenario(tmp_path):
    (tmp_path / ".git").mkdir()
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO)
    return path


def write(path, name="fast", recipe=FAST, **options):
    return write_recipe(path, name, recipe, "found", allowed=NOTHING_MORE, **options)


def changes(before, after):
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def test_lines_are_added_and_no_other_changes(scenario):
    written = write(scenario)
    assert changes(SCENARIO, scenario.read_text()) == ["+   # found", "+   fast:", "+     runtime: {fake: {add_latency_us: 5}}"]
    assert scenario.read_text().splitlines()[written.line - 1] == "  fast:"
    assert read_scenario(scenario).scenario.recipes["fast"].runtime.options == {"add_latency_us": 5}


def test_passes_and_their_options_are_written_as_people_write_them(scenario):
    text = SCENARIO.replace("{fake: {latency_us:   300}}", "{onnx: net.onnx}").replace("runtime: fake", "runtime: onnxruntime")
    text = text.replace("fake: {add_latency_us: 1.50e+2}", "onnxruntime: {}")
    scenario.write_text(text)
    (scenario.parent / "net.onnx").write_text("")
    options = {"per_channel": True, "method": "entropy", "exclude": ["a", "b: c", "off", "1"]}
    passes = ["optimize_onnx", {"quantize_dynamic": {}}, {"./own.py": {"level": 2, "text": "on"}}]
    (scenario.parent / "own.py").write_text("class Own: ...\nPLUGIN = Own\n")
    recipe = Recipe.model_validate({"name": "x", "passes": [*passes, {"./own.py": options}], "runtime": {"onnxruntime": {}}})
    write(scenario, recipe=recipe)
    assert changes(text, scenario.read_text())[2:] == [
        "+     passes:",
        "+       - optimize_onnx",
        "+       - quantize_dynamic",
        "+       - ./own.py: {level: 2, text: on}",
        "+       - ./own.py: {per_channel: true, method: entropy, exclude: [a, 'b: c', off, '1']}",
        "+     runtime: onnxruntime",
    ]
    assert read_scenario(scenario).scenario.recipes["fast"] == recipe.model_copy(update={"name": "fast"})


def test_a_recipe_that_is_there_is_replaced_only_by_force(scenario):
    with pytest.raises(BadInput, match=r"tiny\.yaml:10 recipes\.slow: is there already\n.*--force"):
        write(scenario, "slow")
    assert scenario.read_text() == SCENARIO
    write(scenario, "slow", force=True)
    removed = ["-   slow:", "-     runtime:", "-       fake: {add_latency_us: 1.50e+2}  # as it was found"]
    assert sorted(changes(SCENARIO, scenario.read_text())) == sorted(
        ["+   # found", "+   slow:", "+     runtime: {fake: {add_latency_us: 5}}", *removed]
    ) or read_scenario(scenario).scenario.recipes["slow"].runtime.options == {"add_latency_us": 5}
    assert scenario.read_text().count("slow:") == 1


def test_windows_line_ends_and_a_missing_last_one_stay(scenario):
    text = SCENARIO.partition("  # a thought")[0].rstrip().replace("\n", "\r\n")
    scenario.write_bytes(text.encode())
    write(scenario)
    added = "\r\n  # found\r\n  fast:\r\n    runtime: {fake: {add_latency_us: 5}}\r\n"
    assert scenario.read_bytes().decode() == text + added


def test_recipes_in_braces_get_one_more(scenario):
    scenario.write_text(SCENARIO[: SCENARIO.index("recipes:")] + "recipes: {base: {runtime: fake}}  # short\n")
    write(scenario)
    assert (
        scenario.read_text().splitlines()[-1] == "recipes: {base: {runtime: fake}, fast: {runtime: {fake: {add_latency_us: 5}}}}  # short"
    )


def test_a_file_that_takes_its_recipes_from_another_gets_its_own(scenario):
    (scenario.parent / "_base.yaml").write_text(SCENARIO)
    scenario.write_text("extends: _base.yaml\nname: other")
    write(scenario)
    assert scenario.read_text().startswith("extends: _base.yaml\nname: other\nrecipes:\n  # found\n  fast:\n")
    assert list(read_scenario(scenario).scenario.recipes) == ["base", "slow", "fast"]


@pytest.mark.parametrize(
    "recipes",
    ["recipes: &all\n  base: {runtime: fake}\n", "recipes: *all\n"],
)
def test_where_there_is_no_safe_place_the_file_stays_as_it_was(scenario, recipes):
    head = SCENARIO[: SCENARIO.index("recipes:")].replace("version: 1", "version: 1\ndescription: plain")
    text = f"{head}{recipes}"
    scenario.write_text(text)
    with pytest.raises(BadInput):
        write(scenario)
    assert scenario.read_text() == text


@pytest.mark.parametrize("name", ["", "-best", "best recipe", "x" * 65])
def test_a_name_that_no_recipe_can_have_is_refused(scenario, name):
    with pytest.raises(BadInput, match="is no name for a recipe"):
        check_name(scenario, name, allowed=NOTHING_MORE, force=False)
