import pytest
from fakes.projects import code_project

OTHER_MACHINE = ("scenario.yaml", "recipes:", "hardware: [{name: small, cores: 1, price_per_hour: 0.5}]\nrecipes:")


@pytest.fixture
def project(tmp_path):
    return code_project(tmp_path / "project")


def test_the_machine_is_in_the_content_and_in_no_part(project):
    before = project.derive("int8")
    project.change(*OTHER_MACHINE)
    after = project.derive("int8")
    assert after.parts == before.parts
    assert after.content.source != before.content.source


def test_the_parts_name_what_a_trial_is_made_of(project):
    parts = project.derive("int8").parts
    assert {"seed", "task", "model", "evaluation data", "calibration data", "runtime onnxruntime", "load single_stream"} <= parts.keys()
    assert [name for name in parts if name.startswith("pass ")] == ["pass 1, export_onnx", "pass 2, quantize_static"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (("models/net.py", "import torch\n", "import torch\n\nWIDTH = 3\n"), "model"),
        (("scenario.yaml", "name: coded", "name: coded\nseed: 7"), "seed"),
        (("scenario.yaml", "{per_channel: true}", "{per_channel: false}"), "pass 2, quantize_static"),
    ],
)
def test_a_change_is_seen_in_its_own_part(project, change, part):
    before = project.derive("int8").parts
    project.change(*change)
    after = project.derive("int8").parts
    assert [name for name in before if before[name] != after[name]] == [part]
