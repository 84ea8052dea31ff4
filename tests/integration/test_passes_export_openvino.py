import importlib.util
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from fakes.cpus import whole_int8_products

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure, MissingPackage
from harness.formats import openvino_model

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)


def operators(artifact):
    return openvino_model.operators(openvino_model.read(artifact.path))


def agree_at_every_batch_size(shop, before, after, data, *, runtime="torch", tolerance=1e-5):
    with shop.open(runtime, before) as expected_from, shop.open("openvino", after) as got_from:
        for size in (1, 2, 3, 7, 40):
            batch = data.batch(0, size)
            expected, got = (one.outputs(one.run(one.prepare(batch))) for one in (expected_from, got_from))
            assert len(expected) == len(got)
            for wanted, given in zip(expected, got, strict=True):
                assert len(given) == size
                np.testing.assert_allclose(given, wanted, atol=tolerance)


@pytest.fixture(scope="module")
def residual(shop, images):
    return shop.source("factory", images, target="openvino_nets.py:residual")


@pytest.fixture(scope="module")
def from_torch(shop, residual, images):
    return shop.apply("export_openvino", residual, images)


@pytest.fixture(scope="module")
def from_onnx(shop, onnx_cnn, images):
    return shop.apply("export_openvino", onnx_cnn, images)


@pytest.fixture(scope="module")
def tastes():
    generator = np.random.default_rng(0)
    ids = {"user": generator.integers(0, 50, 40), "item": generator.integers(0, 80, 40)}
    return Dataset({**ids, "moment": generator.standard_normal((40, 4), dtype=np.float32)}, None)


@pytest.fixture(scope="module")
def texts():
    generator = np.random.default_rng(0)
    mask = (np.arange(8) < generator.integers(2, 9, (40, 1))).astype(np.int64)
    return Dataset({"input_ids": generator.integers(1, 99, (40, 8)), "attention_mask": mask}, None)


def test_the_model_answers_like_the_module_at_every_batch_size(shop, residual, from_torch, images):
    agree_at_every_batch_size(shop, residual, from_torch, images)


def test_the_model_answers_like_the_onnx_graph_at_every_batch_size(shop, onnx_cnn, from_onnx, images):
    agree_at_every_batch_size(shop, onnx_cnn, from_onnx, images, runtime="onnxruntime")


def test_the_graph_holds_the_layers_of_the_module_with_the_norm_folded_and_the_notes_tell_them(from_torch, residual):
    found = operators(from_torch)
    assert found >= Counter(Convolution=2, GroupConvolution=1, MatMul=1, Relu=3)
    assert found["BatchNormInference"] == 0
    assert from_torch.steps[:-1] == residual.steps
    assert from_torch.steps[-1].notes[0].startswith(f"{found.total()} operators (")
    assert from_torch.steps[-1].notes[1].startswith("largest difference ")


def test_size_counts_the_graph_and_its_weights(from_torch, residual):
    files = {path.name: path.stat().st_size for path in from_torch.folder.iterdir()}
    assert set(files) == {"model.xml", "model.bin"}
    assert from_torch.size_bytes == sum(files.values())
    assert files["model.bin"] > 0.9 * residual.size_bytes


def test_the_batch_axis_is_open_and_the_others_are_not(from_torch, from_onnx):
    for artifact in (from_torch, from_onnx):
        assert [(spec.name, spec.dtype, spec.shape) for spec in artifact.inputs] == [("x", "float32", (None, 3, 12, 12))]
        assert [(spec.dtype, spec.shape) for spec in artifact.outputs] == [("float32", (None, 10))]


def test_weights_stay_in_float32_unless_it_is_asked_for(from_torch):
    sizes = openvino_model.weight_bytes(openvino_model.read(from_torch.path))
    assert sizes["f16"] == 0 and sizes["f32"] > 100_000
    assert f"weights f32 {sizes['f32']:,} bytes" in from_torch.steps[-1].notes[2]


def test_compressed_weights_take_half_the_bytes_and_the_notes_tell_what_it_costs(shop, residual, from_torch, images):
    half = shop.apply("export_openvino", residual, images, compress_to_fp16=True)
    whole, narrow = (openvino_model.weight_bytes(openvino_model.read(one.path)) for one in (from_torch, half))
    assert narrow["f32"] == 0 and narrow["f16"] == whole["f32"] / 2
    assert half.size_bytes < 0.6 * from_torch.size_bytes
    exact, rounded = (float(note.split()[2]) for note in (half.steps[-1].notes[1], half.steps[-1].notes[3]))
    assert half.steps[-1].notes[3].endswith("with weights in 16 bits")
    assert exact < 1e-6 < rounded < 1e-3


def test_compression_without_anything_to_compress_is_refused(workshop, rows):
    module = workshop.source("factory", rows, target="openvino_nets.py:without_weights")
    with pytest.raises(CannotMeasure, match="'compress_to_fp16' found no float32 weights"):
        workshop.apply("export_openvino", module, rows, compress_to_fp16=True)


def test_a_batch_size_that_is_asked_for_is_fixed_in_every_tensor(shop, workshop, residual, onnx_cnn, images):
    for before in (residual, onnx_cnn):
        artifact = workshop.apply("export_openvino", before, images, batch_size=4)
        assert artifact.inputs[0].shape == (4, 3, 12, 12) and artifact.outputs[0].shape == (4, 10)
        model = openvino_model.read(artifact.path)
        assert not any(node.get_output_partial_shape(0).is_dynamic for node in model.get_ops() if node.get_output_size())


def test_several_inputs_go_by_name_and_whole_numbers_stay_whole(workshop, tastes):
    module = workshop.source("factory", tastes, target="openvino_nets.py:recommender")
    artifact = workshop.apply("export_openvino", module, tastes)
    told = [(spec.name, spec.dtype, spec.shape) for spec in artifact.inputs]
    assert told == [("user", "int64", (None,)), ("item", "int64", (None,)), ("moment", "float32", (None, 4))]
    assert operators(artifact)["Gather"] == 2
    agree_at_every_batch_size(workshop, module, artifact, tastes)


def test_the_principal_output_comes_first_under_its_name(workshop, pairs):
    module = workshop.source("factory", pairs, target="nets.py:pair")
    artifact = workshop.apply("export_openvino", module, pairs)
    assert [spec.name for spec in artifact.outputs] == ["logits", "hidden"]
    agree_at_every_batch_size(workshop, module, artifact, pairs)


def test_a_transformer_with_a_mask_keeps_every_output(workshop, texts):
    pytest.importorskip("transformers")
    module = workshop.source("factory", texts, target="openvino_nets.py:encoder")
    artifact = workshop.apply("export_openvino", module, texts)
    assert [spec.name for spec in artifact.outputs] == ["last_hidden_state", "pooler_output"]
    agree_at_every_batch_size(workshop, module, artifact, texts, tolerance=1e-4)


def test_equal_models_give_equal_files_however_many_were_made_before(workshop, shop, images, residual, from_torch, onnx_cnn, from_onnx):
    assert workshop.apply("export_openvino", residual, images).sha256 == from_torch.sha256
    assert workshop.apply("export_openvino", onnx_cnn, images).sha256 == from_onnx.sha256


@whole_int8_products
def test_a_graph_that_onnxruntime_quantized_keeps_its_int8_weights(shop, workshop, onnx_cnn, images):
    quantized = workshop.apply("quantize_static", onnx_cnn, images)
    artifact = workshop.apply("export_openvino", quantized, images)
    model = openvino_model.read(artifact.path)
    assert openvino_model.quantized_share(model)[:2] == (3, 3)
    assert openvino_model.weight_bytes(model)["i8"] > 25_000
    assert artifact.path.with_suffix(".bin").stat().st_size < 0.26 * onnx_cnn.size_bytes


def test_a_module_in_half_precision_takes_the_data_as_they_are(workshop, rows):
    module = workshop.source("factory", Dataset({"x": rows.inputs["x"].astype(np.float16)}, None), target="nets.py:half")
    artifact = workshop.apply("export_openvino", module, rows)
    assert artifact.inputs[0].dtype == "float32"
    assert openvino_model.weight_bytes(openvino_model.read(artifact.path))["f16"] == 2 * (32 * 10 + 10)
    agree_at_every_batch_size(workshop, module, artifact, rows, tolerance=1e-2)


def test_a_branch_on_the_data_is_refused_and_not_traced(workshop, rows):
    module = workshop.source("factory", rows, target="openvino_nets.py:branching")
    with pytest.raises(CannotMeasure, match=r"this module cannot be converted to OpenVINO: .*"):
        workshop.apply("export_openvino", module, rows)


def test_a_model_that_gives_no_numbers_is_refused(workshop, rows):
    module = workshop.source("factory", rows, target="openvino_nets.py:undefined")
    with pytest.raises(CannotMeasure, match="the converted graph differs from its model by nan"):
        workshop.apply("export_openvino", module, rows)


def test_a_difference_is_held_against_the_tolerance_of_the_recipe(workshop, images, residual):
    with pytest.raises(CannotMeasure, match="more than 1e-12") as raised:
        workshop.apply("export_openvino", residual, images, tolerance=1e-12)
    assert "raise export_openvino's 'tolerance'" in str(raised.value)


def test_a_module_that_torch_has_quantized_is_refused_with_the_order_that_works(workshop, rows, mlp):
    quantized = workshop.apply("torch_dynamic_int8", mlp, rows)
    with pytest.raises(CannotMeasure, match="layer 'hidden' is quantized by torch") as raised:
        workshop.apply("export_openvino", quantized, rows)
    assert "convert first, then quantize_nncf" in str(raised.value)


def test_without_the_package_the_answer_is_the_line_that_installs_it(workshop, rows, mlp, monkeypatch):
    monkeypatch.setattr(plugins.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"'export_openvino' needs the package 'openvino'") as raised:
        workshop.apply("export_openvino", mlp, rows)
    assert "pip install 'harness[openvino]'" in str(raised.value)


def test_the_library_is_imported_without_its_telemetry(tmp_path):
    code = (
        "import sys, threading; from harness.formats import openvino_model; openvino_model.framework().convert_model;"
        "import nncf; assert not [name for name, module in sys.modules.items() if name.startswith('openvino_telemetry') and module];"
        "print(threading.active_count())"
    )
    environment = {"HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["1"]
    assert not (tmp_path / "intel").exists()
