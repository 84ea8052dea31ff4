import json
from collections import Counter

import numpy as np
import pytest
from fakes.cpus import whole_int8_products

from harness.core.errors import BadInput, CannotMeasure

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx_kinds  # noqa: E402


def operators(artifact):
    return Counter(node.op_type for node in onnx.load(artifact.path).graph.node)


def tensors(artifact, suffix):
    return {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(artifact.path).graph.initializer
        if tensor.name.endswith(suffix)
    }


@pytest.fixture(scope="session")
def quantized(shop, onnx_mlp, rows):
    return shop.apply("quantize_dynamic", onnx_mlp, rows)


@pytest.fixture
def activation_only(workshop, rows):
    """A graph without any weights."""
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 32]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Tanh", ["x"], ["y"])], "graph", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, workshop.root / "tanh.onnx")
    return workshop.source("onnx", rows, path="tanh.onnx")


def test_every_product_with_a_weight_becomes_an_integer_product(onnx_mlp, quantized):
    assert operators(onnx_mlp)["Gemm"] == 2
    found = operators(quantized)
    assert found["MatMulInteger"] == found["DynamicQuantizeLinear"] == 2
    assert found["Gemm"] == found["MatMul"] == 0
    assert quantized.steps[-1].notes == ("2 of 2 Conv, Gemm and MatMul nodes quantized",)
    assert [path.name for path in quantized.folder.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_weights_are_of_the_type_that_is_asked_for_with_one_scale_each(workshop, rows, onnx_mlp, kind):
    artifact = workshop.apply("quantize_dynamic", onnx_mlp, rows, weight_type=kind)
    assert {values.dtype.name for values in tensors(artifact, "_quantized").values()} == {kind}
    assert {values.size for values in tensors(artifact, "_scale").values()} == {1}


def test_per_channel_gives_a_scale_for_each_column(workshop, rows, onnx_mlp):
    artifact = workshop.apply("quantize_dynamic", onnx_mlp, rows, per_channel=True)
    assert sorted(values.size for values in tensors(artifact, "_scale").values()) == [10, 64]


def test_reduced_range_keeps_weights_to_seven_bits(workshop, rows, onnx_mlp, quantized):
    def largest(artifact):
        return max(np.abs(values.astype(int)).max() for values in tensors(artifact, "_quantized").values())

    assert largest(quantized) > 64 >= largest(workshop.apply("quantize_dynamic", onnx_mlp, rows, reduce_range=True))


@whole_int8_products
def test_answers_are_near_the_float_graph_and_not_the_same_at_every_batch_size(shop, onnx_mlp, quantized, rows):
    with shop.open("onnxruntime", onnx_mlp) as float_session, shop.open("onnxruntime", quantized) as int8_session:
        assert int8_session.facts.precision == "int8 (2 of 2 compute nodes)"
        for size in (1, 2, 7, 40):
            batch = rows.batch(0, size)
            (expected,), (got,) = (one.outputs(one.run(one.prepare(batch))) for one in (float_session, int8_session))
            assert got.shape == (size, 10)
            assert 0 < np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_a_node_that_is_excluded_stays_in_float_and_is_named(shop, workshop, rows, onnx_mlp):
    first = next(node.name for node in onnx.load(onnx_mlp.path).graph.node if node.op_type == "Gemm")
    artifact = workshop.apply("quantize_dynamic", onnx_mlp, rows, exclude=(first,))
    assert operators(artifact)["MatMulInteger"] == operators(artifact)["MatMul"] == 1
    assert artifact.steps[-1].notes == (f"1 of 2 Conv, Gemm and MatMul nodes quantized; in float: {first}_MatMul",)
    with shop.open("onnxruntime", artifact) as session:
        assert session.facts.precision == "int8 (1 of 2 compute nodes; 1 in float32)"


def test_only_the_operators_that_are_asked_for_are_quantized(workshop, images, onnx_cnn):
    everything = workshop.apply("quantize_dynamic", onnx_cnn, images)
    assert operators(everything)["ConvInteger"] == 2
    products = workshop.apply("quantize_dynamic", onnx_cnn, images, operators=("MatMul", "Gemm"))
    assert operators(products)["Conv"] == 2
    assert products.steps[-1].notes[0].startswith("1 of 3 Conv, Gemm and MatMul nodes quantized; in float:")


def test_a_node_to_exclude_that_is_not_there_is_refused_with_the_nearest_right_name(workshop, rows, onnx_mlp):
    first = next(node.name for node in onnx.load(onnx_mlp.path).graph.node if node.op_type == "Gemm")
    with pytest.raises(BadInput, match=f"excludes the node '{first}s', which is not in this graph") as raised:
        workshop.apply("quantize_dynamic", onnx_mlp, rows, exclude=(f"{first}s",))
    assert f"did you mean '{first}'?" in str(raised.value)


def test_equal_graphs_give_equal_files(workshop, rows, onnx_mlp, quantized):
    assert workshop.apply("quantize_dynamic", onnx_mlp, rows).sha256 == quantized.sha256 != onnx_mlp.sha256


def test_a_graph_with_nothing_to_quantize_is_refused_with_what_it_has(workshop, rows, activation_only):
    with pytest.raises(CannotMeasure, match="'quantize_dynamic' quantized nothing in this graph") as raised:
        workshop.apply("quantize_dynamic", activation_only, rows)
    assert "its operators are Tanh" in str(raised.value)


def test_what_is_quantized_already_is_refused(workshop, rows, quantized):
    with pytest.raises(CannotMeasure, match="quantized nothing") as raised:
        workshop.apply("quantize_dynamic", quantized, rows)
    assert "2 of 2 Conv, Gemm and MatMul nodes were int8 before" in str(raised.value)


def test_operators_that_are_excluded_stay_in_float_a_gemm_too(workshop, images, onnx_cnn):
    artifact = workshop.apply("quantize_dynamic", onnx_cnn, images, exclude_operators=("Gemm",))
    assert operators(artifact)["ConvInteger"] == 2 and operators(artifact)["MatMulInteger"] == 0


def test_a_weight_in_uint8_is_symmetric_where_that_is_asked_for(workshop, rows):
    graph = onnx_kinds.saved(
        workshop,
        rows,
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        inputs=[onnx_kinds.value("x", ["batch", 32])],
        outputs=[onnx_kinds.value("y", ["batch", 10])],
        initializers=[("w", np.random.default_rng(1).uniform(-1, 3, (32, 10)).astype(np.float32))],
    )
    zero = {}
    for choice in (None, True):
        artifact = workshop.apply("quantize_dynamic", graph, rows, weight_type="uint8", symmetric_weight=choice)
        zero[choice] = int(tensors(artifact, "_zero_point")["w_zero_point"])
    assert zero[None] == pytest.approx(255 / 4, abs=3) and zero[True] in (127, 128)


def test_the_report_has_the_loss_of_every_weight_per_channel_too(workshop, rows, onnx_mlp, quantized):
    found = {}
    for per_channel in (False, True):
        artifact = workshop.apply("quantize_dynamic", onnx_mlp, rows, debug=True, per_channel=per_channel)
        report = json.loads((artifact.folder / "quantization_loss.json").read_text())["tensors"]
        assert {row["tensor"] for row in report} == {"hidden.weight", "head.linear.weight"} and {row["kind"] for row in report} == {
            "weight"
        }
        found[per_channel] = {row["tensor"]: row["own_db"] for row in report}
        assert artifact.size_bytes == artifact.path.stat().st_size
    assert all(40 < found[False][name] < found[True][name] < 60 for name in found[True])


@pytest.mark.slow
def test_a_real_transformer_shrinks_and_keeps_its_embeddings(shop, onnx_minilm, sentences):
    artifact = shop.apply("quantize_dynamic", onnx_minilm, sentences)
    assert artifact.size_bytes < 0.3 * onnx_minilm.size_bytes
    (expected, *_), (got, *_) = (shop.answers("onnxruntime", one, sentences, size=3) for one in (onnx_minilm, artifact))
    assert np.sum(expected * got, axis=1).min() > 0.95  # unit vectors: the cosine
    done, total = (int(word) for word in artifact.steps[-1].notes[0].split() if word.isdigit())
    assert done == total >= 36  # six layers: query, key, value, the attention's output and two dense layers
