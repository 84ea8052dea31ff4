from collections import Counter

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def initializers(artifact):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(artifact.path).graph.initializer}


def scale_of_the_input(artifact):
    """The scale with which the graph's input is quantized: its range / 255."""
    model = onnx.load(artifact.path)
    node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "x")
    return float(initializers(artifact)[node.input[1]])


def weights_of_convolutions(artifact):
    """(weight's dtype, number of its scales, its channels) of each convolution, through its DequantizeLinear."""
    model, values = onnx.load(artifact.path), initializers(artifact)
    made_by = {output: node for node in model.graph.node for output in node.output}
    sources = [made_by[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    assert all(node.op_type == "DequantizeLinear" for node in sources)
    return [(values[node.input[0]].dtype.name, values[node.input[1]].size, len(values[node.input[0]])) for node in sources]


@pytest.fixture(scope="session")
def quantized(shop, onnx_cnn, images):
    return shop.apply("quantize_static", onnx_cnn, images)


def test_every_convolution_and_product_stands_between_q_and_dq(onnx_cnn, quantized):
    model = onnx.load(quantized.path)
    made_by = {output: node.op_type for node in model.graph.node for output in node.output}
    compute = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(compute) == 3
    assert all(made_by[name] == "DequantizeLinear" for node in compute for name in node.input)
    assert quantized.steps[-1].notes == ("3 of 3 Conv, Gemm and MatMul nodes quantized",)
    assert [path.name for path in quantized.folder.iterdir()] == ["model.onnx"]
    assert quantized.inputs == onnx_cnn.inputs and quantized.outputs == onnx_cnn.outputs


def test_weights_are_int8_with_a_scale_for_each_channel_and_activations_uint8(quantized):
    assert weights_of_convolutions(quantized) == [("int8", 16, 16), ("int8", 16, 16)]
    kinds = Counter(values.dtype.name for name, values in initializers(quantized).items() if name.endswith("_zero_point"))
    assert kinds["uint8"] >= 3  # of the activations


def test_per_tensor_gives_one_scale(workshop, images, onnx_cnn):
    artifact = workshop.apply("quantize_static", onnx_cnn, images, per_channel=False)
    assert weights_of_convolutions(artifact) == [("int8", 1, 16), ("int8", 1, 16)]


def test_types_are_those_that_are_asked_for(workshop, images, onnx_cnn):
    signed = workshop.apply("quantize_static", onnx_cnn, images, activation_type="int8")
    zero_points = [node.input[2] for node in onnx.load(signed.path).graph.node if node.op_type == "QuantizeLinear"]
    assert {initializers(signed)[name].dtype.name for name in zero_points} == {"int8"}
    unsigned = workshop.apply("quantize_static", onnx_cnn, images, per_channel=False, weight_type="uint8")
    assert [kind for kind, _, _ in weights_of_convolutions(unsigned)] == ["uint8", "uint8"]


def test_a_pair_of_types_that_the_library_does_not_do_is_refused(workshop, images, onnx_cnn):
    with pytest.raises(CannotMeasure, match=r"activation_type=QuantType\.QInt8, weight_type=QuantType\.QUInt8"):
        workshop.apply("quantize_static", onnx_cnn, images, activation_type="int8", weight_type="uint8")


def test_ranges_come_from_the_first_calibration_samples_and_from_nothing_else(workshop, images, onnx_cnn):
    values = images.inputs["x"].copy()
    values[20:] *= 100
    loud = Dataset({"x": values}, None)
    few = workshop.apply("quantize_static", onnx_cnn, images, calibration=loud, calibration_samples=20)
    many = workshop.apply("quantize_static", onnx_cnn, images, calibration=loud, calibration_samples=40)
    assert scale_of_the_input(few) == pytest.approx((values[:20].max() - values[:20].min()) / 255, rel=1e-5)
    assert scale_of_the_input(many) == pytest.approx((values.max() - values.min()) / 255, rel=1e-5)


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
@pytest.mark.parametrize("samples", [7, 20, 1000])
def test_any_number_of_samples_will_do_for_every_method(workshop, images, onnx_cnn, method, samples):
    artifact = workshop.apply("quantize_static", onnx_cnn, images, method=method, calibration_samples=samples)
    values = images.inputs["x"][:samples]
    assert scale_of_the_input(artifact) == pytest.approx((values.max() - values.min()) / 255, rel=0.05)


def test_answers_are_near_the_float_graph_and_not_the_same_at_every_batch_size(shop, onnx_cnn, quantized, images):
    with shop.open("onnxruntime", onnx_cnn) as float_session, shop.open("onnxruntime", quantized) as int8_session:
        assert int8_session.facts.precision == "int8 (3 of 3 compute nodes)"
        for size in (1, 2, 7, 40):
            batch = images.batch(0, size)
            (expected,), (got,) = (one.outputs(one.run(one.prepare(batch))) for one in (float_session, int8_session))
            assert got.shape == (size, 10)
            assert 0 < np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_the_file_shrinks_towards_a_quarter(onnx_cnn, quantized):
    assert quantized.size_bytes < 0.4 * onnx_cnn.size_bytes


def test_several_inputs_are_calibrated_by_name(workshop, pairs):
    module = workshop.source("factory", pairs, target="nets.py:two_inputs")
    graph = workshop.apply("export_onnx", module, pairs)
    turned = Dataset({"right": pairs.inputs["right"] * 50, "left": pairs.inputs["left"]}, None)
    artifact = workshop.apply("quantize_static", graph, pairs, calibration=turned)
    model, values = onnx.load(artifact.path), initializers(artifact)
    scales = {node.input[0]: float(values[node.input[1]]) for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert scales["right"] > 20 * scales["left"]


def test_a_node_that_is_excluded_stays_in_float_and_is_named(workshop, images, onnx_cnn):
    first = next(node.name for node in onnx.load(onnx_cnn.path).graph.node if node.op_type == "Conv")
    artifact = workshop.apply("quantize_static", onnx_cnn, images, exclude=(first,))
    assert artifact.steps[-1].notes == (f"2 of 3 Conv, Gemm and MatMul nodes quantized; in float: {first}",)


def test_equal_graphs_and_samples_give_equal_files(workshop, images, onnx_cnn, quantized):
    assert workshop.apply("quantize_static", onnx_cnn, images).sha256 == quantized.sha256 != onnx_cnn.sha256


def test_operators_that_have_no_weights_leave_nothing_quantized_and_are_refused(workshop, images, onnx_cnn):
    with pytest.raises(CannotMeasure, match="'quantize_static' quantized nothing in this graph") as raised:
        workshop.apply("quantize_static", onnx_cnn, images, operators=("Relu",))
    assert "its operators are Conv, Gemm, Relu" in str(raised.value)


@pytest.mark.parametrize("second", ["quantize_static", "quantize_dynamic"])
def test_what_is_quantized_already_is_refused(workshop, images, quantized, second):
    with pytest.raises(CannotMeasure) as raised:
        workshop.apply(second, quantized, images)
    assert "3 of 3 Conv, Gemm and MatMul nodes were int8 before" in str(raised.value)


def test_calibration_samples_that_do_not_fit_the_graph_are_refused_with_the_reason(workshop, images, rows, onnx_cnn):
    with pytest.raises(CannotMeasure, match=r"ONNX Runtime cannot quantize this graph: .*[Rr]ank"):
        workshop.apply("quantize_static", onnx_cnn, images, calibration=rows)
