import numpy as np
import pytest

from harness.core.errors import CannotMeasure
from harness.formats import precision

torch = pytest.importorskip("torch")


def built(shop, data, name):
    return shop.source("factory", data, target=f"precision_nets.py:{name}")


@pytest.fixture(scope="session")
def residual(shop, images):
    return built(shop, images, "residual")


@pytest.fixture(scope="session")
def cast(shop, residual, images):
    return shop.apply("float16", residual, images)


def test_every_floating_weight_is_float16_and_answers_are_nearer_than_bfloat16_s(shop, residual, cast, images):
    with shop.open("torch", cast) as session:
        kinds = {value.dtype for value in session.module.state_dict().values() if value.is_floating_point()}
        assert kinds == {torch.float16} and session.facts.precision == "float16"
    rougher = shop.apply("bfloat16", residual, images)
    (expected,), (near,), (rough,) = (shop.answers("torch", one, images, size=12) for one in (residual, cast, rougher))
    assert near.dtype == np.float32
    assert 0 < np.abs(near - expected).max() < 0.5 * np.abs(rough - expected).max()


def test_a_transformer_stays_near(shop, series):
    module = built(shop, series, "encoder")
    (got,), (expected,) = (shop.answers("torch", one, series, size=12) for one in (shop.apply("float16", module, series), module))
    assert 0 < np.abs(got - expected).max() < 0.01 * np.abs(expected).max()


def test_a_weight_beyond_its_range_is_refused_with_its_name_and_may_be_kept(workshop, rows):
    module = built(workshop, rows, "large_weight")
    with pytest.raises(CannotMeasure, match=r"1 of 32 values of '1.weight' lie beyond the range of float16") as raised:
        workshop.apply("float16", module, rows)
    assert "float16: {keep: [1]}" in str(raised.value)
    kept = workshop.apply("float16", module, rows, keep=("1",))
    (got,), (expected,) = (workshop.answers("torch", one, rows) for one in (kept, module))
    np.testing.assert_allclose(got, expected, rtol=0.01, atol=0.01 * np.abs(expected).max())


def test_an_activation_beyond_its_range_is_refused_with_the_layer_that_gives_it_first(workshop, rows):
    with pytest.raises(CannotMeasure, match="in float16 this module gives NaN or infinity, first in layer '1'") as raised:
        workshop.apply("float16", built(workshop, rows, "large_activation"), rows)
    assert "or use bfloat16" in str(raised.value)


def test_weights_that_become_zero_are_counted(workshop, rows):
    artifact = workshop.apply("float16", built(workshop, rows, "tiny_weight"), rows)
    assert "3 weights became zero: they are below what float16 can hold" in artifact.steps[-1].notes


def test_equal_modules_give_equal_bytes(shop, residual, cast, images):
    assert shop.apply("float16", residual, images).sha256 == cast.sha256 != residual.sha256


@pytest.mark.parametrize(("flags", "warned"), [({"avx512_bf16"}, True), ({"avx512_fp16"}, False), ({"asimdhp"}, False)])
def test_a_processor_that_emulates_it_is_told_and_never_refused(shop, residual, images, monkeypatch, flags, warned):
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    artifact = shop.apply("float16", residual, images)
    told = (
        "where it was built, this CPU has no float16 instructions (avx512_fp16, amx_fp16): it computes them through float32, often slower"
    )
    assert (told in artifact.steps[-1].notes) is warned


def test_it_exports_to_onnx_with_float32_inputs_and_float16_weights(workshop, rows):
    pytest.importorskip("onnxscript")
    onnx = pytest.importorskip("onnx")
    exported = workshop.apply("export_onnx", workshop.apply("float16", built(workshop, rows, "tiny_weight"), rows), rows, tolerance=0.01)
    assert exported.inputs[0].dtype == exported.outputs[0].dtype == "float32"
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(exported.path).graph.initializer}
    assert kinds["weight"] == onnx.TensorProto.FLOAT16


@pytest.mark.slow
def test_a_scenario_runs_it_and_the_report_tells_what_ran(workshop, tmp_path):
    import subprocess
    import sys

    scenario = workshop.root / "half.yaml"
    scenario.write_text("""
version: 1
name: half
model: {factory: "precision_nets.py:encoder"}
data: {random: {x: "float32[5, 32]"}, samples: 16}
recipes:
  half: {passes: [float16: {keep: [head]}], runtime: torch}
measure: {launches: 2, duration: 0.1 s, warm_up: 0.1 s}
""")
    command = [sys.executable, "-m", "harness.cli", "run", scenario.name]
    done = subprocess.run(command, cwd=scenario.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = (scenario.parent / "reports" / "latest" / "report.html").read_text()
    assert "values cast to float16" in report and "in float32: head (330 values)" in report
