from pathlib import Path

import pytest
from scenario_files import GOOD, Project, changed

from harness.core.errors import BadInput
from harness.engine.read_yaml import read_text
from harness.engine.set_overrides import set_override


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return Project(tmp_path / "project")


def set_in(text, override):
    return set_override(read_text(text, Path("s.yaml")), override).value


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("seed=7", lambda s: s.seed == 7),
        ("name=other", lambda s: s.name == "other"),
        ("measure.duration=5 s", lambda s: s.measure.duration == 5e9),
        (" measure.duration = 5 s", lambda s: s.measure.duration == 5e9),
        ("measure.launches=3", lambda s: s.measure.launches == 3),
        ("measure.batch_sizes=[1, 2]", lambda s: s.measure.batch_sizes == (1, 2)),
        ("measure.batch_sizes[1]=16", lambda s: s.measure.batch_sizes == (1, 16)),
        ("model.factory=net.py:test_set", lambda s: s.model.source.options == {"": "net.py:test_set"}),
        ("model.args.width=3", lambda s: s.model.args == {"width": 3}),
        ("model.args={width: 3}", lambda s: s.model.args == {"width": 3}),
        ("recipes.int8.passes[1].quantize_static.per_channel=false", lambda s: not s.recipes["int8"].passes[1].options["per_channel"]),
        ("recipes.int8.passes[0].export_onnx.opset=18", lambda s: s.recipes["int8"].passes[0].options == {"opset": 18}),
        ("recipes.int8.runtime.onnxruntime.optimization=basic", lambda s: s.recipes["int8"].runtime.options == {"optimization": "basic"}),
        (
            "recipes.bf16.runtime={torch: {dtype: bfloat16}}",
            lambda s: "bf16" in s.recipes and s.recipes["bf16"].runtime.options == {"dtype": "bfloat16"},
        ),
        ("sla.latency_p99=at most 10 ms", lambda s: s.sla["latency_p99"] == "at most 10 ms"),
        ("sla.int8.accuracy=at least 90 %", lambda s: s.sla["int8.accuracy"] == "at least 90 %"),
        ("sla.fp32.throughput=at least 1 /s", lambda s: s.sla.get("fp32.throughput") == "at least 1 /s"),
        ("sla={}", lambda s: s.sla == {}),
        ("gate.latency_p50=off", lambda s: s.gate["latency_p50"].off),
        ("gate.accuracy.tolerance=1 point", lambda s: s.gate["accuracy"].tolerance.value == 0.01),
        ("data.task=other", lambda s: s.data.task == "other"),
    ],
)
def test_one_value_is_replaced_and_the_rest_stays(project, override, read):
    changed_one = project.read(GOOD, override).scenario
    assert read(changed_one)
    assert not read(project.read(GOOD).scenario)
    assert list(changed_one.recipes)[:2] == ["fp32", "int8"]


def test_overrides_are_applied_in_turn():
    document = read_text("a: 1\n", Path("s.yaml"))
    for override in ("a={b: 1}", "a.c=2", "a.b=3"):
        document = set_override(document, override)
    assert document.value == {"a": {"b": 3, "c": 2}}


def test_the_value_is_yaml_1_2():
    assert set_in("a: 1\n", "a=off") == {"a": "off"}
    assert set_in("a: 1\n", "a=2024-01-02") == {"a": "2024-01-02"}
    assert set_in("a: 1\n", "a=") == {"a": None}
    assert set_in("a: 1\n", "a='b=c'") == {"a": "b=c"}


def test_a_key_that_is_there_may_have_dots():
    assert set_in("files:\n  ./own.py: {a: 1}\n", "files../own.py.a=2") == {"files": {"./own.py": {"a": 2}}}


def test_the_file_on_disk_and_its_text_stay_as_they_are(project):
    assert project.read(GOOD, "seed=7").text == GOOD
    assert Path("scenarios/s.yaml").read_text() == GOOD


def test_a_key_that_was_overridden_has_no_line_in_the_file(project):
    file = project.read(GOOD, "measure.duration=5 s", "gate.accuracy={tolerance: 1 point}")
    assert "measure.duration" not in file.lines
    assert "gate.accuracy.tolerance" not in file.lines
    assert file.lines["measure.batch_sizes"] == 19


HOW = "write --set key.path=value, such as --set measure.duration='2 s'"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("measure.duration", f"--set measure.duration: {HOW}"),
        ("=5", f"--set =5: {HOW}"),
        (".seed=5", f"--set .seed=5: {HOW}"),
        ("[0]=5", f"--set [0]=5: {HOW}"),
        ("measure.=5", f"--set measure.=5: {HOW}"),
        ("measure]=5", f"--set measure]=5: {HOW}"),
        ("seed=[1", "--set seed=[1: is not valid YAML: this bracket is never closed"),
        ("seed=!x 1", "--set seed=!x 1: the tag '!x' is not known here\n  remove it"),
        (
            "measure.batch_sizes[2]=4",
            "--set measure.batch_sizes[2]=4: 'measure.batch_sizes' holds 2 items, the first is [0]: there is no [2]",
        ),
        ("measure.batch_sizes.first=4", "--set measure.batch_sizes.first=4: 'measure.batch_sizes' is a list: 'first' cannot be set in it"),
        ("measure[0]=4", "--set measure[0]=4: 'measure' is not a list: '[0]' cannot be set in it"),
        ("measure.batch_sizes[0].x=4", "--set measure.batch_sizes[0].x=4: 'measure.batch_sizes[0]' is '1': 'x' cannot be set in it"),
        (
            "recipes.int8.passes[0].quantize_static.per_channel=true",
            "--set recipes.int8.passes[0].quantize_static.per_channel=true: 'recipes.int8.passes[0]' is 'export_onnx': "
            "'quantize_static.per_channel' cannot be set in it",
        ),
        (
            "measure.duration=5",
            "--set measure.duration=5 measure.duration: 5 has no unit: write '5 s', or another of ns, us, µs, ms, s, min",
        ),
        ("measure.durration=5 s", "--set measure.durration=5 s measure.durration: unknown key 'durration'\n  did you mean 'duration'?"),
        (
            "nonsense.deep=1",
            "--set nonsense.deep=1 nonsense: unknown key 'nonsense'\n"
            "  known here: version, name, description, model, data, "
            "recipes, reference, hardware, measure, sla, gate, search, stored, seed",
        ),
        ("reference=fp23", "--set reference=fp23 reference: unknown recipe 'fp23'\n  did you mean 'fp32'?"),
        (
            "model.factory=net.py:biuld",
            "--set model.factory=net.py:biuld model.factory: net.py has no function 'biuld'\n  did you mean 'build'?",
        ),
        (
            "sla.in8.accuracy=at least 1 %",
            "--set sla.in8.accuracy=at least 1 % sla.in8.accuracy: unknown recipe 'in8'\n  did you mean 'int8'?",
        ),
        (
            "recipes.int8.runtime={onnxruntime: {optimisation: all}}",
            "--set recipes.int8.runtime={onnxruntime: {optimisation: all}} recipes.int8.runtime.onnxruntime.optimisation: "
            "unknown key 'optimisation'\n  did you mean 'optimization'?",
        ),
    ],
)
def test_an_override_that_cannot_be_is_told_by_its_own_words_and_not_by_a_line_of_the_file(project, override, said):
    assert project.refusal(GOOD, override) == said


def test_what_is_wrong_in_the_file_keeps_its_line(project):
    text = changed("task: classification", "task: 3")
    assert project.refusal(text, "measure.launches=3").startswith("scenarios/s.yaml:8 data.task: 3 is not one of")


def test_an_override_can_mend_what_is_wrong_in_the_file(project):
    assert project.read(changed("duration: 2 s", "duration: 2"), "measure.duration=2 s").scenario.measure.duration == 2e9


def test_an_override_reaches_what_a_base_says(project):
    project.write("scenarios/_base.yaml", GOOD)
    assert project.read("extends: _base.yaml\n", "measure.duration=3 s").scenario.measure.duration == 3e9
    with pytest.raises(BadInput, match=r"--set measure\.duration=3 measure\.duration: 3 has no unit"):
        project.read("extends: _base.yaml\n", "measure.duration=3")
