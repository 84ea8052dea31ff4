import pytest

from harness.core.errors import BadInput
from harness.engine.read_scenario import read_scenario

SCENARIO = """
version: 1
name: chain
model: {factory: net.py:build}
data: {evaluation: net.py:data, calibration: net.py:data}
recipes:
  one: {passes: [PASSES], runtime: RUNTIME}
"""


@pytest.fixture
def refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("def build(): ...\ndef data(): ...\n")

    def refused(passes, runtime):
        (tmp_path / "s.yaml").write_text(SCENARIO.replace("PASSES", passes).replace("RUNTIME", runtime))
        try:
            read_scenario(tmp_path / "s.yaml")
        except BadInput as error:
            return [problem.message for problem in error.problems]
        return []

    return refused


@pytest.mark.parametrize(
    ("passes", "runtime"),
    [
        ("export_onnx, quantize_nncf", "onnxruntime"),
        ("export_onnx, quantize_nncf", "openvino"),
        ("export_onnx, quantize_nncf, optimize_onnx", "onnxruntime"),
        ("export_openvino, quantize_nncf", "openvino"),
    ],
)
def test_a_pass_that_leaves_the_format_as_it_was_is_followed_by_what_takes_that(refused, passes, runtime):
    assert refused(passes, runtime) == []


def test_what_does_not_take_the_format_that_came_through_is_refused_once_and_by_the_last_pass(refused):
    gives = "the pass 'quantize_nncf' gives openvino"
    assert refused("export_openvino, quantize_nncf", "onnxruntime") == [f"runtime 'onnxruntime' opens onnx, and {gives}"]
    assert refused("export_openvino, quantize_nncf, optimize_onnx", "onnxruntime") == [f"'optimize_onnx' takes onnx, and {gives}"]
    takes = "'quantize_nncf' takes openvino or onnx, and the source 'factory' gives torch_module"
    assert refused("quantize_nncf", "onnxruntime") == [takes]
