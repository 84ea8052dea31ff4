from pathlib import Path

import pytest
from scenario_files import CODE, GOOD, RIGHT, WRONG, Project, changed, name_of

from harness.core.errors import BadInput, ExitCode
from harness.core.scenario import PluginRef
from harness.core.units import Notation, Quantity, Unit
from harness.engine.plugin_options import plugin_of
from harness.engine.read_scenario import project_root, read_scenario, read_scenarios


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return Project(tmp_path / "project")


def told(call, *arguments, **options):
    with pytest.raises(BadInput) as refused:
        call(*arguments, **options)
    assert refused.value.exit_code is ExitCode.BAD_INPUT
    return str(refused.value)


@pytest.mark.parametrize("case", RIGHT, ids=name_of)
def test_a_scenario_that_is_right_is_read(project, case):
    assert project.refusal(changed(*case)) == "nothing: the file was read"


@pytest.mark.parametrize("case", WRONG, ids=name_of)
def test_what_is_wrong_is_told_in_full(project, case):
    assert project.refusal(changed(case.old, case.new)) == case.told


def test_quantities_are_held_in_base_units_and_short_forms_spelled_out(project):
    scenario = project.read(GOOD).scenario
    assert scenario.measure.duration == 2e9
    assert scenario.measure.warm_up == 0.25e9
    assert scenario.gate["latency_p50"].tolerance == Quantity(0.03, Unit.FRACTION, Notation.PERCENT)
    assert scenario.model.source == PluginRef(name="factory", options={"": "net.py:build"})
    int8 = scenario.recipes["int8"]
    assert int8.passes == (PluginRef(name="export_onnx"), PluginRef(name="quantize_static", options={"per_channel": True}))
    assert (int8.name, int8.runtime.name) == ("int8", "onnxruntime")
    assert [clause.limit for clause in scenario.clauses()] == [50e6, 0.01]


def test_a_scenario_keeps_its_text_its_folder_and_the_line_of_every_key(project):
    file = project.read(GOOD)
    assert (file.text, file.path, file.folder) == (GOOD, Path("scenarios/s.yaml"), Path("scenarios"))
    lines = GOOD.splitlines()
    for key, words in {
        "name": "name: digits",
        "recipes.int8.passes[1]": "- quantize_static",
        "sla.int8.accuracy": "int8.accuracy: at most",
        "gate.accuracy.tolerance": "0.5 points",
    }.items():
        assert words in lines[file.lines[key] - 1]


def test_all_that_is_wrong_with_the_form_is_told_at_once(project):
    text = changed("task: classification", "task: clasification", changed("duration: 2 s", "duration: 2", changed("name: digits\n", "")))
    assert project.refusal(text) == (
        "scenarios/s.yaml:1 name: is missing\n"
        "scenarios/s.yaml:7 data.task: 'clasification' is not one of 'classification', 'embedding', 'regression' or 'other'\n"
        "  did you mean 'classification'?\n"
        "scenarios/s.yaml:19 measure.duration: 2 has no unit: write '2 s', or another of ns, us, µs, ms, s, min"
    )


def test_all_that_is_wrong_with_the_sense_is_told_at_once(project):
    text = changed("reference: fp32", "reference: fp23", changed("at most 50 ms", "at most 50", changed("net.py:build", "net.py:biuld")))
    assert project.refusal(changed("quantize_static", "quantise_static", text)) == (
        "scenarios/s.yaml:4 model.factory: net.py has no function 'biuld'\n"
        "  did you mean 'build'?\n"
        "scenarios/s.yaml:14 recipes.int8.passes[1]: unknown pass 'quantise_static'\n"
        f"  did you mean 'quantize_static'? {counted('passes')}\n"
        "scenarios/s.yaml:16 reference: unknown recipe 'fp23'\n"
        "  did you mean 'fp32'?\n"
        "scenarios/s.yaml:22 sla.latency_p99: 'at most 50' has no unit, and latency_p99 is a time\n"
        "  write 'at most 50 ms'"
    )


def counted(family):
    from harness import plugins

    return f"'harness list {family}' shows all {len(plugins.names(family))}"


def test_reading_runs_none_of_the_scenarios_python(project):
    marked = "from pathlib import Path\nPath('ran').touch()\n"
    project.write("scenarios/net.py", marked + CODE.partition("\n")[2])
    project.write("scenarios/own_pass.py", marked + "class Own: ...\nPLUGIN = Own\n")
    project.read(changed("- export_onnx\n", "- export_onnx\n      - ./own_pass.py: {level: 2}\n"))
    assert not Path("ran").exists()


def test_a_link_that_leads_out_of_the_project_is_followed_and_refused(project):
    project.root.joinpath("scenarios/linked.py").symlink_to(project.root.parent / "out.py")
    assert project.refusal(changed("net.py:build", "linked.py:build")) == (
        "scenarios/s.yaml:4 model.factory: 'linked.py' lies outside the project\n  files of a scenario stay inside ROOT"
    )


def test_a_plugin_of_the_users_own_outside_of_the_project_is_refused(project):
    assert project.refusal(changed("- export_onnx", "- ../../out.py")) == (
        "scenarios/s.yaml:13 recipes.int8.passes[0]: '../../out.py' lies outside the project\n  files of a scenario stay inside ROOT"
    )


def test_an_absolute_path_is_told_as_it_was_given(project):
    path = project.root / project.write("scenarios/s.yaml", changed("name: digits\n", ""))
    assert told(read_scenario, path) == f"{path}:1 name: is missing"


def test_a_file_that_is_not_there_is_told_with_the_nearest_name(project):
    project.write("scenarios/resnet.yaml", GOOD)
    assert told(read_scenarios, [Path("scenarios/resnt.yaml")]) == (
        "scenarios/resnt.yaml: does not exist\n  did you mean 'scenarios/resnet.yaml'?"
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty"),
        ("# nothing yet\n", "is empty"),
        ("---\n...\n", "is empty"),
        ("- version: 1\n", "holds a list, not keys"),
        ("version 1\n", "holds one value, not keys"),
    ],
)
def test_a_file_without_keys_is_told_how_a_scenario_starts(project, text, what):
    assert project.refusal(text) == (
        f"scenarios/s.yaml: {what}\n  a scenario starts with 'version: 1' and 'name:'; 'harness init' writes one"
    )


# Several files


def test_a_folder_holds_scenarios_but_not_bases_nor_hardware(project):
    project.write("scenarios/b.yaml", changed("name: digits", "name: b"))
    project.write("scenarios/a.yaml", changed("name: digits", "name: a"))
    project.write("scenarios/_base.yaml", "measure: {}\n")
    project.write("scenarios/hardware.yaml", "version: 1\ntargets: {}\n")
    project.write("scenarios/notes.yml", "- not read\n")
    files = read_scenarios([Path("scenarios"), Path("scenarios/b.yaml")])
    assert [str(file.path) for file in files] == ["scenarios/a.yaml", "scenarios/b.yaml"]


def test_a_folder_without_scenarios_says_how_to_get_one(project):
    assert told(read_scenarios, [Path("scenarios/models")]) == (
        "scenarios/models: holds no scenario (*.yaml)\n  'harness init' writes a first one"
    )


def test_the_problems_of_every_file_are_told(project):
    project.write("scenarios/a.yaml", changed("name: digits\n", ""))
    project.write("scenarios/b.yaml", "version: [1\n")
    project.write("scenarios/c.yaml", GOOD)
    assert told(read_scenarios, [Path("scenarios")]) == (
        "scenarios/a.yaml:1 name: is missing\nscenarios/b.yaml:1: is not valid YAML: this bracket is never closed"
    )


def test_two_scenarios_of_one_name_are_refused(project):
    project.write("scenarios/a.yaml", GOOD)
    project.write("scenarios/b.yaml", GOOD)
    assert told(read_scenarios, [Path("scenarios")]) == (
        "scenarios/b.yaml:2 name: 'digits' is also the name of scenarios/a.yaml\n  baselines belong to a name: give each scenario its own"
    )


def test_the_project_is_the_git_work_tree_or_else_the_files_folder(tmp_path):
    (tmp_path / "repo" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "repo" / ".git").write_text("gitdir: elsewhere\n")
    (tmp_path / "bare").mkdir()
    assert project_root(tmp_path / "repo" / "deep" / "er" / "s.yaml") == (tmp_path / "repo").resolve()
    assert project_root(tmp_path / "bare" / "s.yaml") == (tmp_path / "bare").resolve()


# extends


def test_a_file_lies_over_the_one_that_it_extends_key_by_key(project):
    project.write("scenarios/_base.yaml", GOOD)
    scenario = project.read(
        "extends: _base.yaml\nname: other\nmeasure: {batch_sizes: [4]}\nsla: {throughput: at least 1 /s}\n"
        "recipes: {int8: {passes: [export_onnx, quantize_dynamic]}}\n"
    ).scenario
    assert scenario.name == "other"
    assert (scenario.measure.batch_sizes, scenario.measure.duration) == ((4,), 2e9)
    assert set(scenario.sla) == {"latency_p99", "int8.accuracy", "throughput"}
    assert [step.name for step in scenario.recipes["int8"].passes] == ["export_onnx", "quantize_dynamic"]
    assert scenario.recipes["int8"].runtime.name == "onnxruntime"
    assert list(scenario.recipes) == ["fp32", "int8"]


def test_a_chain_of_bases_is_followed_and_the_nearest_wins(project):
    project.write("common/_root.yaml", changed("name: digits", "name: root").replace("net.py", "../scenarios/net.py"))
    project.write("scenarios/_middle.yaml", "extends: ../common/_root.yaml\nname: middle\nseed: 1\nmodel: {factory: net.py:build}\n")
    project.write("scenarios/s.yaml", "extends: _middle.yaml\nseed: 2\n")
    scenario = read_scenario(Path("scenarios/s.yaml")).scenario
    assert (scenario.name, scenario.seed) == ("middle", 2)


def test_an_error_stands_in_the_line_of_the_file_that_made_it(project):
    text = changed("duration: 2 s", "duration: 2", changed("task: classification", "task: clasification"))
    project.write("common/base.yaml", text.replace("net.py", "../a.py"))
    assert project.refusal("extends: ../common/base.yaml\nname: s\nhardware: cpu\n") == (
        "common/base.yaml:8 data.task: 'clasification' is not one of 'classification', 'embedding', 'regression' or 'other'\n"
        "  did you mean 'classification'?\n"
        "common/base.yaml:20 measure.duration: 2 has no unit: write '2 s', or another of ns, us, µs, ms, s, min\n"
        "scenarios/s.yaml:3 hardware: 'cpu' is not a list\n"
        "  write [cpu]"
    )


def test_what_is_right_in_the_base_and_wrong_over_it_stands_in_the_upper_file(project):
    project.write("scenarios/_base.yaml", GOOD)
    assert project.refusal("extends: _base.yaml\nrecipes:\n  int8:\n    passes: [export_onnx, quantise_static]\n") == (
        f"scenarios/s.yaml:4 recipes.int8.passes[1]: unknown pass 'quantise_static'\n  did you mean 'quantize_static'? {counted('passes')}"
    )


def test_what_is_missing_in_both_files_is_told_once_for_the_upper_one(project):
    project.write("scenarios/_base.yaml", changed("name: digits\n", ""))
    assert project.refusal("extends: _base.yaml\n").endswith("name: is missing")


@pytest.mark.parametrize(
    ("base", "over", "chosen"),
    [
        ("model: {factory: net.py:build}", "model: {./own_source.py: {a: 1}}", "./own_source.py"),
        ("model: {factory: net.py:build, args: {a: 1}}", "model: {torch_hub: resnet50}", "torch_hub"),
        ("model: {torch_hub: {name: resnet50}}", "model: {torch_hub: {weights: DEFAULT}}", "torch_hub"),
    ],
)
def test_another_source_takes_the_place_of_the_bases(project, base, over, chosen):
    project.write("scenarios/_base.yaml", changed("model:\n  factory: net.py:build", base))
    assert project.read(f"extends: _base.yaml\n{over}\n").scenario.model.source.name == chosen


def test_another_runtime_or_load_takes_the_place_of_the_bases_with_its_options(project):
    text = changed(
        "{runtime: torch}", "{runtime: {torch: {dtype: bfloat16}}}", changed("  duration", "  load: {single_stream: {}}\n  duration")
    )
    project.write("scenarios/_base.yaml", text)
    scenario = project.read(
        "extends: _base.yaml\nrecipes: {fp32: {passes: [export_onnx], runtime: {onnxruntime: {optimization: basic}}}}\n"
        "measure: {load: {offline: {}}}\n"
    ).scenario
    assert scenario.recipes["fp32"].runtime == PluginRef(name="onnxruntime", options={"optimization": "basic"})
    assert scenario.measure.load.name == "offline"


def test_options_of_the_same_runtime_are_merged(project):
    project.write("scenarios/_base.yaml", changed("{runtime: torch}", "{runtime: {torch: {dtype: bfloat16}}}"))
    scenario = project.read("extends: _base.yaml\nrecipes: {fp32: {runtime: {torch: {channels_last: true}}}}\n").scenario
    assert scenario.recipes["fp32"].runtime.options == {"dtype": "bfloat16", "channels_last": True}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("missing.yaml", "scenarios/s.yaml:2 extends: file 'missing.yaml' does not exist"),
        ("_bas.yaml", "scenarios/s.yaml:2 extends: file '_bas.yaml' does not exist\n  did you mean 'scenarios/_base.yaml'?"),
        ("models", "scenarios/s.yaml:2 extends: file 'models' does not exist"),
        ("../../b.yaml", "scenarios/s.yaml:2 extends: '../../b.yaml' lies outside the project\n  files of a scenario stay inside ROOT"),
        ("[_base.yaml]", "scenarios/s.yaml:2 extends: the path of one file is needed, relative to this one"),
        ("", "scenarios/s.yaml:2 extends: the path of one file is needed, relative to this one"),
        ("s.yaml", "scenarios/s.yaml:2 extends: extends itself: s.yaml -> s.yaml"),
        ("_loop.yaml", "scenarios/_loop.yaml:1 extends: extends itself: s.yaml -> _loop.yaml -> s.yaml"),
        ("_empty.yaml", "scenarios/_empty.yaml: is empty\n  a scenario starts with 'version: 1' and 'name:'; 'harness init' writes one"),
        (
            "_tab.yaml",
            "scenarios/_tab.yaml:2: is not valid YAML: found character '\\t' that cannot start any token\n"
            "  indent with spaces, not with tabs",
        ),
    ],
)
def test_a_base_that_cannot_be_laid_under_is_refused(project, written, said):
    project.write("scenarios/_base.yaml", GOOD)
    project.write("scenarios/_loop.yaml", "extends: s.yaml\n")
    project.write("scenarios/_empty.yaml", "# nothing\n")
    project.write("scenarios/_tab.yaml", "measure:\n\tduration: 2 s\n")
    (project.root.parent / "b.yaml").write_text(GOOD)
    assert project.refusal(f"version: 1\nextends: {written}\n") == said


def test_the_problems_of_a_shared_base_are_told_once(project):
    project.write("scenarios/_base.yaml", changed("duration: 2 s", "duration: 2"))
    project.write("scenarios/a.yaml", "extends: _base.yaml\nname: a\n")
    project.write("scenarios/b.yaml", "extends: _base.yaml\nname: b\n")
    assert told(read_scenarios, [Path("scenarios")]) == (
        "scenarios/_base.yaml:20 measure.duration: 2 has no unit: write '2 s', or another of ns, us, µs, ms, s, min"
    )


# hardware.yaml

HARDWARE = """\
version: 1
targets:
  small:
    requires: {cores: 2, memory: 4 GiB}
    price_per_hour: 0.1
"""


def test_a_target_of_hardware_yaml_is_used_by_its_name(project):
    project.write("scenarios/hardware.yaml", HARDWARE)
    (target,) = project.read(changed("[cpu]", "[small]")).targets
    assert (target.name, target.device, target.price_per_hour) == ("small", "cpu", 0.1)
    assert (target.requires.cores, target.requires.memory) == (2, 4 * 2.0**30)


def test_hardware_yaml_may_say_more_of_a_built_in_target(project):
    project.write("scenarios/hardware.yaml", "version: 1\ntargets: {cpu: {cores: 1}}\n")
    assert project.read(GOOD).targets[0].cores == 1


def test_unknown_hardware_is_told_with_all_that_is_known(project):
    project.write("scenarios/hardware.yaml", HARDWARE)
    assert project.refusal(changed("[cpu]", "[smal]")) == (
        "scenarios/s.yaml:17 hardware[0]: unknown hardware 'smal'\n"
        "  did you mean 'small'? known are cpu, cuda, small; others go into hardware.yaml beside the scenario"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "scenarios/hardware.yaml: has no value: keys are needed here"),
        ("- small\n", "scenarios/hardware.yaml:1: keys are needed here, not a list"),
        ("version: 2\ntargets: {}\n", "scenarios/hardware.yaml:1 version: 2 is not 1"),
        ("version: 1\n", "scenarios/hardware.yaml:1 targets: is missing"),
        (
            HARDWARE.replace("requires", "require"),
            "scenarios/hardware.yaml:4 targets.small.require: unknown key 'require'\n  did you mean 'requires'?",
        ),
        (
            HARDWARE.replace("4 GiB", "4"),
            "scenarios/hardware.yaml:4 targets.small.requires.memory: 4 has no unit: "
            "write '4 GiB', or another of B, kB, MB, GB, KiB, MiB, GiB",
        ),
        (
            HARDWARE.replace("small", "a small one"),
            "scenarios/hardware.yaml:3 targets.a small one: 'a small one' is not a name\n"
            "  a name starts with a letter or a digit; letters, digits, '-' and '_' follow",
        ),
        (
            HARDWARE + "    name: tiny\n",
            "scenarios/hardware.yaml:6 targets.small.name: the target's name is the key that it stands under, 'small'\n  remove this line",
        ),
        (HARDWARE + "  small: {}\n", "scenarios/hardware.yaml:6 targets.small: is written twice, first in line 3"),
    ],
)
def test_what_is_wrong_in_hardware_yaml_stands_there(project, text, said):
    project.write("scenarios/hardware.yaml", text)
    assert project.refusal(GOOD) == said


def test_the_problems_of_hardware_yaml_are_told_once_for_all_scenarios_and_beside_their_own(project):
    project.write("scenarios/hardware.yaml", "version: 1\n")
    project.write("scenarios/a.yaml", changed("reference: fp32", "reference: fp23"))
    project.write("scenarios/b.yaml", changed("name: digits", "name: b"))
    assert told(read_scenarios, [Path("scenarios")]) == (
        "scenarios/hardware.yaml:1 targets: is missing\nscenarios/a.yaml:16 reference: unknown recipe 'fp23'\n  did you mean 'fp32'?"
    )


# Plugins by their options, as workers open them


def test_a_plugin_is_opened_with_its_options():
    plugin = plugin_of("passes", PluginRef(name="quantize_static", options={"calibration_samples": 16}), Path())
    assert plugin.model_dump()["calibration_samples"] == 16


def test_a_plugin_of_the_users_own_with_a_wrong_option_names_the_option(tmp_path):
    (tmp_path / "own.py").write_text(
        "from harness.core.plugin import Options\n\n\nclass Own(Options):\n    level: int = 1\n\n\nPLUGIN = Own\n", encoding="utf-8"
    )
    ref = PluginRef(name="own.py", options={"levl": 2})
    assert told(plugin_of, "passes", ref, tmp_path) == "own.py.levl: unknown key 'levl'\n  did you mean 'level'?"
