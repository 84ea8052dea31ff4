import numpy as np
import pytest

from harness.core.artifact import Dataset, ModelArtifact
from harness.core.errors import CannotMeasure

torch = pytest.importorskip("torch")

from harness.formats.contents import contents_of  # noqa: E402


def by_kind(contents):
    return {(one.kind, one.dtype): one for one in contents.weights}


@pytest.fixture(scope="module")
def tokens():
    return Dataset({"ids": np.random.default_rng(0).integers(0, 1000, (16, 8))}, None)


@pytest.fixture(scope="module")
def table(shop, tokens):
    return shop.source("factory", tokens, target="layer_nets.py:table")


def test_what_dynamic_quantization_leaves_in_float_is_told_with_its_bytes_and_its_name(shop, table, tokens):
    found = by_kind(contents_of(shop.apply("torch_dynamic_int8", table, tokens)))
    embedding = found["Embedding", "float32"]
    assert (embedding.stored_bytes, embedding.names) == (1000 * 32 * 4, ("tokens",))
    assert found["Linear", "int8"].stored_bytes == 320


def test_zeros_are_counted_where_they_are(shop, mlp, rows):
    pruned = contents_of(shop.apply("prune_magnitude", mlp, rows, amount=0.8))
    assert contents_of(mlp).zeros < 0.01
    assert 0.7 < pruned.zeros < 0.81
    assert pruned.stored_bytes == contents_of(mlp).stored_bytes


@pytest.mark.slow
def test_a_graph_in_int8_is_told_by_the_operators_that_read_its_weights(shop, onnx_cnn, images):
    before, after = contents_of(onnx_cnn), contents_of(shop.apply("quantize_static", onnx_cnn, images))
    wide, narrow = by_kind(before)["Conv", "float32"], by_kind(after)["Conv", "int8"]
    assert wide.stored_bytes > 3 * narrow.stored_bytes > 0
    assert after.rounded_late == () and after.idle_bytes == 0


def test_weights_that_are_stored_in_float_in_front_of_a_quantize_are_named(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    weights = [array(np.ones((8, 4), np.float32), "w"), array(np.float32(0.1), "s"), array(np.int8(0), "z")]
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("MatMul", ["x", "d"], ["y"], name="fc"),
    ]
    found = contents_of(saved(onnx, tmp_path, nodes, weights))
    assert found.rounded_late == ("w",)
    assert by_kind(found)["MatMul", "float32"].stored_bytes >= 8 * 4 * 4


def test_bytes_of_a_data_file_that_no_tensor_names_are_idle(tmp_path):
    onnx = pytest.importorskip("onnx")
    weights = [onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")]
    artifact = saved(onnx, tmp_path, [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], weights, beside=True)
    assert contents_of(artifact).idle_bytes == 0
    with (tmp_path / "m.data").open("ab") as file:
        file.write(bytes(4096))
    assert contents_of(artifact).idle_bytes == 4096


def saved(onnx, folder, nodes, weights, beside=False):
    value = onnx.helper.make_tensor_value_info
    width = weights[0].dims[0]
    ends = [value("x", onnx.TensorProto.FLOAT, [1, width])], [value("y", onnx.TensorProto.FLOAT, None)]
    graph = onnx.helper.make_graph(nodes, "g", *ends, weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=9)
    onnx.save(model, folder / "m.onnx", save_as_external_data=beside, location="m.data", size_threshold=0)
    return ModelArtifact(folder, "onnx", "m.onnx", (), (), 1, "0" * 64, ())


@pytest.mark.slow
def test_an_openvino_model_is_told_by_its_constants(shop, onnx_cnn, images):
    pytest.importorskip("openvino")
    found = by_kind(contents_of(shop.apply("export_openvino", onnx_cnn, images)))
    assert any(kind == "Convolution" for kind, _ in found)


@pytest.mark.slow
def test_a_program_is_told_by_the_operators_that_read_its_weights(shop, mlp, rows):
    pytest.importorskip("torchao")
    found = by_kind(contents_of(shop.apply("pt2e_static_int8", mlp, rows)))
    assert found["linear", "int8"].stored_bytes > 0


def test_a_format_that_cannot_be_looked_into_is_named(tmp_path):
    with pytest.raises(CannotMeasure, match="what a file of the format 'fake' stores cannot be told"):
        contents_of(ModelArtifact(tmp_path, "fake", "m", (), (), 1, "0" * 64, ()))
