from pathlib import Path

import pytest
from scenario_files import GOOD, PLUGIN, RUINS, Project, changed

from harness import plugins
from harness.core.units import EXAMPLES, Unit
from harness.engine.bounds import Bounds
from harness.engine.check_scenario import check
from harness.engine.evaluate import metric_of


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return Project(tmp_path / "project")


METRICS = plugins.names("metrics")


def promises(project, text):
    return project.refusal(changed("  latency_p99: at most 50 ms\n  int8.accuracy: at most 1 point below fp32\n", f"  {text}\n"))


READ = "nothing: the file was read"


def test_problems_are_in_the_order_of_the_file_and_name_their_keys(project):
    file = project.read(GOOD)
    wrong = file.scenario.model_copy(update={"reference": "fp16", "sla": {"speed": "at most 1 s"}, "gate": {}})
    problems = check(wrong, file.targets, file.folder, Bounds(file.root))
    assert [(problem.key, problem.message) for problem in problems] == [
        ("reference", "unknown recipe 'fp16'"),
        ("sla.speed", "unknown metric 'speed'"),
    ]


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_takes_a_limit_in_its_own_unit_and_a_share_of_another_recipe(project, metric):
    example = EXAMPLES[metric_of(metric).unit]
    for text in (f"at most {example}", f"at least {example}", "at most 50 % of fp32", f"at most {distance(metric)} above fp32"):
        assert promises(project, f"int8.{metric}: {text}") == READ


def distance(metric):
    unit = metric_of(metric).unit
    return "1 point" if unit is Unit.FRACTION else EXAMPLES[unit]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("unit", [unit for unit in Unit if unit is not Unit.NUMBER])
def test_a_limit_in_another_unit_is_refused_for_every_metric(project, metric, unit):
    if unit is metric_of(metric).unit:
        assert promises(project, f"{metric}: at most {EXAMPLES[unit]}") == READ
    else:
        said = promises(project, f"{metric}: at most {EXAMPLES[unit]}").splitlines()
        assert said[0].startswith(f"scenarios/s.yaml:22 sla.{metric}: 'at most {EXAMPLES[unit]}' names a")
        assert promises(project, f"{metric}: {said[1].split(chr(39))[1]}") == READ, "what the hint says to write is right"


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_gated_on_its_scale_or_left_out(project, metric):
    plugin = metric_of(metric)
    tolerance = {"sample": "0.5 points" if plugin.unit is Unit.FRACTION else "0.01"}.get(plugin.kind, "3 %")
    for rule in (tolerance, f"{{tolerance: {tolerance}, floor: {EXAMPLES[plugin.unit]}}}", "off"):
        assert project.refusal(GOOD[: GOOD.index("gate:")] + f"gate:\n  {metric}: {rule}\n") == READ


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("- ./own_pass.py\n      - quantize_static", READ),
        ("- ./own_pass.py", READ),
        ("- export_onnx\n      - ./own_pass.py", READ),
    ],
)
def test_nothing_is_said_of_formats_after_a_pass_that_is_not_run(project, line, problem):
    assert project.refusal(changed("- export_onnx\n      - quantize_static: {per_channel: true}", line)) == problem


def test_a_misspelt_pass_is_one_problem_and_not_one_for_each_pass_behind_it(project):
    said = project.refusal(changed("- export_onnx", "- export_onx"))
    assert said.count("scenarios/s.yaml") == 1


@pytest.mark.parametrize("passes", ["[quantize_static, export_onnx]", "[torch_dynamic_int8, export_onnx, export_onnx]"])
def test_passes_in_an_order_that_cannot_work_are_refused_where_it_breaks(project, passes):
    text = changed("    passes:\n      - export_onnx\n      - quantize_static: {per_channel: true}\n", f"    passes: {passes}\n")
    broken = {"[quantize_static, export_onnx]": 0, "[torch_dynamic_int8, export_onnx, export_onnx]": 2}[passes]
    assert project.refusal(text).startswith(f"scenarios/s.yaml:12 recipes.int8.passes[{broken}]: '")


def test_a_source_that_gives_onnx_needs_no_export(project):
    project.write("scenarios/m.onnx", "not looked into")
    text = changed("factory: net.py:build", "onnx: m.onnx").replace("  fp32: {runtime: torch}", "  fp32: {runtime: onnxruntime}")
    assert project.refusal(text.replace("      - export_onnx\n", "")) == READ


FAKE = """\
version: 1
name: pretend
model:
  fake: {latency_us: 50}
data:
  random: {x: "float32[4]"}
recipes:
  fake: {runtime: fake}
hardware: [cpu, {name: box, device: "cuda:1"}]
"""


def test_a_runtime_that_does_not_run_on_the_hardware_is_refused(project):
    assert project.refusal(FAKE) == (
        "scenarios/s.yaml:8 recipes.fake.runtime: runtime 'fake' does not run on cuda:1, which the hardware 'box' asks for\n"
        "  it runs on cpu"
    )
    assert project.refusal(FAKE.replace(', {name: box, device: "cuda:1"}', "")) == READ


@pytest.mark.parametrize(
    "code",
    [
        "def make(): ...",
        "async def make(): ...",
        "class make: ...",
        "make = print",
        "make: object = print",
        "from os import getcwd as make",
        "import os.path as make",
    ],
)
def test_a_factory_is_whatever_the_file_binds_at_its_top_level(project, code):
    project.write("scenarios/made.py", RUINS + code + "\n")
    assert project.refusal(changed("net.py:build", "made.py:make")) == READ


def test_a_factory_inside_of_something_else_is_not_there(project):
    project.write("scenarios/made.py", "class Net:\n    def make(): ...\n")
    assert project.refusal(changed("net.py:build", "made.py:make")) == "scenarios/s.yaml:4 model.factory: made.py has no function 'make'"


def test_a_file_in_another_encoding_or_with_a_null_byte_is_no_python(project):
    (project.root / "scenarios" / "made.py").write_bytes(b"def make():\n    return '\xff'\n")
    said = project.refusal(changed("net.py:build", "made.py:make"))
    assert said.startswith("scenarios/s.yaml:4 model.factory: made.py (line 2): not valid Python: (unicode error) 'utf-8' codec")
    (project.root / "scenarios" / "made.py").write_bytes(b"make = 1\0\n")
    said = project.refusal(changed("net.py:build", "made.py:make"))
    assert said.startswith("scenarios/s.yaml:4 model.factory: made.py") and "null bytes" in said


def test_a_plugin_of_the_users_own_is_looked_at_and_not_run(project):
    project.write("scenarios/mine/fuse.py", PLUGIN)
    assert project.refusal(changed("- export_onnx\n", "- ./mine/fuse.py: {level: 2}\n      - export_onnx\n")) == READ
    project.write("scenarios/mine/fuse.py", "def fuse(): ...\n")
    assert project.refusal(changed("- export_onnx\n", "- ./mine/fuse.py\n      - export_onnx\n")) == (
        "scenarios/s.yaml:13 recipes.int8.passes[0]: ./mine/fuse.py: a plugin file ends with 'PLUGIN = ClassName', naming a class in it"
    )


def test_a_folder_outside_of_the_project_is_refused_before_it_is_listed(project, monkeypatch):
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("the folder was listed"))
    said = project.refusal(changed("factory: net.py:build", "huggingface: /"))
    where = "files of a scenario stay inside ROOT, or say where else they may lie: --allow-outside FOLDER"
    assert said == f"scenarios/s.yaml:4 model.huggingface: '/' lies outside the project\n  {where}"


def test_a_model_by_its_name_on_a_hub_is_no_file(project):
    assert project.refusal(changed("factory: net.py:build", "huggingface: {id: org/name, revision: abc}")) == READ
