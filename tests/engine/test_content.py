import dataclasses
import json

import pytest
from fakes.projects import TOOLCHAIN, Project, code_project, fake_project

from harness import plugins
from harness.core.errors import BadInput
from harness.engine import content
from harness.engine.content import derive
from harness.engine.toolchain import Toolchain

RECIPES = ("plain", "int8", "fused")


@pytest.fixture
def project(tmp_path):
    return code_project(tmp_path / "project")


def with_versions(**versions):
    return dataclasses.replace(TOOLCHAIN, versions=TOOLCHAIN.versions | versions)


def options_of(family, name, **options):
    """All options of a plugin with their defaults, as YAML on one line."""
    return json.dumps(plugins.load(family, name)(**options).model_dump(mode="json"))


NO_CHANGE = {
    "a comment": ("models/net.py", "import torch\n", "import torch  # the framework\n"),
    "a blank line": ("models/layers/dense.py", "\n\n\ndef", "\n\n\n\n\ndef"),
    "a document": ("README.md", "What this is.", "What this was."),
    "a comment in the scenario": ("scenario.yaml", "name: coded", "name: coded  # with code"),
    "another description": ("scenario.yaml", "name: coded", "name: coded\ndescription: Other words."),
    "a promise": ("scenario.yaml", "recipes:", "sla: {accuracy: at least 97 %}\nrecipes:"),
    "another tolerance": ("scenario.yaml", "recipes:", "gate: {latency_p50: 3 %}\nrecipes:"),
    "longer launches": ("scenario.yaml", "recipes:", "measure: {duration: 5 s, warm_up: 2 s, launches: 9}\nrecipes:"),
    "one batch size more": ("scenario.yaml", "recipes:", "measure: {batch_sizes: [1, 8]}\nrecipes:"),
    "the load that is meant anyway": ("scenario.yaml", "recipes:", "measure: {load: single_stream}\nrecipes:"),
    "one recipe more": ("scenario.yaml", "recipes:", "recipes:\n  more: {runtime: torch}"),
    "a reference": ("scenario.yaml", "recipes:", "reference: plain\nrecipes:"),
    "the seed that is meant anyway": ("scenario.yaml", "name: coded", "name: coded\nseed: 0"),
    "the long form of the source": ("scenario.yaml", "factory: models/net.py:build", "factory: {target: models/net.py:build}"),
}


@pytest.mark.parametrize("change", NO_CHANGE)
def test_what_decides_nothing_leaves_every_key_alone(project, change):
    before = project.derive("int8")
    project.change(*NO_CHANGE[change])
    after = project.derive("int8")
    assert (after.content, after.data, after.predictions) == (before.content, before.data, before.predictions)
    assert [step.key for step in after.steps] == [step.key for step in before.steps]


def test_options_at_their_defaults_written_out_are_no_change(project):
    before = project.derive("int8")
    project.change("scenario.yaml", "{per_channel: true}", options_of("passes", "quantize_static", per_channel=True))
    project.change("scenario.yaml", "runtime: onnxruntime", f"runtime: {{onnxruntime: {options_of('runtimes', 'onnxruntime')}}}")
    project.change("scenario.yaml", "[export_onnx,", f"[export_onnx: {options_of('passes', 'export_onnx')},")
    after = project.derive("int8")
    assert [step.key for step in after.steps] == [step.key for step in before.steps]
    assert after.content == before.content


def test_a_file_that_nothing_imports_decides_nothing(project):
    before = project.derive()
    project.write("models/other.py", "x = 1\n")
    project.write("models/layers/unused.py", "x = 1\n")
    assert project.derive() == before


CHANGE = {
    "the factory's code": ("models/net.py", "make(width)", "make(width + 1)"),
    "an imported module": ("models/layers/dense.py", "* width", "* width * 2"),
    "a module that is imported by an imported one": ("models/layers/names.py", '"dense"', '"sparse"'),
    "a package on the way": ("models/layers/__init__.py", "", "x = 1\n"),
    "other arguments": ("scenario.yaml", "{width: 4}", "{width: 5}"),
    "arguments of another type": ("scenario.yaml", "{width: 4}", '{width: "4"}'),
    "other weights": ("models/weights.bin", "0123456789", "0123456780"),
    "one file less": ("scenario.yaml", "  files: [models/weights.bin]\n", ""),
    "another factory": ("scenario.yaml", "models/rows.py:test_set", "models/rows.py:train_set"),
    "the data's code": ("models/rows.py", "np.eye(8)", "np.eye(9)"),
    "the data's arguments": ("scenario.yaml", "  task: classification", "  task: classification\n  args: {count: 8}"),
    "another task": ("scenario.yaml", "task: classification", "task: other"),
    "another seed": ("scenario.yaml", "name: coded", "name: coded\nseed: 1"),
    "another load": ("scenario.yaml", "recipes:", "measure: {load: offline}\nrecipes:"),
    "fewer cores": ("scenario.yaml", "recipes:", "hardware: [{name: cpu, cores: 1}]\nrecipes:"),
    "other threads": ("scenario.yaml", "recipes:", "hardware: [{name: cpu, threads: 1}]\nrecipes:"),
}


@pytest.mark.parametrize("change", CHANGE)
def test_what_goes_in_changes_the_content(project, change):
    path, before, after = CHANGE[change]
    first = project.derive().content
    if before:
        project.change(path, before, after)
    else:
        project.write(path, after)
    second = project.derive().content
    assert second.source != first.source and second.digest != first.digest
    assert second.toolchain.keys() == first.toolchain.keys() or change == "another load"


RECIPE_CHANGE = {
    "another option of a pass": ("int8", "per_channel: true", "per_channel: false"),
    "one pass less": ("int8", "[export_onnx, quantize_static: {per_channel: true}]", "[export_onnx]"),
    "another runtime option": ("int8", "runtime: onnxruntime", "runtime: {onnxruntime: {optimization: basic}}"),
    "another option of the user's own pass": ("fused", "{level: 2}", "{level: 3}"),
}


@pytest.mark.parametrize("change", RECIPE_CHANGE)
def test_what_a_recipe_does_changes_the_content_of_that_recipe_alone(project, change):
    recipe, before, after = RECIPE_CHANGE[change]
    first = {name: project.derive(name) for name in RECIPES}
    project.change("scenario.yaml", before, after)
    assert [name for name in RECIPES if project.derive(name).content.source != first[name].content.source] == [recipe]


def test_a_pass_of_the_users_own_enters_by_its_code_and_by_what_it_imports(project):
    first = project.derive("fused")
    project.change("my_passes/depth.py", "3", "4")
    second = project.derive("fused")
    project.change("my_passes/fuse.py", "class Fuse:\n", "class Fuse:\n    level = 1\n")
    third = project.derive("fused")
    project.change("my_passes/fuse.py", "level = 1\n", "level = 1  # at least\n")
    fourth = project.derive("fused")
    assert len({first.content.source, second.content.source, third.content.source}) == 3
    assert fourth == third
    assert first.steps[0].key == second.steps[0].key == third.steps[0].key, "the model before the pass is the same"


def test_a_pass_of_the_users_own_may_read_all_the_data_that_there_is(project):
    assert project.derive("fused").steps[-1].reads == ("evaluation", "calibration")
    assert [step.reads for step in project.derive("int8").steps] == [("evaluation",), ("evaluation",), ("calibration",)]
    assert set(project.derive("plain").data) == {"evaluation"}


def test_another_batch_size_is_other_content_of_the_same_artifact(project):
    one, eight = project.derive("int8"), project.derive("int8", batch_size=8)
    assert one.steps == eight.steps and one.data == eight.data
    assert one.content.source != eight.content.source and one.predictions != eight.predictions


def test_recipes_share_the_steps_that_they_have_in_common(project):
    assert project.derive("int8").steps[0] == project.derive("plain").steps[0] == project.derive("fused").steps[0]


def test_another_runtime_opens_the_same_artifact_and_may_answer_otherwise(tmp_path):
    project = fake_project(tmp_path)
    plain, slower = project.derive("plain"), project.derive("slower")
    assert plain.steps == slower.steps
    assert plain.predictions != slower.predictions and plain.content.source != slower.content.source


def test_calibration_data_enter_where_they_are_read(project):
    before = project.derive("int8")
    plain = project.derive("plain")
    project.change("scenario.yaml", "calibration: models/rows.py:train_set", "calibration: models/rows.py:test_set")
    after = project.derive("int8")
    changed = [old.key != new.key for old, new in zip(before.steps, after.steps, strict=True)]
    assert changed == [False, False, True]
    assert project.derive("plain") == plain


@pytest.mark.parametrize(
    ("toolchain", "changed"),
    [
        (with_versions(torch="2.14.0"), {"plain", "int8", "fused"}),
        (with_versions(numpy="2.5.0"), {"plain", "int8", "fused"}),
        (with_versions(onnxruntime="1.26.0"), {"int8"}),
        (with_versions(requests="3.0"), set()),
        (dataclasses.replace(TOOLCHAIN, python="3.12"), {"plain", "int8", "fused"}),
    ],
)
def test_another_version_of_what_takes_part_is_other_content_of_the_same_source(project, toolchain, changed):
    for recipe in RECIPES:
        before, after = project.derive(recipe).content, project.derive(recipe, toolchain=toolchain).content
        assert after.source == before.source
        assert (after.digest != before.digest) is (recipe in changed)
        assert (after.toolchain != before.toolchain) is (recipe in changed)


def test_a_package_takes_part_as_soon_as_code_imports_it(project):
    assert "requests" not in project.derive().content.toolchain
    project.change("models/layers/names.py", "NAME", "import requests\n\nNAME")
    assert project.derive().content.toolchain["requests"] == "2.32.0"


def test_a_package_that_is_not_installed_has_no_version(project):
    bare = Toolchain("3.11", {}, {})
    assert {name for name in project.derive("int8", toolchain=bare).content.toolchain if "." not in name} == {"python"}


def test_a_built_in_plugin_enters_by_a_version_of_its_own(project, monkeypatch):
    before = project.derive("int8")
    assert {name for name in before.content.toolchain if "." in name} == {
        "harness.sources.factory",
        "harness.passes.export_onnx",
        "harness.passes.quantize_static",
        "harness.runtimes.onnxruntime",
        "harness.loads.single_stream",
    }
    monkeypatch.setattr(content, "plugin_digest", lambda path: "changed" if path.stem == "export_onnx" else "as it was")
    changed = project.derive("int8")
    monkeypatch.setattr(content, "plugin_digest", lambda path: "as it was")
    after = project.derive("int8")
    assert changed.content.source == after.content.source == before.content.source
    assert changed.content.digest != after.content.digest
    differs = [one.key != other.key for one, other in zip(changed.steps, after.steps, strict=True)]
    assert differs == [False, True, True]


@pytest.mark.parametrize(
    ("plugin", "file"),
    [
        ("serving/embedded.py", "server/batching.py"),
        ("serving/embedded.py", "kserve/codec.py"),
        ("serving/triton.py", "serving/_triton_model.py"),
        ("loads/locust.py", "loads/_locust_users.py"),
    ],
)
def test_the_programs_that_a_plugin_starts_are_part_of_its_version(monkeypatch, plugin, file):
    """The embedded server and the generators are started, not imported: another batching is another server."""
    plain, changed = content.plugin_digest.__wrapped__, plugins.PACKAGE / file
    before = plain(plugins.PACKAGE / plugin)
    code_text = content.code_text
    monkeypatch.setattr(content, "code_text", lambda path: code_text(path) + ("\nchanged = True" if path == changed else ""))
    assert plain(plugins.PACKAGE / plugin) != before
    monkeypatch.setattr(content, "code_text", lambda path: code_text(path) + ("\nchanged = True" if "engine" in path.parts else ""))
    assert plain(plugins.PACKAGE / plugin) == before  # what the engine decides is told by BUILD


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_project_in_another_folder_has_the_same_keys(project, tmp_path, recipe):
    elsewhere = code_project(tmp_path / "far" / "away")
    assert elsewhere.derive(recipe) == project.derive(recipe)


def test_a_scenario_may_lie_in_a_folder_of_the_project_and_its_place_there_counts(tmp_path):
    whole = Project(tmp_path)
    code_project(tmp_path / "scenarios")
    code_project(tmp_path / "others")
    (tmp_path / ".git").mkdir()
    one, other = (derive(whole.trial(path=f"{folder}/scenario.yaml"), TOOLCHAIN) for folder in ("scenarios", "others"))
    assert one.content.source != other.content.source, "the code's path decides under which name it is imported"


def test_drawn_data_follow_from_their_form_their_number_and_the_seed(tmp_path):
    project = fake_project(tmp_path)
    keys = [project.derive().data["evaluation"]]
    for before, after in (("float32[4]", "float32[5]"), ("samples: 8", "samples: 9"), ("name: tiny", "name: tiny\nseed: 1")):
        project.change("scenario.yaml", before, after)
        keys.append(project.derive().data["evaluation"])
    assert len(set(keys)) == 4


def test_nothing_of_the_users_is_run_to_find_what_goes_in(project):
    for path in ("models/net.py", "models/layers/__init__.py", "models/rows.py", "my_passes/fuse.py"):
        text = (project.root / path).read_text()
        project.write(path, f"{text}\nraise SystemExit('this was run')\n")
    assert {recipe: len(project.derive(recipe).steps) for recipe in RECIPES} == {"plain": 1, "int8": 3, "fused": 2}


def test_keys_are_all_different_and_fit_for_file_names(project):
    made = project.derive("int8")
    keys = [*(step.key for step in made.steps), *made.data.values(), made.predictions, made.content.source, made.content.digest]
    assert len(set(keys)) == len(keys) == 8
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in keys)


def test_code_that_a_pass_names_enters_with_all_that_it_imports(project):
    project.write("students/small.py", "from sizes import WIDTH\n\n\ndef build():\n    return WIDTH\n")
    project.write("students/sizes.py", "WIDTH = 4\n")
    project.change("scenario.yaml", "recipes:", "recipes:\n  taught: {passes: [distill: students/small.py:build], runtime: torch}")
    project.change("scenario.yaml", "  task: classification", "  training: models/rows.py:train_set\n  task: classification")
    plain, first = project.derive("plain"), project.derive("taught")
    project.change("students/sizes.py", "4", "5")
    second = project.derive("taught")
    project.change("students/sizes.py", "5", "5  # units")
    assert project.derive("taught") == second
    assert second.content.source != first.content.source
    assert [one.key == other.key for one, other in zip(first.steps, second.steps, strict=True)] == [True, False]
    assert project.derive("plain") == plain


def test_code_that_a_pass_names_and_that_is_not_there_is_told_before_anything_runs(project):
    project.change("scenario.yaml", "recipes:", "recipes:\n  taught: {passes: [distill: students/none.py:build], runtime: torch}")
    project.change("scenario.yaml", "  task: classification", "  training: models/rows.py:train_set\n  task: classification")
    with pytest.raises(BadInput, match=r"recipes\.taught\.passes\[0\]: file 'students/none\.py' does not exist"):
        project.derive("taught")
